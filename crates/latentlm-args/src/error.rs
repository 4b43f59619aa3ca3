//! What can be wrong with arguments.

use std::io;
use std::path::PathBuf;

use crate::overrides::MOST_DOTS;

/// Something that was asked for and can't be done. Each is one line: what, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// No device has such a name.
    #[error("no device `{0}`; there are cpu, wgpu, wgpu:N, vulkan, vulkan:N, cuda, cuda:N")]
    UnknownDevice(String),
    /// A device whose driver is not installed.
    #[error("no {kind} adapter: {reason}")]
    NoDriver {
        /// What was asked for.
        kind: &'static str,
        /// What is missing, and how to get it.
        reason: String,
    },
    /// An override that is not `key=value`.
    #[error("override `{0}` is not of the form key=value, e.g. lm_train.steps=200")]
    NotKeyValue(String),
    /// An override whose key is nested deeper than any recipe.
    #[error("override `{text}`: a key has at most {most} dots, not {dots}", most = MOST_DOTS)]
    DeepKey {
        /// The override.
        text: String,
        /// Dots of its key.
        dots: usize,
    },
    /// An override whose key can't be a key.
    #[error(
        "override `{0}`: a key is words of letters, digits, `_` and `-` with dots between them, e.g. \
         lm_train.steps"
    )]
    OddKey(String),
    /// A recipe that can't be read.
    #[error("cannot read the recipe {path}: {source}")]
    Recipe {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or folder that can't be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What would be done with it.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder that is no run.
    #[error("run {path}: is no run: it has no config.toml; {hint}")]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// Which runs there are, and how to train one.
        hint: String,
    },
    /// A run that would be begun a second time.
    #[error("run {path}: exists already; continue it with --resume, or name another with --run")]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// A file for each text, on standard output.
    #[error("--each writes files: name a folder for them with --out")]
    EachToStream,
}

impl ArgsError {
    /// Whether the words are wrong (exit code 2), not the world around them (exit code 1).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::UnknownDevice(_)
            | Self::NoDriver { .. }
            | Self::NotKeyValue(_)
            | Self::DeepKey { .. }
            | Self::OddKey(_)
            | Self::Recipe { .. } => true,
            Self::Io { .. } | Self::NoRun { .. } | Self::RunExists { .. } | Self::EachToStream => {
                false
            }
        }
    }
}
