//! What can go wrong while training.

use std::path::PathBuf;

use burn::store::RecordError;
use latentlm::core::bundle::BundleError;
use latentlm_data::DataError;
use latentlm_eval::EvalError;
use latentlm_pipelines::PipelineError;

/// What this crate's functions give.
pub type Result<T, E = TrainError> = std::result::Result<T, E>;

/// An error of this crate. Each is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A run, its recipe, its checkpoints, or data.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A measurement as training goes.
    #[error(transparent)]
    Eval(#[from] EvalError),
    /// An optimizer's state that can't be written or read.
    #[error("optimizer state {path}: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RecordError,
    },
    /// A stop while latents were encoded. Nothing of them is kept: a run that goes on encodes them again.
    #[error("stopped while latents were encoded")]
    Stopped,
    /// Too many steps whose gradients are not finite.
    #[error(
        "{stage}: {skipped} of the last {steps} steps up to step {step} changed nothing, because their \
         gradients are not finite; try a smaller {key}.learning_rate, in a new run"
    )]
    LearnsNothing {
        /// The stage.
        stage: &'static str,
        /// The table of the recipe that says how it is trained.
        key: String,
        /// The step.
        step: u64,
        /// Steps that changed nothing, of the last ones.
        skipped: usize,
        /// How many were looked at.
        steps: usize,
    },
    /// A loss or weights that are not finite.
    #[error("{stage}: {what} not finite at step {step}; try a smaller {key}.learning_rate")]
    NotFinite {
        /// `the loss is` or `weights are`.
        what: &'static str,
        /// The stage.
        stage: &'static str,
        /// The table of the recipe that says how it is trained.
        key: String,
        /// The step.
        step: u64,
    },
}

impl TrainError {
    /// Whether weights that are not finite were to be saved.
    pub(crate) fn is_of_weights(&self) -> bool {
        let Self::Pipeline(PipelineError::Bundle(error)) = self else {
            return false;
        };
        matches!(error, BundleError::NotFinite { .. })
    }

    /// Whether samples could not be drawn because their latents are not finite.
    pub(crate) fn is_of_samples(&self) -> bool {
        matches!(self, Self::Pipeline(PipelineError::NotFiniteLatents))
    }

    /// Whether what a user wrote is wrong (a recipe, a prompt), as opposed to files or data.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Pipeline(error) => error.is_usage(),
            Self::Eval(error) => error.is_usage(),
            _ => false,
        }
    }

    /// A value of a recipe that is not possible.
    pub fn config(reason: impl Into<String>) -> Self {
        Self::Pipeline(PipelineError::config(reason))
    }
}

impl From<BundleError> for TrainError {
    fn from(error: BundleError) -> Self {
        PipelineError::from(error).into()
    }
}

impl From<DataError> for TrainError {
    fn from(error: DataError) -> Self {
        PipelineError::from(error).into()
    }
}
