//! Options for reading picture datasets: tolerance for broken samples, and memory limits.

use std::path::Path;

use latentlm_media::{MAX_PICTURE_BYTES, MEGABYTE};
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// The end of an error about too much of something: the key that allows more.
pub(crate) fn allows_more(key: &str) -> String {
    let flag = key.replace('_', "-");
    format!("data.{key} (of `data check`: --{flag}) allows more")
}

/// Options for reading a dataset of pictures. In a recipe, options that are missing have their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReadOptions {
    /// Largest fraction of unusable samples that may be left out, 0 to 1. Above it, opening the
    /// dataset is an error.
    pub max_broken: f64,
    /// Whether metadata may name files outside of the dataset's folder.
    pub outside: bool,
    /// Largest size in megabytes of a decoded picture, and of its file.
    pub max_picture_mb: u64,
    /// Largest size in megabytes of all pictures and labels of IDX files.
    pub max_idx_mb: u64,
    /// Largest size in megabytes of a table.
    pub max_table_mb: u64,
    /// Largest number of records of the tables of a dataset. A quarter of it may be unusable.
    pub max_records: usize,
}

impl ReadOptions {
    /// Bytes of a megabyte in recipe keys and command options.
    pub const MEGABYTE: u64 = MEGABYTE;
}

impl Default for ReadOptions {
    /// One sample in twenty may be left out; a picture may have 89 million pixels of three colours,
    /// IDX files a million pictures of 28 x 28. Tables take less than a gigabyte of memory: in memory a record is
    /// larger than a short line. ImageNet has 1.28 million.
    fn default() -> Self {
        Self {
            max_broken: 0.05,
            outside: false,
            max_picture_mb: MAX_PICTURE_BYTES / MEGABYTE,
            max_idx_mb: 768,
            max_table_mb: 192,
            max_records: 2_000_000,
        }
    }
}

impl ReadOptions {
    pub(crate) fn max_picture_bytes(&self) -> u64 {
        self.max_picture_mb.saturating_mul(MEGABYTE)
    }

    pub(crate) fn max_idx_bytes(&self) -> u64 {
        self.max_idx_mb.saturating_mul(MEGABYTE)
    }

    pub(crate) fn max_table_bytes(&self) -> u64 {
        self.max_table_mb.saturating_mul(MEGABYTE)
    }

    /// Largest number of samples that can't be read: each has its reason.
    pub(crate) fn most_broken(&self) -> usize {
        (self.max_records / 4).max(1)
    }

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
