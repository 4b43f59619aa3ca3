//! `train-mllm`.

use anyhow::Result;
use latentlm_args::TrainMllm;
use latentlm_train::train_mllm;

use crate::training;

/// Trains, and prints the paths of samples and report.
pub fn run(args: TrainMllm) -> Result<()> {
    training::run(args.training, &args.run, train_mllm)
}
