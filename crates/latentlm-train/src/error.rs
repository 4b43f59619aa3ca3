//! What can go wrong while training.

use std::path::PathBuf;

use burn::store::RecordError;
use latentlm::core::bundle::BundleError;
use latentlm::{ModelError, codec_audio, codec_image};
use latentlm_data::DataError;
use latentlm_eval::EvalError;
use latentlm_pipelines::{PipelineError, RecipeError};

/// An error of this crate. Each is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A run, its recipe, or what is made with it.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// What is measured as training goes.
    #[error(transparent)]
    Eval(#[from] EvalError),
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
    /// A loss that is no number.
    #[error("{stage}: the loss is not finite at step {step}; try a smaller {key}.learning_rate")]
    NotFinite {
        /// The stage.
        stage: &'static str,
        /// The table of the recipe that says how it is trained.
        key: String,
        /// The step.
        step: u64,
    },
}

impl TrainError {
    /// Whether the words of a user are wrong (a recipe, a prompt), as opposed to files or data.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Pipeline(error) => error.is_usage(),
            Self::Eval(error) => error.is_usage(),
            _ => false,
        }
    }

    /// A value of a recipe that can't be.
    pub fn config(reason: impl Into<String>) -> Self {
        Self::Pipeline(PipelineError::Config {
            reason: reason.into(),
        })
    }
}

/// What is wrong in a part of a recipe, or with data, is told as a pipeline tells it.
macro_rules! through_pipeline {
    ($($source:ty),+) => {
        $(impl From<$source> for TrainError {
            fn from(error: $source) -> Self {
                PipelineError::from(error).into()
            }
        })+
    };
}

through_pipeline!(
    codec_audio::CodecError,
    codec_image::CodecError,
    DataError,
    ModelError,
    RecipeError
);
