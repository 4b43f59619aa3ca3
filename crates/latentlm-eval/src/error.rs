//! Errors of this crate.

use latentlm::core::bundle::BundleError;
use latentlm_data::DataError;
use latentlm_pipelines::{PipelineError, RecipeError};

/// A result with an error of this crate.
pub type Result<T, E = EvalError> = std::result::Result<T, E>;

/// An error of this crate. Its message is one line that says what failed, where, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A run that can't be loaded or used.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Data that can't be used.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file that can't be written or read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A recipe that can't be shown.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A program that judges speech or pictures failed: its command, and what went wrong.
    #[error("listener `{0}`: {1}")]
    Listener(String, String),
}

impl EvalError {
    /// Whether the error is in the user's input (a recipe, a prompt), not in files or data.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Pipeline(error) => error.is_usage(),
            Self::Recipe(_) | Self::Data(DataError::Text { .. }) => true,
            _ => false,
        }
    }
}
