//! What can go wrong before anything is compared.

use std::io;
use std::path::PathBuf;

use latentlm::pretrained::PretrainedError;

/// A case that can't be compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file or folder can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No case there.
    #[error("{path} is no reference case and holds none; the names of cases begin with {kinds}")]
    NoCase {
        /// The folder.
        path: PathBuf,
        /// Kinds of cases.
        kinds: String,
    },
    /// A file of a case that is not as it should be.
    #[error("{path}: {reason}")]
    Case {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Weights that do not load.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
}
