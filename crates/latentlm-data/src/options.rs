//! Options for reading picture datasets: tolerance for broken samples, and memory limits.

use std::path::Path;

use latentlm_media::{MAX_PICTURE_BYTES, MEGABYTE};

use crate::error::DataError;

/// Options for reading a dataset of pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadOptions {
    /// Largest fraction of unusable samples that may be left out, 0 to 1. Above it, opening the
    /// dataset is an error.
    pub max_broken: f64,
    /// Whether metadata may name files outside of the dataset's folder.
    pub outside: bool,
    /// Largest size in bytes of a decoded picture, and of its file.
    pub max_picture_bytes: u64,
    /// Largest size in bytes of all pictures of an IDX file.
    pub max_idx_bytes: u64,
}

impl ReadOptions {
    /// Bytes of a megabyte in recipe keys and command options.
    pub const MEGABYTE: u64 = MEGABYTE;
}

impl Default for ReadOptions {
    /// One sample in twenty may be left out; a picture may have 89 million pixels of three colours,
    /// an IDX file a million pictures of 28 x 28.
    fn default() -> Self {
        Self {
            max_broken: 0.05,
            outside: false,
            max_picture_bytes: MAX_PICTURE_BYTES,
            max_idx_bytes: 768 * MEGABYTE,
        }
    }
}

impl ReadOptions {
    /// Checks that `broken` samples of `total` are not more than may be left out. `first` is the error
    /// of the first broken sample.
    pub(crate) fn allow(
        self,
        path: &Path,
        broken: usize,
        total: usize,
        first: Option<&DataError>,
    ) -> Result<(), DataError> {
        let share = broken as f64 / total.max(1) as f64;
        match first {
            Some(first) if share > self.max_broken => Err(DataError::TooManyBroken {
                path: path.to_owned(),
                broken,
                total,
                max_broken: self.max_broken,
                first: first.to_string(),
            }),
            _ => Ok(()),
        }
    }
}
