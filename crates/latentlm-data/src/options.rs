//! How datasets of pictures are read: what may be left out, and how much memory a file may take.

use std::path::Path;

use crate::error::DataError;

/// How a dataset of pictures is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReadOptions {
    /// Share of the samples that may be left out because they can't be used; above it, opening the
    /// dataset is an error.
    pub max_broken: f64,
    /// Whether metadata may name files outside of the dataset's folder.
    pub outside: bool,
    /// Most bytes that a picture takes once it is decoded, and that its file has.
    pub max_picture_bytes: u64,
    /// Most bytes that the pictures of an IDX file take.
    pub max_idx_bytes: u64,
}

impl ReadOptions {
    /// A megabyte as the options of recipes and commands count it.
    pub const MEGABYTE: u64 = 1 << 20;
}

impl Default for ReadOptions {
    /// One sample in twenty may be left out; a picture may have 89 million pixels of three colours,
    /// an IDX file a million pictures of 28 x 28.
    fn default() -> Self {
        Self {
            max_broken: 0.05,
            outside: false,
            max_picture_bytes: 256 * Self::MEGABYTE,
            max_idx_bytes: 768 * Self::MEGABYTE,
        }
    }
}

impl ReadOptions {
    /// Refuses more samples left out than there may be. `first` is what is wrong with one of them.
    pub(crate) fn allow(
        self,
        path: &Path,
        (broken, total): (usize, usize),
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
