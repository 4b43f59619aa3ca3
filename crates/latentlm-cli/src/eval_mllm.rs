//! `eval-mllm`.

use anyhow::Result;
use latentlm_args::{EvalMllm, run_path};
use latentlm_eval::{EvaluateOptions, evaluate_mllm};
use latentlm_pipelines::{MllmRecipe, RunFolder};

use crate::device::device;
use crate::{evaluation, notes, phase, sampling};

/// Prints the measurements as a table or JSON, and the paths of the captions and the report.
pub fn run(args: EvalMllm) -> Result<()> {
    let device = device(&args.drawing.device)?;
    let path = run_path(&args.run);
    let (run, recipe) = RunFolder::<MllmRecipe>::open(&path)?;
    notes::show_of(&run)?;
    let options = EvaluateOptions {
        samples: args.samples as usize,
        seed: args.drawing.seed(),
        sample: sampling::options(&args.drawing, recipe.sample_options())?,
        phase: phase::begin,
    };
    phase::show();
    let measured = evaluate_mllm(&path, &options, &device)?;
    phase::begin("");
    let files = [
        ("captions", run.file("captions.tsv")),
        ("report", run.file("report.html")),
    ];
    let json = serde_json::to_string_pretty(&measured)?;
    evaluation::show(&json, args.json, &files);
    Ok(())
}
