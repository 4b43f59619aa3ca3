//! `eval-tts`.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm_args::EvalTts;
use latentlm_eval::{
    EvalError, EvaluateSpeechOptions, Listener, SpeechEvaluation, evaluate_speech,
};
use latentlm_pipelines::{Recipe, SpeechRecipe};

use crate::evaluation::Evaluation;

/// Measures a run.
type Evaluate = fn(&Path, &EvaluateSpeechOptions, &Device) -> Result<SpeechEvaluation, EvalError>;

/// Prints the measurements as a table or JSON, and the path of the report.
pub fn run(args: EvalTts) -> Result<()> {
    #[cfg(feature = "compare")]
    if crate::speak_codes::is_rival(&latentlm_args::run_path(&args.run)) {
        return rival(&args);
    }
    let file = ("report", "report.html");
    measure::<SpeechRecipe>(&args, SpeechRecipe::sample_options, evaluate_speech, file)
}

/// Measures the run of a rival, whose codes are drawn as its recipe says.
#[cfg(feature = "compare")]
fn rival(args: &EvalTts) -> Result<()> {
    use latentlm_compare::{CompareTtsRecipe, evaluate_code_speech};

    let file = ("measurements", "evaluation.json");
    let options = |_: &CompareTtsRecipe| SampleOptions::default();
    measure::<CompareTtsRecipe>(args, options, evaluate_code_speech, file)
}

/// Measures a run of a recipe `R`, and names a file of its folder.
fn measure<R: Recipe>(
    args: &EvalTts,
    recipe_options: fn(&R) -> SampleOptions,
    evaluate: Evaluate,
    file: (&str, &str),
) -> Result<()> {
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
    let measured = evaluation.measure(|path, _, device| evaluate(path, &options, device))?;
    let json = serde_json::to_string_pretty(&measured)?;
    evaluation.print(&json, args.json, &[file]);
    Ok(())
}
