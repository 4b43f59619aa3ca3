//! Opens files that are safe to read, and writes files atomically.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use latentlm_core::disk;
use tempfile::NamedTempFile;

use crate::error::{MediaError, io_error};

/// Opens a regular file for reading. Anything else is an error: opening a pipe without a writer would
/// block forever.
///
/// # Errors
/// If the path is no regular file, or can't be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file",
        ))
    }
}

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
