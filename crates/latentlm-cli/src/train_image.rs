//! `train-image`.

use anyhow::Result;
use latentlm_args::TrainImage;
use latentlm_train::train_image;

use crate::training;

/// Trains, and prints where samples and report lie.
pub fn run(args: TrainImage) -> Result<()> {
    training::run(args.training, &args.run, train_image)
}
