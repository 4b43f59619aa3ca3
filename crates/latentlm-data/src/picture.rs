//! Reads a picture that belongs to no dataset.

use std::path::Path;

use latentlm_media::ImageSpec;

use crate::error::{DataError, of_no_dataset};

/// Reads a picture file, crops and resizes it to `spec`. Returns `[C, H, W]`.
///
/// # Errors
/// As [`latentlm_media::read_picture`].
pub fn read_picture(path: &Path, spec: ImageSpec) -> Result<Vec<u8>, DataError> {
    latentlm_media::read_picture(path, spec).map_err(of_no_dataset)
}
