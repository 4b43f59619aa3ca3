//! `eval-tts`.

use std::path::Path;

use anyhow::Result;
use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm_args::{EvalTts, Judges};
use latentlm_eval::{
    EvalError, EvaluateSpeechOptions, Listener, SpeechEvaluation, SpeechJudges, evaluate_speech,
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
    use latentlm_args::WeightNumbers;
    use latentlm_compare::{CompareTtsRecipe, evaluate_code_speech};

    anyhow::ensure!(
        matches!(args.weights, None | Some(WeightNumbers::F32)),
        "{}: the run of a rival, whose weights are float32; leave --weights out",
        args.run
    );
    let file = ("measurements", "evaluation.json");
    let options = |_: &CompareTtsRecipe| SampleOptions::default();
    measure::<CompareTtsRecipe>(args, options, evaluate_code_speech, file)
}

/// The commands that listen.
///
/// # Errors
/// If a command is empty or a quote in it is not closed.
pub fn judges(lines: &Judges) -> Result<SpeechJudges, EvalError> {
    let parsed = |line: &Option<String>| line.as_deref().map(Listener::parse).transpose();
    Ok(SpeechJudges {
        recognizer: parsed(&lines.recognizer)?,
        open_recognizer: parsed(&lines.open_recognizer)?,
        second_recognizer: parsed(&lines.second_recognizer)?,
        speaker: parsed(&lines.speaker_judge)?,
        pesq: parsed(&lines.pesq_judge)?,
        naturalness: parsed(&lines.naturalness_judge)?,
    })
}

/// Measures a run of a recipe `R`, and names a file of its folder.
fn measure<R: Recipe>(
    args: &EvalTts,
    recipe_options: fn(&R) -> SampleOptions,
    evaluate: Evaluate,
    file: (&str, &str),
) -> Result<()> {
    let (name, drawing) = (&args.run, &args.drawing);
    let evaluation = Evaluation::open(name, drawing, args.weights, args.samples, recipe_options)?;
    let options = EvaluateSpeechOptions {
        samples: evaluation.options.samples,
        seed: evaluation.options.seed,
        sample: evaluation.options.sample,
        judges: judges(&args.judges)?,
        hard_texts: args.hard_texts as usize,
        held_out_voices: args.held_out_voices.clone(),
        weights: evaluation.options.weights,
        phase: evaluation.options.phase,
    };
    let measured = evaluation.measure(|path, _, device| evaluate(path, &options, device))?;
    let json = serde_json::to_string_pretty(&measured)?;
    evaluation.print(&json, args.json, &[file]);
    Ok(())
}
