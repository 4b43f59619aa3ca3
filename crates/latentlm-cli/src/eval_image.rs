//! `eval-image`.

use anyhow::Result;
use latentlm_args::{EvalImage, run_path};
use latentlm_eval::{EvaluateOptions, evaluate_image};
use latentlm_pipelines::{ImageRecipe, RunFolder};

use crate::device::device;
use crate::sampling;

/// Prints the measurements, and where the report lies.
pub fn run(args: EvalImage) -> Result<()> {
    let device = device(&args.sampling.drawing.device)?;
    let path = run_path(&args.sampling.run);
    let (run, recipe) = RunFolder::<ImageRecipe>::open(&path)?;
    let options = EvaluateOptions {
        samples: args.samples as usize,
        seed: args.sampling.drawing.seed,
        sample: sampling::options(&args.sampling.drawing, recipe.sample_options())?,
    };
    let evaluation = evaluate_image(&path, &options, &device)?;
    println!("{}", serde_json::to_string_pretty(&evaluation)?);
    println!("report {}", run.file("report.html").display());
    Ok(())
}
