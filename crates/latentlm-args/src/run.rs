//! `run`.

use clap::{Args, Subcommand};

use crate::{ArgsError, Project, run_path};

/// Looks at runs
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the docs of each struct describe its command, also in the help"
)]
pub enum Run {
    Check(RunCheck),
}

/// Says which checkpoints and files of a run are whole
///
/// Checkpoints and latent caches are compared with their checksums, the recipe with that of the newest checkpoint; log,
/// list of data and report must be complete. Prints a line for each, also for those of runs within the run. Exit code 1
/// if one is damaged.
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
        let Self::Check(args) = self;
        let run = project.path(&run_path(&args.run));
        // A run that has lost its recipe is damaged, and this command says so.
        if run.join("checkpoints").is_dir() {
            return Ok(());
        }
        project.find_any_run(&args.run, "train-image")
    }
}
