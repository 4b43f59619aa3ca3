//! `data check` and `data espeak`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::number::whole;
use crate::{ArgsError, Project};

/// Looks at datasets
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the docs of each struct describe its command, also in the help"
)]
pub enum Data {
    Check(DataCheck),
    Espeak(Espeak),
}

/// Checks a dataset folder: reports its content and its problems
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask data check datasets/mnist\n  cargo xtask data check datasets/voice"
)]
pub struct DataCheck {
    /// Dataset folder
    pub path: PathBuf,
    /// Allows metadata to name files outside of the folder (data.outside of a recipe)
    #[arg(long)]
    pub outside: bool,
    /// Largest size of a decoded picture in megabytes (data.max_picture_mb)
    #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_picture_mb: u64,
    /// Largest size of all pictures of an IDX file in megabytes (data.max_idx_mb)
    #[arg(long, value_name = "MB", default_value_t = 768, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_idx_mb: u64,
    /// Largest number of samples per channel of a recording
    #[arg(long, value_name = "SAMPLES", default_value_t = 1 << 27, value_parser = whole(1..))]
    pub max_samples: usize,
}

/// Synthesizes a speech corpus of many voices with the program `espeak-ng`
///
/// The same options give the same corpus. configs/tts/multi-speaker.toml trains on it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask data espeak --out speech-espeak --utterances 5000\n  \
    cargo xtask data espeak --out stories --texts sentences.txt --speakers 6 --seed 7")]
pub struct Espeak {
    /// Folder of the new corpus
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Number of utterances; every tenth is held out
    #[arg(long, default_value_t = 5000, value_parser = whole(10..))]
    pub utterances: usize,
    /// Number of speakers, at most 44
    #[arg(long, default_value_t = 12, value_parser = whole(1..=44))]
    pub speakers: usize,
    /// File of sentences, one per line, spoken in turn; by default digits, spelled words, dates and numbers
    #[arg(long, value_name = "FILE")]
    pub texts: Option<PathBuf>,
    /// Random seed of speakers, texts, pitch and rate
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Name or path of the program
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
