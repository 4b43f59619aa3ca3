//! Errors of datasets and their files.

use std::io;
use std::path::{Path, PathBuf};

use latentlm_media::{Bound, MediaError};

use crate::allowed::allows_more;

/// An error of this crate. Each message says what is wrong, where, and what to do unless that is obvious.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
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
    /// A folder that holds no dataset of a known kind.
    #[error(
        "{path} holds no dataset: expected MNIST-style IDX files, a metadata.jsonl or metadata.csv \
         with `file_name`, one folder of pictures a class, or pictures; as speech, a metadata.jsonl with \
         `audio` and `text`, LJSpeech's metadata.csv, or a tree with transcripts as LibriSpeech's"
    )]
    Unknown {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that holds no clips.
    #[error(
        "{path} holds no clips: expected a metadata.jsonl or metadata.csv with `file_name`, one folder of \
         clips a class, or clips: GIF, animated WebP or PNG, Y4M, folders of numbered frames"
    )]
    NoClips {
        /// The folder.
        path: PathBuf,
    },
    /// A stop came ([`Stop`](crate::Stop)).
    #[error("stopped")]
    Stopped,
    /// A text that can't be tokenized.
    #[error("text: {reason}")]
    Text {
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A folder without recordings.
    #[error(
        "{path} holds no speech: expected a metadata.jsonl with `audio` and `text`, LJSpeech's \
         metadata.csv, or a tree with transcripts as LibriSpeech's or LibriTTS's; also tables as \
         Piper's, Coqui's, F5's and Common Voice's, manifests as NeMo's and Hugging Face's \
         (`audio_filepath` or `file_name`, with `text`, `transcription` or `sentence`), VCTK and \
         Multilingual LibriSpeech"
    )]
    NoSpeech {
        /// The folder.
        path: PathBuf,
    },
    /// An invalid specification of recordings: sample rate, loudness or lengths.
    #[error("cannot open {path} as speech: {reason}")]
    SpeechSpec {
        /// The dataset.
        path: PathBuf,
        /// What is invalid, and what would be valid.
        reason: String,
    },
    /// A corpus without the word clips for any kind of composed utterance.
    #[error("nothing can be composed of the words in {path}: {missing}")]
    NoWords {
        /// The corpus.
        path: PathBuf,
        /// The missing words for each kind of utterance.
        missing: String,
    },
    /// An external program that can't be started or fails.
    #[error("`{program}`: {reason}")]
    Program {
        /// The program.
        program: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// A class without pictures.
    #[error(
        "class folder {path} holds no PNG, JPEG, WebP, GIF, BMP or TIFF picture: fill it or remove it"
    )]
    EmptyClass {
        /// The class's folder.
        path: PathBuf,
    },
    /// No samples in one split.
    #[error(
        "{path} has no samples of the {split} split: add samples, two at least, or give it {split} \
         samples of its own"
    )]
    EmptySplit {
        /// The dataset.
        path: PathBuf,
        /// `train` or `test`.
        split: &'static str,
    },
    /// More unusable samples than may be left out.
    #[error(
        "{path}: {broken} of {total} samples can't be used, and no more than {:.1} % may be left out \
         (data.max_broken); `data check` names them all, the first: {first}",
        .max_broken * 100.0
    )]
    TooManyBroken {
        /// The dataset.
        path: PathBuf,
        /// Number of unusable samples.
        broken: usize,
        /// Number of all samples.
        total: usize,
        /// Largest fraction of samples that may be left out, 0 to 1.
        max_broken: f64,
        /// Error message of the first unusable sample.
        first: String,
    },
    /// No recordings in one split.
    #[error(
        "{path} has no recordings of the {split} split: add recordings, or say `split` of some of \
         them"
    )]
    EmptySpeechSplit {
        /// The corpus.
        path: PathBuf,
        /// `train` or `test`.
        split: &'static str,
    },
    /// A picture that can't be decoded, or a size that pictures can't have.
    #[error(transparent)]
    Media(MediaError),
    /// A file or a dataset with more than is read.
    #[error("{path}: {reason}")]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// What there is too much of, and the key that allows more.
        reason: String,
    },
    /// A file with invalid content.
    #[error("{path}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl DataError {
    /// The file or folder of the error; empty for a stop and for errors about a text.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Unknown { path }
            | Self::NoClips { path }
            | Self::NoSpeech { path }
            | Self::SpeechSpec { path, .. }
            | Self::NoWords { path, .. }
            | Self::EmptyClass { path }
            | Self::EmptySplit { path, .. }
            | Self::TooManyBroken { path, .. }
            | Self::EmptySpeechSplit { path, .. }
            | Self::TooLarge { path, .. }
            | Self::Malformed { path, .. } => path,
            Self::Program { program, .. } => program,
            Self::Media(error) => error.path(),
            Self::Text { .. } | Self::Stopped => Path::new(""),
        }
    }

    pub(crate) fn too_large(path: &Path, reason: impl Into<String>) -> Self {
        Self::TooLarge {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// The key that sets a limit of a dataset's files.
fn key_of(bound: Bound) -> &'static str {
    match bound {
        Bound::Picture => "data.max_picture_mb",
        Bound::Idx => "data.max_idx_mb",
        Bound::Samples => "data.max_samples",
        Bound::Frames => "data.max_clip_frames",
    }
}

/// The error for a file that belongs to no dataset: no key allows more of it.
pub(crate) fn of_no_dataset(error: MediaError) -> DataError {
    match error {
        MediaError::TooLarge { path, reason, .. } => DataError::Malformed { path, reason },
        other => other.into(),
    }
}

impl From<MediaError> for DataError {
    /// Files that can't be read, and files with invalid content, are the same error whoever reads them. Of a file of a
    /// dataset that takes more than allowed, the error names the key that allows more.
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::Io {
                action,
                path,
                source,
            } => Self::Io {
                action,
                path,
                source,
            },
            MediaError::Malformed { path, reason } => Self::Malformed { path, reason },
            MediaError::TooLarge {
                path,
                reason,
                bound,
            } => Self::Malformed {
                path,
                reason: format!("{reason}; {}", allows_more(key_of(bound))),
            },
            other => Self::Media(other),
        }
    }
}

/// Turns an I/O error into a [`DataError`] with action and path.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_owned();
    move |source| DataError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The crate of files finds some errors, this one others: a user reads the same.
    #[test]
    fn errors_of_files_keep_their_kind_and_their_text() {
        let path = PathBuf::from("a/b.wav");
        let malformed = DataError::from(MediaError::Malformed {
            path: path.clone(),
            reason: "is cut short".into(),
        });
        assert!(matches!(malformed, DataError::Malformed { .. }));
        assert_eq!(malformed.to_string(), "a/b.wav: is cut short");
        let unread = DataError::from(MediaError::Io {
            action: "read",
            path: path.clone(),
            source: io::Error::other("the disk is gone"),
        });
        assert!(matches!(unread, DataError::Io { action: "read", .. }));
        assert_eq!(unread.to_string(), "cannot read a/b.wav: the disk is gone");
        let size = latentlm_media::ImageSpec {
            channels: 2,
            height: 0,
            width: 9,
        };
        let size = DataError::from(size.validate(&path).unwrap_err());
        assert_eq!(
            size.to_string(),
            "cannot open a/b.wav as pictures of 2 channels, 0 x 9: channels must be 1 or 3, the sides 1 \
             to 16384"
        );
        for error in [malformed, unread, size] {
            assert_eq!(error.path(), path);
        }
    }

    /// Keys as recipes have them, with their table, and options as `data check` has them.
    #[test]
    fn files_beyond_a_bound_name_the_key_that_allows_more() {
        for (bound, key, flag) in [
            (Bound::Picture, "max_picture_mb", "max-picture-mb"),
            (Bound::Idx, "max_idx_mb", "max-idx-mb"),
            (Bound::Samples, "max_samples", "max-samples"),
            (Bound::Frames, "max_clip_frames", "max-clip-frames"),
        ] {
            let found = || MediaError::TooLarge {
                path: "a".into(),
                reason: "is too large".into(),
                bound,
            };
            let expected =
                format!("a: is too large; data.{key} (of `data check`: --{flag}) allows more");
            assert_eq!(DataError::from(found()).to_string(), expected);
            assert_eq!(of_no_dataset(found()).to_string(), "a: is too large");
        }
    }
}
