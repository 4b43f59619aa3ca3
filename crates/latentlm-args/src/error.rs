//! Errors in arguments.

use std::io;
use std::path::PathBuf;

use crate::overrides::MOST_DOTS;

/// An error in the arguments of a command. Each message is one line: what is wrong, where, what to do.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// A name that is not a valid device name.
    #[error("no device `{0}`; there are cpu, wgpu, wgpu:N, vulkan, vulkan:N, cuda, cuda:N")]
    UnknownDevice(String),
    /// A device whose driver is not installed.
    #[error("no {kind} adapter: {reason}")]
    NoDriver {
        /// Kind of device.
        kind: &'static str,
        /// What is missing, and how to get it.
        reason: String,
    },
    /// An override that is not `key=value`.
    #[error("override `{0}` is not of the form key=value, e.g. lm_train.steps=200")]
    NotKeyValue(String),
    /// An override whose key is nested too deep.
    #[error("override `{text}`: a key has at most {most} dots, not {dots}", most = MOST_DOTS)]
    DeepKey {
        /// The override.
        text: String,
        /// Number of dots in its key.
        dots: usize,
    },
    /// An override whose key has invalid characters.
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
        /// The intended operation, such as `read`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder that is not a run.
    #[error("run {path}: is no run: it has no config.toml; {hint}")]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// The existing runs, and how to train one.
        hint: String,
    },
    /// A new run whose folder exists already.
    #[error("run {path}: exists already; continue it with --resume, or name another with --run")]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// `--each`, which writes several files, with standard output.
    #[error("--each writes files: name a folder for them with --out")]
    EachToStream,
}

impl ArgsError {
    /// Whether the arguments themselves are wrong (exit code 2), or files and folders (exit code 1).
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
