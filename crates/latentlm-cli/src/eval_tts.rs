//! `eval-tts`.

use anyhow::Result;
use latentlm_args::EvalTts;
use latentlm_eval::{EvaluateSpeechOptions, Listener, evaluate_speech};
use latentlm_pipelines::SpeechRecipe;

use crate::evaluation::Evaluation;

/// Prints the measurements as a table or JSON, and the path of the report.
pub fn run(args: EvalTts) -> Result<()> {
    let recipe_options = SpeechRecipe::sample_options;
    let evaluation = Evaluation::open(&args.run, &args.drawing, args.samples, recipe_options)?;
    let listener = |line: &Option<String>| line.as_deref().map(Listener::parse).transpose();
    let options = EvaluateSpeechOptions {
        samples: evaluation.options.samples,
        seed: evaluation.options.seed,
        sample: evaluation.options.sample,
        recognizer: listener(&args.recognizer)?,
        open_recognizer: listener(&args.open_recognizer)?,
        speaker_judge: listener(&args.speaker_judge)?,
        pesq_judge: listener(&args.pesq_judge)?,
        phase: evaluation.options.phase,
    };
    let measured = evaluation.measure(|path, _, device| evaluate_speech(path, &options, device))?;
    let json = serde_json::to_string_pretty(&measured)?;
    evaluation.print(&json, args.json, &[("report", "report.html")]);
    Ok(())
}
