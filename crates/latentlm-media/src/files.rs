//! Opens files that are safe to read, and writes files atomically.

use std::io::Write;
use std::path::Path;

use latentlm_core::disk;
pub use latentlm_core::disk::open_regular;
use tempfile::NamedTempFile;

use crate::error::{MediaError, io_error};

/// A temporary file in the folder of `path`, to be renamed to `path`.
pub(crate) fn temporary_beside(path: &Path) -> Result<NamedTempFile, MediaError> {
    let folder = disk::folder_of(path);
    disk::temporary_file(folder).map_err(io_error("write in", folder))
}

/// Writes a file atomically: to a temporary file that is synced and renamed. A pipe or device is written into.
///
/// # Errors
/// If the file can't be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), MediaError> {
    if disk::is_stream(path) {
        return disk::replace_file(path, bytes).map_err(io_error("write", path));
    }
    let mut file = temporary_beside(path)?;
    file.write_all(bytes)
        .and_then(|()| disk::persist(file, path))
        .map_err(io_error("write", path))
}
