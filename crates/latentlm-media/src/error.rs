//! Errors of files.

use std::io;
use std::path::{Path, PathBuf};

/// An error of this crate. Each message says what is wrong, where, and what to do unless that is obvious.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// A file or folder can't be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The failed operation, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// An invalid size or number of channels for pictures.
    #[error(
        "cannot open {path} as pictures of {channels} channels, {height} x {width}: channels must \
         be 1 or 3, the sides 1 to {max_side}"
    )]
    Spec {
        /// The picture, or the dataset of pictures.
        path: PathBuf,
        /// Requested number of channels.
        channels: usize,
        /// Requested height in pixels.
        height: usize,
        /// Requested width in pixels.
        width: usize,
        /// Longest side in pixels that is possible.
        max_side: usize,
    },
    /// A picture that can't be decoded.
    // Errors of the JPEG decoder end in a line break.
    #[error("cannot decode the picture {path}: {}", .source.to_string().trim_end())]
    Picture {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: image::ImageError,
    },
    /// A file with invalid content.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file that takes more than its reader was allowed.
    #[error("{path}: {reason}")]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What there is too much of.
        reason: String,
        /// The limit, which the caller sets.
        bound: Bound,
    },
}

/// A limit of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// Bytes of a decoded picture or frame, and of its file.
    Picture,
    /// Bytes of pictures and labels in IDX files.
    Idx,
    /// Samples per channel of a recording.
    Samples,
    /// Frames of a clip, in its file and at the wanted rate.
    Frames,
}

impl MediaError {
    /// The file or folder of the error.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Spec { path, .. }
            | Self::Picture { path, .. }
            | Self::Malformed { path, .. }
            | Self::TooLarge { path, .. } => path,
        }
    }

    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn too_large(path: &Path, reason: impl Into<String>, bound: Bound) -> Self {
        Self::TooLarge {
            path: path.to_owned(),
            reason: reason.into(),
            bound,
        }
    }
}

/// Turns an I/O error into a [`MediaError`] with action and path.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> MediaError {
    let path = path.to_owned();
    move |source| MediaError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use image::ImageError;
    use image::error::{DecodingError, ImageFormatHint};

    use super::*;

    #[test]
    fn the_error_of_a_picture_is_one_line() {
        let broken = DecodingError::new(ImageFormatHint::Unknown, "no marker\n");
        let error = MediaError::Picture {
            path: "a.jpg".into(),
            source: ImageError::Decoding(broken),
        };
        let message = error.to_string();
        assert!(
            message.starts_with("cannot decode the picture a.jpg: "),
            "{message}"
        );
        assert!(message.ends_with("no marker"), "{message:?}");
    }
}
