//! What can go wrong while training.

use std::path::PathBuf;

use burn::store::RecordError;
use latentlm::core::bundle::BundleError;
use latentlm_data::DataError;
use latentlm_eval::EvalError;
use latentlm_pipelines::{PipelineError, Recipe, keys_within};

/// What this crate's functions give.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// An error of this crate. Each is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A run, its recipe or its checkpoints.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Files of a checkpoint.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A measurement as training goes.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// An optimizer's state that can't be written or read.
    #[error("optimizer state {0}: {1}")]
    Record(PathBuf, #[source] RecordError),
    /// A stop while data were opened, latents encoded, or a finished model measured. A resumed run does so again.
    #[error("stopped before the next step")]
    Stopped,
    /// An error of a run within another one, with the names that keys have there.
    #[error("{message}")]
    Within {
        /// What is wrong.
        message: String,
        /// Whether it is what a user wrote.
        is_usage: bool,
    },
    /// A loss, weights or too many gradients that are not finite: where, and what to do.
    #[error("{0}")]
    NotFinite(String),
}

impl TrainError {
    /// Whether what a user wrote is wrong (a recipe, a prompt), as opposed to files or data.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Pipeline(error) => error.is_usage(),
            Self::Eval(error) => error.is_usage(),
            Self::Data(DataError::Text { .. }) => true,
            Self::Within { is_usage, .. } => *is_usage,
            _ => false,
        }
    }

    /// Whether a stop ended the work.
    pub fn is_stop(&self) -> bool {
        let of_pipeline =
            |error: &PipelineError| matches!(error, PipelineError::Data(DataError::Stopped));
        match self {
            Self::Stopped
            | Self::Data(DataError::Stopped)
            | Self::Eval(EvalError::Data(DataError::Stopped)) => true,
            Self::Pipeline(error) | Self::Eval(EvalError::Pipeline(error)) => of_pipeline(error),
            _ => false,
        }
    }

    /// This error with keys as they are called in the whole recipe, if a run has a table of it ([`keys_within`]).
    pub fn within<R: Recipe>(self, table: &str) -> Self {
        let told = self.to_string();
        let message = keys_within::<R>(&told, table);
        if message == told {
            return self;
        }
        let is_usage = self.is_usage();
        Self::Within { message, is_usage }
    }

    /// A value of a recipe that is not possible.
    pub fn config(reason: impl Into<String>) -> Self {
        Self::Pipeline(PipelineError::config(reason))
    }
}
