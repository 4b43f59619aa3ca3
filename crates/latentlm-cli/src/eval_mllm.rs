//! `eval-mllm`.

use anyhow::Result;
use latentlm_args::EvalMllm;
use latentlm_eval::evaluate_mllm;
use latentlm_pipelines::MllmRecipe;

use crate::evaluation::Evaluation;

/// Prints the measurements as a table or JSON, and the paths of the captions and the report.
pub fn run(args: EvalMllm) -> Result<()> {
    let (name, drawing) = (&args.run, &args.drawing);
    let recipe_options = MllmRecipe::sample_options;
    let evaluation = Evaluation::open(name, drawing, args.weights, args.samples, recipe_options)?;
    let measured = evaluation.measure(evaluate_mllm)?;
    let json = serde_json::to_string_pretty(&measured)?;
    let files = [("captions", "captions.tsv"), ("report", "report.html")];
    evaluation.print(&json, args.json, &files);
    Ok(())
}
