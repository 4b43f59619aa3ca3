//! What can go wrong while measuring.

use latentlm::core::bundle::BundleError;
use latentlm::core::recipe::RecipeError;
use latentlm_data::DataError;
use latentlm_pipelines::PipelineError;

/// An error of this crate. Each is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum EvalError {
    /// A run or what is made with it.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file that can't be written or read.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A recipe that can't be shown.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A program that should listen to speech.
    #[error("listener `{command}`: {reason}")]
    Listener {
        /// The command.
        command: String,
        /// What went wrong.
        reason: String,
    },
}

impl EvalError {
    /// Whether the words of a user are wrong (a recipe, a prompt), as opposed to files or data.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Pipeline(error) => error.is_usage(),
            Self::Recipe(_) | Self::Data(DataError::Text { .. }) => true,
            _ => false,
        }
    }
}
