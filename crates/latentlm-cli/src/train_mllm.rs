//! `train-mllm`.

use anyhow::Result;
use latentlm_args::TrainMllm;
use latentlm_train::train_mllm;

use crate::training;

/// Trains, and prints where samples and report lie.
pub fn run(args: TrainMllm) -> Result<()> {
    training::run(args.training, &args.run, train_mllm)
}
