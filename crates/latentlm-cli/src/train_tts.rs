//! `train-tts`.

use anyhow::Result;
use latentlm_args::TrainTts;
use latentlm_train::train_speech;

use crate::training;

/// Trains, and prints where samples and report lie.
pub fn run(args: TrainTts) -> Result<()> {
    training::run(args.training, &args.run, train_speech)
}
