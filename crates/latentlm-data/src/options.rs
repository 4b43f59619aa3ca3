//! Options for reading picture datasets: tolerance for broken samples, and memory limits.

use std::path::Path;

use latentlm_media::{MAX_PICTURE_BYTES, MEGABYTE};
use serde::{Deserialize, Serialize};

use crate::allowed::allows;
use crate::error::DataError;

/// Largest size of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SizeLimit {
    pub(crate) bytes: u64,
    /// The key that sets it in megabytes, if there is one.
    pub(crate) key: Option<&'static str>,
}

impl SizeLimit {
    /// Refuses a file of `size` bytes if that is too much.
    pub(crate) fn check(self, path: &Path, size: u64) -> Result<(), DataError> {
        let Self { bytes, key } = self;
        if size <= bytes {
            return Ok(());
        }
        let mut reason = format!("is larger than {bytes} bytes, the most that is read");
        if let Some(key) = key {
            reason += &format!("; {}", allows(key, size.div_ceil(MEGABYTE)));
        }
        Err(DataError::too_large(path, reason))
    }
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
    /// Largest number of frames of a clip, in its file and at the wanted rate. Recipes of pictures lack it.
    #[serde(skip)]
    pub max_clip_frames: usize,
    /// Largest number of frames of all clips of a dataset, at the wanted rate. Recipes of pictures lack it.
    #[serde(skip)]
    pub max_total_frames: usize,
}

impl ReadOptions {
    /// Bytes of a megabyte in recipe keys and command options.
    pub const MEGABYTE: u64 = MEGABYTE;
}

impl Default for ReadOptions {
    /// One sample in twenty may be left out; a picture may have 89 million pixels of three colours,
    /// IDX files a million pictures of 28 x 28. Tables take less than a gigabyte of memory: in memory a record is
    /// larger than a short line. ImageNet has 1.28 million. A frame of a clip takes up to 20 bytes until it is
    /// decoded; at ten a second, 20 million last for 555 hours.
    fn default() -> Self {
        Self {
            max_broken: 0.05,
            outside: false,
            max_picture_mb: MAX_PICTURE_BYTES / MEGABYTE,
            max_idx_mb: 768,
            max_table_mb: 192,
            max_records: 2_000_000,
            max_clip_frames: 10_000,
            max_total_frames: 20_000_000,
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

    pub(crate) fn table_limit(&self) -> SizeLimit {
        SizeLimit {
            bytes: self.max_table_mb.saturating_mul(MEGABYTE),
            key: Some("data.max_table_mb"),
        }
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
