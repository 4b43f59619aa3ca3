//! `data check` and `data espeak`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use latentlm_data::speech::{
    EspeakOptions, SoundLimits, SpeechBounds, SpeechDataset, check_speech_within, espeak_corpus,
    read_sentences,
};
use latentlm_data::{ReadOptions, check_with, is_pictures};

#[derive(Subcommand)]
pub enum Data {
    /// Says what a dataset folder holds and what is wrong in it
    #[command(
        after_help = "Examples:\n  cargo xtask data check datasets/mnist\n  cargo xtask data check datasets/voice"
    )]
    Check {
        /// The folder
        path: PathBuf,
        /// Let metadata name files outside of the folder (data.outside of a recipe)
        #[arg(long)]
        outside: bool,
        /// Most megabytes that a decoded picture takes (data.max_picture_mb)
        #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
        max_picture_mb: u64,
        /// Most megabytes that the pictures of an IDX file take (data.max_idx_mb)
        #[arg(long, value_name = "MB", default_value_t = 768, value_parser = clap::value_parser!(u64).range(1..))]
        max_idx_mb: u64,
        /// Most samples of one channel that a recording may have
        #[arg(long, value_name = "SAMPLES", default_value_t = SoundLimits::default().samples)]
        max_samples: usize,
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
            Self::Check {
                path,
                outside,
                max_picture_mb,
                max_idx_mb,
                max_samples,
            } => {
                let options = ReadOptions {
                    outside,
                    max_picture_bytes: max_picture_mb.saturating_mul(ReadOptions::MEGABYTE),
                    max_idx_bytes: max_idx_mb.saturating_mul(ReadOptions::MEGABYTE),
                    ..ReadOptions::default()
                };
                let sound = SoundLimits {
                    samples: max_samples,
                    ..SoundLimits::default()
                };
                let bounds = SpeechBounds {
                    outside,
                    sound,
                    ..SpeechBounds::default()
                };
                check(&path, &options, bounds)
            }
            Self::Espeak(espeak) => espeak.run(),
        }
    }
}

fn check(path: &Path, options: &ReadOptions, bounds: SpeechBounds) -> Result<()> {
    let problems = if !is_pictures(path) && SpeechDataset::is_speech(path) {
        let report = check_speech_within(path, bounds)?;
        println!("{report}");
        report.problems.len()
    } else {
        let report = check_with(path, options)?;
        println!("{report}");
        report.problems.len()
    };
    if problems > 0 {
        bail!("{} has {problems} problems", path.display());
    }
    Ok(())
}
