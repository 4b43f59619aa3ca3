//! `eval-image`.

use anyhow::Result;
use clap::Args;
use latentlm_train::{EvaluateOptions, RunFolder, evaluate_image};

use crate::device::device;
use crate::train_image::run_path;

/// Measures a trained model: reconstruction, class agreement, Frechet distance, copies, diversity
#[derive(Args)]
#[command(after_help = "Example:\n  cargo xtask eval-image --run mnist --samples 500 --seed 7")]
pub struct EvalImage {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    run: String,
    /// Pictures to generate
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    samples: u64,
    /// Classifier-free guidance; the recipe's by default
    #[arg(long, value_name = "SCALE")]
    guidance: Option<f64>,
    /// Solver steps a latent; the recipe's by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=999))]
    steps: Option<u64>,
    /// Seed of the pictures
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
}

impl EvalImage {
    pub fn run(self) -> Result<()> {
        let device = device(&self.device)?;
        let path = run_path(&self.run);
        let (run, recipe) = RunFolder::open(&path)?;
        let mut sample = recipe.sample_options();
        sample.guidance_scale = self.guidance.unwrap_or(sample.guidance_scale);
        sample.steps = self.steps.map_or(sample.steps, |steps| steps as usize);
        let options = EvaluateOptions {
            samples: self.samples as usize,
            seed: self.seed,
            sample,
        };
        let evaluation = evaluate_image(&path, &options, &device)?;
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
        println!("report {}", run.file("report.html").display());
        Ok(())
    }
}
