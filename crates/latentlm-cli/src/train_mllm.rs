//! `train-mllm`.

use anyhow::Result;
use clap::Args;
use latentlm_train::train_mixed;

use crate::training::Training;

/// Trains a codec of pictures and one language model that draws, captions and writes
///
/// The default recipe is the emoji of configs/mllm/twemoji.toml.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-mllm\n  \
    cargo xtask train-mllm --run mine data.path=path/to/captioned text.data=story.txt\n  \
    cargo xtask train-mllm --run mine --resume")]
pub struct TrainMllm {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    run: String,
    #[command(flatten)]
    training: Training,
}

impl TrainMllm {
    pub fn run(self) -> Result<()> {
        self.training.run(&self.run, train_mixed)
    }
}
