//! `eval-mllm`.

use anyhow::Result;
use clap::Args;
use latentlm_eval::{EvaluateMixedOptions, evaluate_mixed};
use latentlm_pipelines::{MixedRecipe, RunFolder};

use crate::device::device;
use crate::sampling::Drawing;
use crate::training::run_path;

/// Measures a model of text and pictures: captions, drawn pictures, perplexity
#[derive(Args)]
#[command(after_help = "Example:\n  cargo xtask eval-mllm --run emoji --samples 199")]
pub struct EvalMllm {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    run: String,
    #[command(flatten)]
    drawing: Drawing,
    /// Pictures captioned and drawn, of the training split and of the held-out one
    #[arg(long, default_value_t = 199, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    samples: u64,
}

impl EvalMllm {
    pub fn run(self) -> Result<()> {
        let device = device(&self.drawing.device)?;
        let path = run_path(&self.run);
        let (run, recipe) = RunFolder::<MixedRecipe>::open(&path)?;
        let options = EvaluateMixedOptions {
            samples: self.samples as usize,
            seed: self.drawing.seed,
            sample: self.drawing.options(recipe.sample_options())?,
        };
        let evaluation = evaluate_mixed(&path, &options, &device)?;
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
        println!("captions {}", run.file("captions.tsv").display());
        println!("report {}", run.file("report.html").display());
        Ok(())
    }
}
