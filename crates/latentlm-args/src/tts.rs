//! Speech: `train-tts`, `speak`, `eval-tts`.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::{ArgsError, Drawing, Project, Training};

/// Trains a speech codec and a text-to-speech language model on its latents
///
/// The default recipe is the voice of configs/tts/voice.toml.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-tts\n  \
    cargo xtask train-tts --config configs/tts/ljspeech.toml --run lj data.path=LJSpeech-1.1\n  \
    cargo xtask train-tts --run voice --resume")]
pub struct TrainTts {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    pub run: String,
    /// How the recipe is trained.
    #[command(flatten)]
    pub training: Training,
}

/// Says a text in the voice of a trained model, sound by sound as it is made
///
/// With --each every text gets a file of its own, written when it is whole; several are spoken at once.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask speak --run voice --text \"three five nine\" --out hello.wav\n  \
    echo \"monday may third\" | cargo xtask speak --out - | aplay\n  \
    cargo xtask speak --file story.txt --voice me.wav --voice-text \"what I say in it\" --out story.wav\n  \
    cargo xtask speak --each --file lines.txt --out spoken")]
pub struct Speak {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    pub run: String,
    /// How latents are drawn.
    #[command(flatten)]
    pub drawing: Drawing,
    /// What to say, several times for several texts; standard input if neither this nor --file is given
    #[arg(long, conflicts_with = "file")]
    pub text: Vec<String>,
    /// File with what to say
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Recording of a voice to go on with
    #[arg(long, value_name = "FILE", requires = "voice_text")]
    pub voice: Option<PathBuf>,
    /// What is said in it
    #[arg(long, value_name = "TEXT", requires = "voice")]
    pub voice_text: Option<String>,
    /// Gives every line its own file: 001.wav, 002.wav and so on in the folder --out
    #[arg(long)]
    pub each: bool,
    /// WAV to write as it is made; `-` for standard output; with --each a folder
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

impl Speak {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        if let Some(file) = &self.file {
            project.find("read", file)?;
        }
        if self.each && self.out == Path::new("-") {
            return Err(ArgsError::EachToStream);
        }
        if !self.each && project.path(&self.out).is_dir() {
            return Err(ArgsError::Io {
                action: "write",
                path: self.out.clone(),
                source: io::ErrorKind::IsADirectory.into(),
            });
        }
        project.find_device_and_run(&self.drawing.device, &self.run, "train-tts")?;
        match &self.voice {
            Some(voice) => project.find("read", voice),
            None => Ok(()),
        }
    }
}

/// Measures a trained voice: codec, words understood, lengths, times
///
/// A listener is any command that takes WAV paths behind its arguments and prints a line for each:
/// path, tab, what it hears. {kind} in it becomes digits, letters, dates, numbers or recordings; double
/// quotes hold a path with spaces together.
///
/// `cargo xtask eval-tts` without listeners installs two recognizers below target/ and names them. It
/// also takes --voices, which installs resemblyzer and names it as --speaker-judge, --pesq, which installs
/// pesq and names it as --pesq-judge, and --python PYTHON, which has the packages already.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask eval-tts --run voice --samples 50 --seed 7\n  \
    cargo xtask eval-tts --run voice --voices --pesq\n  \
    cargo xtask eval-tts --recognizer \"python3 xtask/python/recognize.py --grammar {kind}\"")]
pub struct EvalTts {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    pub run: String,
    /// How latents are drawn.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Held-out texts of each kind
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub samples: u64,
    /// Command that recognizes composed utterances
    #[arg(long, value_name = "COMMAND")]
    pub recognizer: Option<String>,
    /// Command that recognizes recordings, whose vocabulary is open
    #[arg(long, value_name = "COMMAND")]
    pub open_recognizer: Option<String>,
    /// Command that prints how alike each file's voice is to the first's
    #[arg(long, value_name = "COMMAND")]
    pub speaker_judge: Option<String>,
    /// Command that takes pairs, a recording and what the codec made of it, and prints for the second of
    /// each how much it suffered
    #[arg(long, value_name = "COMMAND")]
    pub pesq_judge: Option<String>,
}
