//! Files that were left out.

use std::path::{Path, PathBuf};

use crate::error::DataError;

/// A file that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// The reason.
    pub reason: String,
}

impl Skipped {
    /// A file that can't be used, with the error as the reason.
    pub fn of(path: &Path, error: &DataError) -> Self {
        let reason = match error {
            // The list shows the path itself.
            DataError::Malformed { reason, .. } => reason.clone(),
            error => error.to_string(),
        };
        let path = path.to_owned();
        Self { path, reason }
    }
}
