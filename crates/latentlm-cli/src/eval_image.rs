//! `eval-image`.

use anyhow::Result;
use latentlm_args::{EvalImage, run_path};
use latentlm_eval::{EvaluateOptions, evaluate_image};
use latentlm_pipelines::{ImageRecipe, RunFolder};

use crate::device::device;
use crate::{evaluation, sampling};

/// Prints the measurements as JSON, and the path of the report.
pub fn run(args: EvalImage) -> Result<()> {
    let device = device(&args.sampling.drawing.device)?;
    let path = run_path(&args.sampling.run);
    let (run, recipe) = RunFolder::<ImageRecipe>::open(&path)?;
    let options = EvaluateOptions {
        samples: args.samples as usize,
        seed: args.sampling.drawing.seed,
        sample: sampling::options(&args.sampling.drawing, recipe.sample_options())?,
    };
    let measured = evaluate_image(&path, &options, &device)?;
    let files = [("report", run.file("report.html"))];
    let json = serde_json::to_string_pretty(&measured)?;
    evaluation::show(&json, args.json, &files);
    if let Some(warning) = measured.warning() {
        eprintln!("{warning}");
    }
    Ok(())
}
