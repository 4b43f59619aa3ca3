//! `compare`.

use anyhow::Result;
use clap::{Args, Subcommand};
use latentlm_compare::{
    CompareSamplingOptions, compare_image, compare_mixed, compare_sampling, compare_sigma,
};

use crate::device::device;
use crate::training::{Training, run_path};

/// Compares LatentLM with its rivals, codecs with each other, ways of sampling
#[derive(Subcommand)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare image --run rivals\n  \
    cargo xtask compare mllm --run rivals-mllm\n  \
    cargo xtask compare sigma --run sigma noise_stds=[0.25,0.75]\n  \
    cargo xtask compare sampling --run mnist")]
pub enum Compare {
    Image(CompareImage),
    Mllm(CompareMixed),
    Sigma(CompareSigma),
    Sampling(CompareSampling),
}

/// Trains LatentLM, DiT, Transfusion and a vector-quantized model on the same latents or pictures, with
/// the same steps and number of parameters, and measures them on the way
///
/// The default recipe is that of the files in configs/compare; --config names a folder of such files, or
/// one file with all keys that differ.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare image\n  \
    cargo xtask compare image --run short image.lm_train.steps=400\n  \
    cargo xtask compare image --run short --resume")]
pub struct CompareImage {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "compare")]
    run: String,
    #[command(flatten)]
    training: Training,
}

/// Trains LatentLM, Transfusion and a vector-quantized model on the same documents of text and pictures,
/// with the same steps and number of parameters, and measures them on the way
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare mllm\n  \
    cargo xtask compare mllm --run short mixed.lm_train.steps=400\n  \
    cargo xtask compare mllm --run short --resume")]
pub struct CompareMixed {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "compare-mllm")]
    run: String,
    #[command(flatten)]
    training: Training,
}

/// Trains codec and language model for several scales of the sigma-VAE's noise and for a learned
/// variance, and measures each
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask compare sigma\n  \
    cargo xtask compare sigma --run few noise_stds=[0.25,0.75] image.lm_train.steps=600")]
pub struct CompareSigma {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "sigma")]
    run: String,
    #[command(flatten)]
    training: Training,
}

/// Measures a finished image run with several numbers of solver steps and scales of guidance
#[derive(Args)]
#[command(
    after_help = "Example:\n  cargo xtask compare sampling --run mnist --steps 5,10,20 --guidance 1,2,4"
)]
pub struct CompareSampling {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    run: String,
    /// Numbers of solver steps
    #[arg(long, value_delimiter = ',', default_values_t = [2usize, 3, 5, 10, 20, 50])]
    steps: Vec<usize>,
    /// Scales of the guidance
    #[arg(long, value_delimiter = ',', default_values_t = [1.0f64, 1.5, 2.0, 3.0, 4.0, 6.0])]
    guidance: Vec<f64>,
    /// Pictures of each measurement
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    samples: u64,
    /// Seed: the same seed draws the same
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl Compare {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Image(command) => command.training.run(&command.run, compare_image),
            Self::Mllm(command) => command.training.run(&command.run, compare_mixed),
            Self::Sigma(command) => command.training.run(&command.run, compare_sigma),
            Self::Sampling(command) => command.run(),
        }
    }
}

impl CompareSampling {
    fn run(self) -> Result<()> {
        let device = device(&self.device)?;
        let options = CompareSamplingOptions {
            steps: self.steps,
            guidance_scales: self.guidance,
            samples: self.samples as usize,
            seed: self.seed,
        };
        let table = compare_sampling(&run_path(&self.run), &options, &device)?;
        println!("{}", std::fs::read_to_string(&table)?);
        println!("report {}", table.display());
        Ok(())
    }
}
