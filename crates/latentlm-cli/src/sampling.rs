//! Arguments that every command with samples has.

use clap::Args;
use latentlm::SampleOptions;

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
    /// Seed: the same seed draws the same
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

impl Drawing {
    /// The recipe's options with what was asked for.
    pub fn options(&self, recipe: SampleOptions) -> SampleOptions {
        SampleOptions {
            guidance_scale: self.guidance.unwrap_or(recipe.guidance_scale),
            steps: self.steps.map_or(recipe.steps, |steps| steps as usize),
            noise_temperature: self.noise_temperature.unwrap_or(recipe.noise_temperature),
            ..recipe
        }
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
