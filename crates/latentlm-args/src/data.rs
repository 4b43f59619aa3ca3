//! `data check`, `data clips`, `data espeak` and `data voices`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::number::{clip_rate, positive, whole};
use crate::{ArgsError, Project};

/// Looks at datasets
#[derive(Debug, Subcommand)]
#[allow(
    missing_docs,
    reason = "the docs of each struct describe its command, also in the help"
)]
pub enum Data {
    Check(DataCheck),
    Clips(DataClips),
    Espeak(Espeak),
    Voices(DataVoices),
}

/// Checks a dataset folder: reports its content and its problems
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  cargo xtask data check datasets/mnist\n  cargo xtask data check datasets/voice\n  \
                  cargo xtask data check path/to/clips --clips"
)]
pub struct DataCheck {
    /// Dataset folder
    pub path: PathBuf,
    /// Reads the folder as clips for train-video, with all frames; otherwise a GIF is a picture
    #[arg(long)]
    pub clips: bool,
    /// With --clips: number of frames of a sample
    #[arg(long, value_name = "FRAMES", default_value_t = 17, value_parser = whole(1..=10_000), requires = "clips")]
    pub clip_frames: usize,
    /// With --clips: frames a second
    #[arg(long, value_name = "RATE", default_value_t = 10.0, value_parser = clip_rate, requires = "clips")]
    pub clip_rate: f64,
    /// Names all files that are left out, also beyond the first 100 of a reason
    #[arg(long)]
    pub all: bool,
    /// Allows metadata to name files outside of the folder (data.outside of a recipe)
    #[arg(long)]
    pub outside: bool,
    /// Largest size of a decoded picture in megabytes (data.max_picture_mb)
    #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_picture_mb: u64,
    /// Largest size of all pictures and labels of IDX files in megabytes (data.max_idx_mb)
    #[arg(long, value_name = "MB", default_value_t = 768, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_idx_mb: u64,
    /// Largest size of a table in megabytes (data.max_table_mb); 192 by default, 448 of speech
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_table_mb: Option<u64>,
    /// Largest number of records of the tables of pictures or clips (data.max_records)
    #[arg(long, value_name = "RECORDS", default_value_t = 2_000_000, value_parser = whole(1..))]
    pub max_records: usize,
    /// With --clips: largest number of frames of a clip, in its file and at --clip-rate (data.max_clip_frames)
    #[arg(long, value_name = "FRAMES", default_value_t = 10_000, value_parser = whole(1..), requires = "clips")]
    pub max_clip_frames: usize,
    /// With --clips: largest number of frames of all clips, at --clip-rate (data.max_total_frames)
    #[arg(long, value_name = "FRAMES", default_value_t = 20_000_000, value_parser = whole(1..), requires = "clips")]
    pub max_total_frames: usize,
    /// Largest number of lines of the tables of speech (data.max_lines)
    #[arg(long, value_name = "LINES", default_value_t = 1_500_000, value_parser = whole(1..))]
    pub max_lines: usize,
    /// Largest number of samples per channel of a recording (data.max_samples)
    #[arg(long, value_name = "SAMPLES", default_value_t = 1 << 27, value_parser = whole(1..))]
    pub max_samples: usize,
}

/// Composes clips of one or two handwritten digits that move, with captions
///
/// The same options give the same clips: 17 frames of 32 x 32, ten a second.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask data clips --out clips --count 1000\n  \
    cargo xtask data clips --out held-out --count 100 --split test --seed 7")]
pub struct DataClips {
    /// Folder of the new dataset
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Number of clips
    #[arg(long, default_value_t = 100, value_parser = whole(1..=1_000_000))]
    pub count: usize,
    /// Pictures and captions that training sees (train), or held-out pictures and any captions (test)
    #[arg(long, value_enum, default_value_t = ClipSplit::Train)]
    pub split: ClipSplit,
    /// Random seed of captions, pictures and ways
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Dataset of the digits
    #[arg(long, value_name = "FOLDER", default_value = "datasets/mnist")]
    pub digits: PathBuf,
    /// Writes a folder of PNG frames for each clip instead of a GIF
    #[arg(long)]
    pub frames: bool,
}

/// A split of composed clips
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum ClipSplit {
    Train,
    Test,
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

/// Composes English speech of 14 synthetic voices at 24 kHz, with word times; two voices are held out
///
/// The same options give the same corpus, and a second call goes on where the first was interrupted. Nothing is
/// downloaded: a message names the packages that are missing. configs/tts/english.toml trains on one voice of it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask data voices --out speech-voices --hours 5 --python speakers/bin/python\n  \
    cargo xtask data voices --out speech-english --hours 10 --only voice-01 --python speakers/bin/python")]
pub struct DataVoices {
    /// Folder of the corpus: `seen` in it is for training, `held-out` has the other voices
    #[arg(long, value_name = "FOLDER")]
    pub out: PathBuf,
    /// Length of all speech in hours
    #[arg(long, default_value_t = 5.0, value_parser = positive)]
    pub hours: f64,
    /// Random seed of sentences and speeds
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Voices, separated by commas, such as voice-01,voice-04; all 14 by default
    #[arg(long, value_name = "VOICES", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Folder of WordNet, whose examples are spoken
    #[arg(long, value_name = "FOLDER", default_value = "/usr/share/wordnet")]
    pub wordnet: PathBuf,
    /// File of other sentences, one per line, in words without digits
    #[arg(long, value_name = "FILE", conflicts_with = "wordnet")]
    pub texts: Option<PathBuf>,
    /// Python that has the packages of the synthesizers
    #[arg(long, default_value = "python3")]
    pub python: PathBuf,
}

impl Data {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        match self {
            Self::Check(args) => project.find("open the dataset", &args.path),
            Self::Clips(args) => {
                project.find("open the digits", &args.digits)?;
                project.find_folder_place(&args.out)
            }
            Self::Espeak(args) => {
                if let Some(texts) = &args.texts {
                    project.find_file(texts)?;
                }
                find_program(project, &args.program)?;
                project.find_folder_place(&args.out)
            }
            Self::Voices(args) => {
                if let Some(texts) = &args.texts {
                    project.find_file(texts)?;
                }
                find_program(project, &args.python)?;
                project.find_folder_place(&args.out)
            }
        }
    }
}

/// Checks that a program exists. The system looks for a bare name elsewhere.
fn find_program(project: &Project, program: &Path) -> Result<(), ArgsError> {
    if program.components().count() > 1 {
        project.find("run", program)?;
    }
    Ok(())
}
