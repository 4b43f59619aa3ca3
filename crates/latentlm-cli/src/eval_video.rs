//! `eval-video`.

use anyhow::Result;
use latentlm_args::{EvalVideo, tell};
use latentlm_eval::evaluate_video;
use latentlm_pipelines::VideoRecipe;

use crate::evaluation::Evaluation;

/// Prints the measurements as a table or JSON, and the paths of the captions and the report.
pub fn run(args: EvalVideo) -> Result<()> {
    let (name, drawing) = (&args.run, &args.drawing);
    let recipe_options = VideoRecipe::sample_options;
    let evaluation = Evaluation::open(name, drawing, args.weights, args.samples, recipe_options)?;
    let measured = evaluation.measure(evaluate_video)?;
    let json = serde_json::to_string_pretty(&measured)?;
    let files = [("captions", "captions.tsv"), ("report", "report.html")];
    evaluation.print(&json, args.json, &files);
    if let Some(warning) = measured.warning() {
        tell!("{warning}");
    }
    Ok(())
}
