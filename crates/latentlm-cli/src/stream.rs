//! Standard output, pipes and devices that take a result while it is made.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use latentlm::core::disk::{is_stream, open_stream};
use latentlm_data::MediaError;

/// Opens standard output, or a pipe, which waits for its reader; `None` for a file or folder.
///
/// # Errors
/// If it can't be opened.
pub fn open(path: &Path) -> Result<Option<Box<dyn Write>>, MediaError> {
    if path == Path::new("-") {
        return Ok(Some(Box::new(io::stdout())));
    }
    if !is_stream(path) {
        return Ok(None);
    }
    let opened = open_stream(path).map_err(|source| unwritten(path, source))?;
    Ok(Some(Box::new(opened)))
}

/// Whether the reader is still there after something was written for it.
///
/// # Errors
/// If it could not be written for another reason.
pub fn is_read(path: &Path, written: io::Result<()>) -> Result<bool, MediaError> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(unwritten(path, source)),
    }
}

/// The error of a stream that can't be written.
pub fn unwritten(path: &Path, source: io::Error) -> MediaError {
    let path = if path == Path::new("-") {
        "standard output".into()
    } else {
        path.to_owned()
    };
    MediaError::Io {
        action: "write",
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_leaves_is_no_error_and_a_full_disk_is() {
        let path = Path::new("-");
        assert!(is_read(path, Ok(())).unwrap());
        assert!(!is_read(path, Err(ErrorKind::BrokenPipe.into())).unwrap());
        let full = is_read(path, Err(ErrorKind::StorageFull.into()));
        let message = full.unwrap_err().to_string();
        assert!(
            message.starts_with("cannot write standard output: "),
            "{message}"
        );
    }
}
