//! `data check`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;

#[derive(Subcommand)]
pub enum Data {
    /// Says what a dataset folder holds and what is wrong in it
    #[command(after_help = "Example:\n  cargo xtask data check datasets/mnist")]
    Check {
        /// The folder
        path: PathBuf,
    },
}

impl Data {
    pub fn run(self) -> Result<()> {
        let Self::Check { path } = self;
        let report = latentlm_data::check(&path)?;
        println!("{report}");
        if !report.problems.is_empty() {
            bail!("{} has {} problems", path.display(), report.problems.len());
        }
        Ok(())
    }
}
