//! `data check` and `data espeak`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::number::whole;
use crate::{ArgsError, Project};

/// Looks at datasets
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "each structure says what its command does, for the help too"
)]
pub enum Data {
    Check(DataCheck),
    Espeak(Espeak),
}

/// Says what a dataset folder holds and what is wrong in it
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask data check datasets/mnist\n  cargo xtask data check datasets/voice"
)]
pub struct DataCheck {
    /// The folder
    pub path: PathBuf,
    /// Lets metadata name files outside of the folder (data.outside of a recipe)
    #[arg(long)]
    pub outside: bool,
    /// Most megabytes that a decoded picture takes (data.max_picture_mb)
    #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_picture_mb: u64,
    /// Most megabytes that the pictures of an IDX file take (data.max_idx_mb)
    #[arg(long, value_name = "MB", default_value_t = 768, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_idx_mb: u64,
    /// Most samples of one channel that a recording may have
    #[arg(long, value_name = "SAMPLES", default_value_t = 1 << 27, value_parser = whole(1..))]
    pub max_samples: usize,
}

/// Has a corpus of many voices spoken by the program `espeak-ng`
///
/// The same options make the same corpus. configs/tts/multi-speaker.toml trains on it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask data espeak --out speech-espeak --utterances 5000\n  \
    cargo xtask data espeak --out stories --texts sentences.txt --speakers 6 --seed 7")]
pub struct Espeak {
    /// Folder to make
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// How many utterances; every tenth is held out
    #[arg(long, default_value_t = 5000, value_parser = whole(10..))]
    pub utterances: usize,
    /// How many speakers, at most 44
    #[arg(long, default_value_t = 12, value_parser = whole(1..=44))]
    pub speakers: usize,
    /// File of sentences, one a line, spoken in turn; digits, spelled words, dates and numbers if absent
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
    /// Seed of who says what and how
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The program
    #[arg(long, default_value = "espeak-ng")]
    pub program: PathBuf,
}

impl Data {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        match self {
            Self::Check(args) => project.find("open the dataset", &args.path),
            Self::Espeak(args) => match &args.texts {
                Some(texts) => project.find("read", texts),
                None => Ok(()),
            },
        }
    }
}
