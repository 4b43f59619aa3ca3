//! `eval-image`.

use anyhow::Result;
use latentlm_args::{EvalImage, tell};
use latentlm_eval::{Judges, Listener, evaluate_image_by};
use latentlm_pipelines::ImageRecipe;

use crate::evaluation::Evaluation;

/// Prints the measurements as a table or JSON, and the path of the report.
pub fn run(args: EvalImage) -> Result<()> {
    let (name, drawing) = (&args.sampling.run, &args.sampling.drawing);
    let recipe_options = ImageRecipe::sample_options;
    let evaluation = Evaluation::open(name, drawing, args.weights, args.samples, recipe_options)?;
    let judge = args.judge.as_deref().map(Listener::parse).transpose()?;
    let judges = Judges {
        folder: None,
        command: judge.as_ref(),
    };
    let measured = evaluation
        .measure(|path, options, device| evaluate_image_by(path, options, &judges, device))?;
    let json = serde_json::to_string_pretty(&measured)?;
    evaluation.print(&json, args.json, &[("report", "report.html")]);
    if let Some(warning) = measured.warning() {
        tell!("{warning}");
    }
    Ok(())
}
