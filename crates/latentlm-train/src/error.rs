//! What can go wrong while training, sampling or measuring.

use std::path::PathBuf;

use burn::store::RecordError;
use latentlm::ModelError;
use latentlm::codec_image::CodecError;
use latentlm::core::bundle::BundleError;
use latentlm::core::recipe::RecipeError;
use latentlm_baselines::BaselineError;
use latentlm_data::DataError;

/// An error of this crate. Each is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A recipe that can't be read or is wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A value of a recipe that can't be.
    #[error("recipe: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
    /// The codec's part of a recipe.
    #[error("recipe: {0}")]
    Codec(#[from] CodecError),
    /// The model's part of a recipe.
    #[error("recipe: {0}")]
    Model(#[from] ModelError),
    /// A rival's part of a recipe.
    #[error("recipe: {0}")]
    Baseline(#[from] BaselineError),
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Files of a checkpoint.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// An optimizer's state that can't be written or read.
    #[error("optimizer state {path}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RecordError,
    },
    /// A program that should listen to speech.
    #[error("listener `{command}`: {reason}")]
    Listener {
        /// The command.
        command: String,
        /// What went wrong.
        reason: String,
    },
    /// A recording that no voice can be taken from.
    #[error("voice: {reason}")]
    Voice {
        /// What is wrong, and what would fit.
        reason: String,
    },
    /// A text with its voice that is longer than anything the model was trained on.
    #[error(
        "text and voice take {positions} positions, more than the {limit} that the model was trained \
         on (data.pack_positions): shorten them"
    )]
    Prompt {
        /// Positions asked for.
        positions: usize,
        /// Positions there may be.
        limit: usize,
    },
    /// Something asked of a model of text and pictures that it can't do.
    #[error("prompt: {reason}")]
    Request {
        /// What is wrong, and what would fit.
        reason: String,
    },
    /// A run folder that is not what the command needs.
    #[error("run {path}: {reason}")]
    Run {
        /// The run's folder.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A loss that is no number.
    #[error(
        "{stage}: the loss is not finite at step {step}; try a smaller {stage}_train.learning_rate"
    )]
    NotFinite {
        /// The stage.
        stage: &'static str,
        /// The step.
        step: u64,
    },
    /// A picture that can't be encoded.
    #[error("cannot encode a picture: {0}")]
    Encode(#[from] image::ImageError),
}
