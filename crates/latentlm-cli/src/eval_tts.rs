//! `eval-tts`.

use anyhow::Result;
use latentlm_args::{EvalTts, run_path};
use latentlm_eval::{EvaluateSpeechOptions, Listener, evaluate_speech};
use latentlm_pipelines::{RunFolder, SpeechRecipe};

use crate::device::device;
use crate::{evaluation, notes, phase, sampling};

/// Prints the measurements as a table or JSON, and the path of the report.
pub fn run(args: EvalTts) -> Result<()> {
    let device = device(&args.drawing.device)?;
    let path = run_path(&args.run);
    let (run, recipe) = RunFolder::<SpeechRecipe>::open(&path)?;
    notes::show_of(&run)?;
    let listener = |line: &Option<String>| line.as_deref().map(Listener::parse).transpose();
    let options = EvaluateSpeechOptions {
        samples: args.samples as usize,
        seed: args.drawing.seed(),
        sample: sampling::options(&args.drawing, recipe.sample_options())?,
        recognizer: listener(&args.recognizer)?,
        open_recognizer: listener(&args.open_recognizer)?,
        speaker_judge: listener(&args.speaker_judge)?,
        pesq_judge: listener(&args.pesq_judge)?,
        phase: phase::begin,
    };
    phase::show();
    let measured = evaluate_speech(&path, &options, &device)?;
    phase::begin("");
    let files = [("report", run.file("report.html"))];
    let json = serde_json::to_string_pretty(&measured)?;
    evaluation::show(&json, args.json, &files);
    Ok(())
}
