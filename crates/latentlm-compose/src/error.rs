//! Errors of composed datasets are those of `latentlm-data`.

use std::io;
use std::path::Path;

use latentlm_data::DataError;

/// A file or folder with invalid content.
pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Malformed {
        path: path.to_owned(),
        reason: reason.into(),
    }
}

/// Turns an I/O error into a [`DataError`] with action and path.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io {
        action,
        path,
        source,
    }
}
