//! Errors for clips that have more than is allowed.

use std::path::Path;

use crate::error::{Bound, MediaError};
use crate::picture::megabytes;

/// The error for a clip of more than `most` frames.
pub(super) fn too_many(path: &Path, most: usize) -> MediaError {
    let reason = format!("more than {most} frames: cut it into shorter clips");
    MediaError::too_large(path, reason, Bound::Frames)
}

/// The error for frames of `bytes` bytes where `limit` are allowed.
pub(super) fn large_frames(
    path: &Path,
    (width, height): (u32, u32),
    bytes: u64,
    limit: u64,
) -> MediaError {
    let (bytes, limit) = (megabytes(bytes), megabytes(limit));
    let reason = format!(
        "frames of {width} x {height} pixels take {bytes}, more than the {limit} that are allowed"
    );
    MediaError::too_large(path, reason, Bound::Picture)
}
