//! `train-image`.

use anyhow::Result;
use latentlm_args::TrainImage;
use latentlm_train::train_image;

use crate::training;

/// Trains, and prints the paths of samples and report.
pub fn run(args: TrainImage) -> Result<()> {
    training::run(args.training, &args.run, train_image)
}
