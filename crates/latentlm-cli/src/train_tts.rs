//! `train-tts`.

use anyhow::Result;
use latentlm_args::TrainTts;
use latentlm_train::train_speech;

use crate::training;

/// Trains, and prints the paths of samples and report.
pub fn run(args: TrainTts) -> Result<()> {
    training::run(args.training, &args.run, train_speech)
}
