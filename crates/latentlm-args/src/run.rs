//! `run`.

use clap::{Args, Subcommand};

use crate::{ArgsError, Project};

/// Looks at runs
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the docs of each struct describe its command, also in the help"
)]
pub enum Run {
    Check(RunCheck),
}

/// Compares all checkpoints and latent caches of a run with their checksums
///
/// Prints a line for each, also for those of runs within the run. Exit code 1 if one is damaged.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask run check mnist\n  cargo xtask run check path/to/run"
)]
pub struct RunCheck {
    /// Name of the run, a folder under runs/
    pub run: String,
}

impl Run {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        match self {
            Self::Check(args) => project.find_any_run(&args.run, "train-image"),
        }
    }
}
