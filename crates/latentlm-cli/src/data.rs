//! `data check` and `data espeak`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use latentlm_data::speech::{
    EspeakOptions, SpeechDataset, check_speech, espeak_corpus, read_sentences,
};

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
    Espeak(Espeak),
}

/// Has a corpus of many voices spoken by the program `espeak-ng`
///
/// The same options make the same corpus. configs/tts/multi-speaker.toml trains on it.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask data espeak --out speech-espeak --utterances 5000\n  \
    cargo xtask data espeak --out stories --texts sentences.txt --speakers 6 --seed 7")]
pub struct Espeak {
    /// Folder to make
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// How many utterances
    #[arg(long, default_value_t = 5000)]
    utterances: usize,
    /// How many speakers, at most 44
    #[arg(long, default_value_t = 12)]
    speakers: usize,
    /// File of sentences, one a line, spoken in turn; digits, spelled words, dates and numbers if absent
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Seed of who says what and how
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The program
    #[arg(long, default_value = "espeak-ng")]
    program: PathBuf,
}

/// Utterances between lines of progress.
const SHOWN_EVERY: usize = 1000;

impl Espeak {
    fn run(self) -> Result<()> {
        let sentences = match &self.texts {
            Some(path) => read_sentences(path)?,
            None => Vec::new(),
        };
        let total = self.utterances;
        let options = EspeakOptions {
            program: self.program,
            folder: self.out,
            utterances: total,
            speakers: self.speakers,
            sentences,
            seed: self.seed,
        };
        let corpus = espeak_corpus(&options, |index| {
            if (index + 1).is_multiple_of(SHOWN_EVERY) {
                eprintln!("{} of {total} utterances", index + 1);
            }
        })?;
        println!(
            "{}: {} utterances of {} speakers, {:.1} min",
            options.folder.display(),
            corpus.utterances,
            options.speakers,
            corpus.seconds / 60.0
        );
        Ok(())
    }
}

impl Data {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Check { path } => check(&path),
            Self::Espeak(espeak) => espeak.run(),
        }
    }
}

fn check(path: &Path) -> Result<()> {
    let problems = if SpeechDataset::is_speech(path) {
        let report = check_speech(path)?;
        println!("{report}");
        report.problems.len()
    } else {
        let report = latentlm_data::check(path)?;
        println!("{report}");
        report.problems.len()
    };
    if problems > 0 {
        bail!("{} has {problems} problems", path.display());
    }
    Ok(())
}
