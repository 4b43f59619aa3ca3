//! `train-video`.

use anyhow::Result;
use latentlm_args::TrainVideo;
use latentlm_train::train_video;

use crate::training;

/// Trains, and prints the paths of samples and report.
pub fn run(args: TrainVideo) -> Result<()> {
    training::run(args.training, &args.run, train_video)
}
