//! `eval-image`.

use anyhow::Result;
use clap::Args;
use latentlm_eval::{EvaluateOptions, evaluate_image};
use latentlm_pipelines::{ImageRecipe, RunFolder};

use crate::device::device;
use crate::sampling::Sampling;
use crate::training::run_path;

/// Measures a trained model: reconstruction, class agreement, Frechet distance, copies, diversity
#[derive(Args)]
#[command(after_help = "Example:\n  cargo xtask eval-image --run mnist --samples 500 --seed 7")]
pub struct EvalImage {
    #[command(flatten)]
    sampling: Sampling,
    /// Pictures to generate
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    samples: u64,
}

impl EvalImage {
    pub fn run(self) -> Result<()> {
        let device = device(&self.sampling.drawing.device)?;
        let path = run_path(&self.sampling.run);
        let (run, recipe) = RunFolder::<ImageRecipe>::open(&path)?;
        let options = EvaluateOptions {
            samples: self.samples as usize,
            seed: self.sampling.drawing.seed,
            sample: self.sampling.drawing.options(recipe.sample_options())?,
        };
        let evaluation = evaluate_image(&path, &options, &device)?;
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
        println!("report {}", run.file("report.html").display());
        Ok(())
    }
}
