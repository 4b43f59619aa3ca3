//! Arguments that every command with samples has.

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use latentlm::SampleOptions;
use latentlm::core::{Precision, Sampler};
use latentlm_kernels::has_bf16_head;

/// Numbers of the diffusion head's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum HeadNumbers {
    F32,
    Bf16,
}

/// How latents are drawn.
#[derive(Args)]
pub struct Drawing {
    /// Classifier-free guidance; the recipe's by default
    #[arg(long, value_name = "SCALE")]
    guidance: Option<f64>,
    /// Solver steps a latent; the recipe's by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=999))]
    steps: Option<u64>,
    /// Factor of the noise that latents begin as; the recipe's by default
    #[arg(long, value_name = "FACTOR")]
    noise_temperature: Option<f64>,
    /// Numbers of the diffusion head's products; bf16 is faster on a CPU with AVX-512 BF16
    #[arg(long, value_enum, default_value = "f32")]
    precision: HeadNumbers,
    /// Seed: the same seed draws the same
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

impl Drawing {
    /// The recipe's options with what was asked for.
    ///
    /// # Errors
    /// If the device has no products of such numbers.
    pub fn options(&self, recipe: SampleOptions) -> Result<SampleOptions> {
        let precision = match self.precision {
            HeadNumbers::F32 => Precision::F32,
            HeadNumbers::Bf16 => Precision::Bf16,
        };
        ensure!(
            precision == Precision::F32 || (self.device == "cpu" && has_bf16_head()),
            "--precision bf16 wants a CPU with AVX-512 BF16, which {} is not; leave it out",
            match self.device.as_str() {
                "cpu" => "this one",
                other => other,
            }
        );
        ensure!(
            precision == Precision::F32 || recipe.sampler != Sampler::Ddpm,
            "--precision bf16 has no loop for the recipe's sampler, `ddpm`; leave it out"
        );
        Ok(SampleOptions {
            guidance_scale: self.guidance.unwrap_or(recipe.guidance_scale),
            steps: self.steps.map_or(recipe.steps, |steps| steps as usize),
            noise_temperature: self.noise_temperature.unwrap_or(recipe.noise_temperature),
            precision,
            ..recipe
        })
    }
}

/// How pictures are drawn.
#[derive(Args)]
pub struct Sampling {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    pub run: String,
    #[command(flatten)]
    pub drawing: Drawing,
}
