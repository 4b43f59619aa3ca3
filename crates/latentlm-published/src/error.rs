//! What can go wrong with a published checkpoint.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use burn::store::SafetensorsStoreError;
use latentlm_core::bundle::BundleError;
use latentlm_vibevoice::{VibeVoiceError, VoiceError};

/// What can go wrong with a published checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    /// Weights that can't be read, written, or do not fit.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A JSON file that is none, or lacks something.
    #[error("{path}: {reason}")]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A configuration of an architecture that this crate does not have.
    #[error("{path}: {reason}")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        reason: String,
    },
    /// A file of weights that is missing, cut or only a pointer to one.
    #[error("{path} {reason}")]
    Incomplete {
        /// The file.
        path: PathBuf,
        /// What is wrong, with bytes there and wanted.
        reason: String,
    },
    /// A tensor that can't be read, or has numbers that are not finite.
    #[error("{path}: {reason}")]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the tensor's name.
        reason: String,
    },
    /// A model without its vocabulary.
    #[error("{path} is missing: fetch the tokenizer.json of {model} and put it there")]
    NoTokenizer {
        /// Where the vocabulary was looked for.
        path: PathBuf,
        /// The model whose vocabulary it is.
        model: String,
    },
    /// Sizes that do not fit each other.
    #[error(transparent)]
    Model(#[from] VibeVoiceError),
    /// A saved voice that can't be read.
    #[error(transparent)]
    Voice(#[from] VoiceError),
}

/// What is wrong with a JSON file.
pub(crate) fn json_error(path: &Path, reason: impl Display) -> PretrainedError {
    PretrainedError::Json {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// The error for a header of weights that would take too much memory.
pub(crate) fn too_large(reason: impl Display) -> SafetensorsStoreError {
    SafetensorsStoreError::ValidationFailed(format!("its header {reason}"))
}

/// A file of weights that can't be read or written.
pub(crate) fn damaged(path: &Path, source: SafetensorsStoreError) -> PretrainedError {
    PretrainedError::Bundle(BundleError::Damaged {
        path: path.to_owned(),
        source,
    })
}
