//! `eval-image`.

use anyhow::Result;
use latentlm_args::{EvalImage, run_path, tell};
use latentlm_eval::{EvaluateOptions, evaluate_image};
use latentlm_pipelines::{ImageRecipe, RunFolder};

use crate::device::device;
use crate::{evaluation, notes, phase, sampling};

/// Prints the measurements as a table or JSON, and the path of the report.
pub fn run(args: EvalImage) -> Result<()> {
    let device = device(&args.sampling.drawing.device)?;
    let path = run_path(&args.sampling.run);
    let (run, recipe) = RunFolder::<ImageRecipe>::open(&path)?;
    notes::show_of(&run)?;
    let options = EvaluateOptions {
        samples: args.samples as usize,
        seed: args.sampling.drawing.seed(),
        sample: sampling::options(&args.sampling.drawing, recipe.sample_options())?,
        phase: phase::begin,
    };
    phase::show();
    let measured = evaluate_image(&path, &options, &device)?;
    phase::begin("");
    let files = [("report", run.file("report.html"))];
    let json = serde_json::to_string_pretty(&measured)?;
    evaluation::show(&json, args.json, &files);
    if let Some(warning) = measured.warning() {
        tell!("{warning}");
    }
    Ok(())
}
