//! `eval-tts`.

use anyhow::Result;
use clap::Args;
use latentlm_eval::{EvaluateSpeechOptions, Listener, evaluate_speech};
use latentlm_pipelines::{RunFolder, SpeechRecipe};

use crate::device::device;
use crate::sampling::Drawing;
use crate::training::run_path;

/// Measures a trained voice: codec, words understood, lengths, times
///
/// A listener is any command that takes WAV paths behind its arguments and prints a line for each:
/// path, tab, what it hears. {kind} in it becomes digits, letters, dates, numbers or recordings; double
/// quotes hold a path with spaces together.
///
/// `cargo xtask eval-tts` without listeners installs two recognizers below target/ and names them. It
/// also takes --voices, which installs resemblyzer and names it as --speaker-judge, --pesq, which installs
/// pesq and names it as --pesq-judge, and --python PYTHON, which has the packages already.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask eval-tts --run voice --samples 50 --seed 7\n  \
    cargo xtask eval-tts --run voice --voices --pesq\n  \
    cargo xtask eval-tts --recognizer \"python3 xtask/python/recognize.py --grammar {kind}\"")]
pub struct EvalTts {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    run: String,
    #[command(flatten)]
    drawing: Drawing,
    /// Held-out texts of each kind
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    samples: u64,
    /// Command that recognizes composed utterances
    #[arg(long, value_name = "COMMAND")]
    recognizer: Option<String>,
    /// Command that recognizes recordings, whose vocabulary is open
    #[arg(long, value_name = "COMMAND")]
    open_recognizer: Option<String>,
    /// Command that prints how alike each file's voice is to the first's
    #[arg(long, value_name = "COMMAND")]
    speaker_judge: Option<String>,
    /// Command that takes pairs, a recording and what the codec made of it, and prints for the second of
    /// each how much it suffered
    #[arg(long, value_name = "COMMAND")]
    pesq_judge: Option<String>,
}

impl EvalTts {
    pub fn run(self) -> Result<()> {
        let device = device(&self.drawing.device)?;
        let path = run_path(&self.run);
        let (run, recipe) = RunFolder::<SpeechRecipe>::open(&path)?;
        let listener = |line: &Option<String>| line.as_deref().map(Listener::parse).transpose();
        let options = EvaluateSpeechOptions {
            samples: self.samples as usize,
            seed: self.drawing.seed,
            sample: self.drawing.options(recipe.sample_options())?,
            recognizer: listener(&self.recognizer)?,
            open_recognizer: listener(&self.open_recognizer)?,
            speaker_judge: listener(&self.speaker_judge)?,
            pesq_judge: listener(&self.pesq_judge)?,
        };
        let evaluation = evaluate_speech(&path, &options, &device)?;
        println!("{}", serde_json::to_string_pretty(&evaluation)?);
        println!("report {}", run.file("report.html").display());
        Ok(())
    }
}
