//! Errors in arguments.

use std::io;
use std::path::PathBuf;

use latentlm_keys::{RecipeError, TableError};

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
    /// A recipe that can't be read, or whose keys or values are wrong.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// A table of keys that is wrong: an error in a part, not in the arguments.
    #[error(transparent)]
    Keys(#[from] TableError),
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
    /// A run whose recipe is not that of the command.
    #[error("run {path}: is no run of {command}: {reason}")]
    OtherRun {
        /// The folder.
        path: PathBuf,
        /// The command.
        command: &'static str,
        /// What is wrong with its recipe.
        reason: String,
    },
    /// A new run whose folder exists already.
    #[error("run {path}: exists already; continue it with --resume, or name another with --run")]
    RunExists {
        /// The folder.
        path: PathBuf,
    },
    /// An output file whose ending names no supported format.
    #[error("cannot write a {what} to `{path}`: its ending must be one of {known}")]
    Ending {
        /// Kind of the file, such as a picture.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The known endings.
        known: String,
    },
    /// `--each`, which writes several files, with standard output.
    #[error("--each writes files: name a folder for them with --out")]
    EachToStream,
    /// Several clips with standard output, a pipe or a device.
    #[error("--count writes several clips: name a file for them with --out")]
    CountToStream,
    /// Several recordings of one voice.
    #[error("a run speaks with one voice: give --voice once; dialogues want --model")]
    SeveralVoices,
    /// A model without a form that `transformers` reads.
    #[error("--transformers is for vibevoice-1.5b and vibevoice-7b; leave it out")]
    NoTransformers,
    /// A dialogue model without a script.
    #[error(
        "this model says dialogues: give --script; --text, --file and standard input are for Realtime models"
    )]
    NoScript,
}

impl ArgsError {
    /// Whether the arguments themselves are wrong (exit code 2), or files and folders (exit code 1).
    pub fn is_usage(&self) -> bool {
        match self {
            Self::UnknownDevice(_)
            | Self::NoDriver { .. }
            | Self::Recipe(_)
            | Self::Ending { .. }
            | Self::CountToStream
            | Self::SeveralVoices
            | Self::NoTransformers
            | Self::NoScript => true,
            Self::Keys(_)
            | Self::Io { .. }
            | Self::NoRun { .. }
            | Self::OtherRun { .. }
            | Self::RunExists { .. }
            | Self::EachToStream => false,
        }
    }
}
