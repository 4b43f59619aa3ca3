//! The two kinds of samples, pictures and clips: which files are read, and why others are left out.

use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::walk::LeftOut;

/// A kind of samples.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Name of the samples in messages.
    pub(crate) samples: &'static str,
    /// Extensions of files that can be decoded.
    endings: &'static [&'static str],
    /// Extensions of related files that can't be decoded.
    foreign: &'static [&'static str],
    /// Advice for these files, in the list of files left out.
    foreign_why: &'static str,
    /// The reason given for all other files.
    other_why: &'static str,
    /// The reason given for a file in the wrong folder.
    pub(crate) misplaced: &'static str,
    /// The reason given for a file that the dataset's table does not name.
    pub(crate) unnamed: &'static str,
    /// Whether a folder of numbered pictures is a sample.
    pub(crate) folders: bool,
}

/// Pictures. Of an animation, only the first frame is read.
pub(crate) static PICTURES: Kind = Kind {
    samples: "pictures",
    endings: &[
        "png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff",
    ],
    foreign: &[
        "avif", "heic", "heif", "jxl", "jp2", "svg", "psd", "ico", "tga", "exr", "hdr", "ppm",
        "dng", "raw",
    ],
    foreign_why: "a picture of a kind that is not decoded: save it as PNG, JPEG or WebP",
    other_why: "no picture, by its ending",
    misplaced: "a picture outside of the class folders, or in a folder below one",
    unnamed: "a picture that no line of the table names",
    folders: false,
};

/// Clips: files of moving pictures, and folders of numbered frames.
#[cfg(feature = "clips")]
pub(crate) static CLIPS: Kind = Kind {
    samples: "clips",
    endings: &["gif", "webp", "png", "apng", "y4m"],
    foreign: &[
        "mp4", "m4v", "mov", "mkv", "webm", "avi", "mpg", "mpeg", "ogv", "wmv", "flv", "ts",
    ],
    foreign_why: "a video of a kind that is not decoded: `ffmpeg -i IN -pix_fmt yuv420p OUT.y4m` makes one \
                  that is",
    other_why: "no clip, by its ending",
    misplaced: "a clip outside of the class folders, or in a folder below one",
    unnamed: "a clip that no line of the table names",
    folders: true,
};

impl Default for &'static Kind {
    fn default() -> Self {
        &PICTURES
    }
}

impl Kind {
    /// Whether a file can be decoded, by its ending.
    pub(crate) fn takes(&self, path: &Path) -> bool {
        has_ending(path, self.endings)
    }

    /// Whether a file can be decoded, or is a related one for which there is advice.
    pub(crate) fn resembles(&self, path: &Path) -> bool {
        self.takes(path) || has_ending(path, self.foreign)
    }

    /// A file that is not a sample. `why` is the reason if it could be decoded.
    pub(crate) fn unused(&self, path: PathBuf, why: &str) -> LeftOut {
        let why = if self.takes(&path) {
            why
        } else if has_ending(&path, self.foreign) {
            self.foreign_why
        } else {
            self.other_why
        };
        LeftOut::unused(path, why)
    }

    /// The error of a class without samples.
    pub(crate) fn empty_class(&self, path: &Path) -> DataError {
        if self.folders {
            DataError::malformed(path, "a class folder without clips: fill it or remove it")
        } else {
            DataError::EmptyClass {
                path: path.to_owned(),
            }
        }
    }

    /// The error of a folder in which there are no samples.
    pub(crate) fn unknown(&self, path: &Path) -> DataError {
        let path = path.to_owned();
        if self.folders {
            DataError::NoClips { path }
        } else {
            DataError::Unknown { path }
        }
    }

    /// The error of a folder with `count` files that would be samples if they were of another kind, such as `first`.
    pub(crate) fn undecoded(&self, path: &Path, first: &Path, count: usize) -> DataError {
        let files = if count == 1 { "file" } else { "files" };
        let (samples, first) = (
            self.samples,
            first.file_name().unwrap_or_default().display(),
        );
        let why = self.foreign_why;
        let reason =
            format!("holds no {samples} that are read, but {count} {files} such as {first}: {why}");
        DataError::malformed(path, reason)
    }

    /// The frames among the files of a folder, if the folder is a sample: two numbered pictures or more.
    #[cfg(feature = "clips")]
    pub(crate) fn frames(&self, files: &[PathBuf]) -> Option<Vec<PathBuf>> {
        use latentlm_media::clip::{frame_order, is_animated};

        if !self.folders {
            return None;
        }
        let frames = frame_order(files).ok()?;
        // A folder of numbered clips is a class.
        let one_clip = frames.len() > 1 && !frames.first().is_some_and(|first| is_animated(first));
        one_clip.then_some(frames)
    }

    #[cfg(not(feature = "clips"))]
    pub(crate) fn frames(&self, _: &[PathBuf]) -> Option<Vec<PathBuf>> {
        None
    }
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| endings.contains(&ending.to_ascii_lowercase().as_str()))
}
