//! `eval-mllm`.

use anyhow::Result;
use latentlm_args::{EvalMllm, run_path};
use latentlm_eval::{EvaluateMllmOptions, evaluate_mllm};
use latentlm_pipelines::{MllmRecipe, RunFolder};

use crate::device::device;
use crate::sampling;

/// Prints the measurements, and where captions and report lie.
pub fn run(args: EvalMllm) -> Result<()> {
    let device = device(&args.drawing.device)?;
    let path = run_path(&args.run);
    let (run, recipe) = RunFolder::<MllmRecipe>::open(&path)?;
    let options = EvaluateMllmOptions {
        samples: args.samples as usize,
        seed: args.drawing.seed,
        sample: sampling::options(&args.drawing, recipe.sample_options())?,
    };
    let evaluation = evaluate_mllm(&path, &options, &device)?;
    println!("{}", serde_json::to_string_pretty(&evaluation)?);
    println!("captions {}", run.file("captions.tsv").display());
    println!("report {}", run.file("report.html").display());
    Ok(())
}
