//! `train-tts`.

use anyhow::Result;
use clap::Args;
use latentlm_train::train_speech;

use crate::training::Training;

/// Trains a speech codec and a text-to-speech language model on its latents
///
/// The default recipe is the voice of configs/tts/voice.toml.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-tts\n  \
    cargo xtask train-tts --config configs/tts/ljspeech.toml --run lj data.path=LJSpeech-1.1\n  \
    cargo xtask train-tts --run voice --resume")]
pub struct TrainTts {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "voice")]
    run: String,
    #[command(flatten)]
    training: Training,
}

impl TrainTts {
    pub fn run(self) -> Result<()> {
        self.training.run(&self.run, train_speech)
    }
}
