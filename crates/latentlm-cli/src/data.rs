//! `data check`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Subcommand;
use latentlm_data::speech::{SpeechDataset, check_speech};

#[derive(Subcommand)]
pub enum Data {
    /// Says what a dataset folder holds and what is wrong in it
    #[command(
        after_help = "Examples:\n  cargo xtask data check datasets/mnist\n  cargo xtask data check datasets/voice"
    )]
    Check {
        /// The folder
        path: PathBuf,
    },
}

impl Data {
    pub fn run(self) -> Result<()> {
        let Self::Check { path } = self;
        let problems = if SpeechDataset::is_speech(&path) {
            let report = check_speech(&path)?;
            println!("{report}");
            report.problems.len()
        } else {
            let report = latentlm_data::check(&path)?;
            println!("{report}");
            report.problems.len()
        };
        if problems > 0 {
            bail!("{} has {problems} problems", path.display());
        }
        Ok(())
    }
}
