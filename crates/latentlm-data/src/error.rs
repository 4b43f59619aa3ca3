//! Errors of datasets and their files.

use std::io;
use std::path::{Path, PathBuf};

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
         with `file_name`, one folder of pictures a class, or pictures"
    )]
    Unknown {
        /// The folder.
        path: PathBuf,
    },
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
    #[error("class folder {path} holds no PNG, JPEG or WebP picture: fill it or remove it")]
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
    /// An invalid size or number of channels for pictures.
    #[error(
        "cannot open {path} as pictures of {channels} channels, {height} x {width}: channels must \
         be 1 or 3, the sides 1 to {max}",
        max = crate::picture::MAX_SIDE
    )]
    Spec {
        /// The dataset.
        path: PathBuf,
        /// Requested number of channels.
        channels: usize,
        /// Requested height in pixels.
        height: usize,
        /// Requested width in pixels.
        width: usize,
    },
    /// A picture that can't be decoded.
    #[error("cannot decode the picture {path}: {source}")]
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
}

impl DataError {
    /// The file or folder of the error; empty for errors about a text.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. }
            | Self::Unknown { path }
            | Self::NoSpeech { path }
            | Self::SpeechSpec { path, .. }
            | Self::NoWords { path, .. }
            | Self::EmptyClass { path }
            | Self::EmptySplit { path, .. }
            | Self::TooManyBroken { path, .. }
            | Self::EmptySpeechSplit { path, .. }
            | Self::Spec { path, .. }
            | Self::Picture { path, .. }
            | Self::Malformed { path, .. } => path,
            Self::Program { program, .. } => program,
            Self::Text { .. } => Path::new(""),
        }
    }

    pub(crate) fn malformed(path: &Path, reason: impl Into<String>) -> Self {
        Self::Malformed {
            path: path.to_owned(),
            reason: reason.into(),
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
