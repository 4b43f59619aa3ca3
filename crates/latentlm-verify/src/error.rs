//! Errors of the verification itself, in contrast to numbers that differ.

use std::io;
use std::path::PathBuf;

use latentlm_data::DataError;
use latentlm_published::PretrainedError;
use latentlm_vibevoice::VoiceError;

/// A case that can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file or folder can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A folder without reference cases.
    #[error("{path} is no reference case and holds none; the names of cases begin with {kinds}")]
    NoCase {
        /// The folder.
        path: PathBuf,
        /// All kinds of cases, separated by commas.
        kinds: String,
    },
    /// A file of a case with invalid content.
    #[error("{path}: {reason}")]
    Case {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A tokenizer or recordings that can't be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Weights that can't be loaded.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// A saved voice that can't be read or does not fit.
    #[error(transparent)]
    Voice(#[from] VoiceError),
}
