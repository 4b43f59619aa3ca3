//! `train-image`.

use anyhow::Result;
use clap::Args;
use latentlm_train::train_image;

use crate::training::Training;

/// Trains an image codec and a class-conditional language model on its latents
///
/// The default recipe is the digits of configs/image/mnist.toml.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-image\n  \
    cargo xtask train-image --config configs/image/twemoji.toml --run emoji\n  \
    cargo xtask train-image --run small lm.width=96 lm_train.steps=500\n  \
    cargo xtask train-image --run small --resume")]
pub struct TrainImage {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    run: String,
    #[command(flatten)]
    training: Training,
}

impl TrainImage {
    pub fn run(self) -> Result<()> {
        self.training.run(&self.run, train_image)
    }
}
