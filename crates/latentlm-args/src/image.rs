//! Pictures: `train-image`, `sample-image`, `eval-image`.

use std::path::PathBuf;

use clap::Args;

use crate::endings::check_picture;
use crate::{ArgsError, Project, Sampling, Training, WeightNumbers};

/// Trains an image codec and a class-conditional language model on its latents
///
/// The default recipe is configs/image/mnist.toml, handwritten digits.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-image\n  \
    cargo xtask train-image --config configs/image/twemoji.toml --run emoji\n  \
    cargo xtask train-image --run small lm.width=96 lm_train.steps=500\n  \
    cargo xtask train-image --run small --resume")]
pub struct TrainImage {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Draws pictures with a trained model
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask sample-image --run mnist --grid --out digits.png\n  \
    cargo xtask sample-image --run mnist --class 7 --count 16 --guidance 3 --seed 5 --out sevens.png")]
pub struct SampleImage {
    /// Run and sampling options.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Weights in memory, f32 by default: fewer bits take less memory. Others want the CPU
    #[arg(long, value_enum, conflicts_with = "precision")]
    pub weights: Option<WeightNumbers>,
    /// Class to draw, by name or number
    #[arg(long, required_unless_present = "grid")]
    pub class: Option<String>,
    /// Draws a grid, one row per class
    #[arg(long, conflicts_with = "class")]
    pub grid: bool,
    /// Number of pictures; with --grid of each class
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub count: u64,
    /// Scale factor of the pictures
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub scale: u32,
    /// File to write; its ending says the format: png, jpg, jpeg or webp
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

impl SampleImage {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        self.sampling.check(project)?;
        check_picture(&self.out, project)
    }
}

/// Measures a trained model: reconstruction, class agreement, Frechet distance, copies, diversity
///
/// Prints a table of measures with values and units, and writes evaluation.json and report.html into the
/// run's folder. With no more pictures than the judge has features, 64, a Frechet distance is rough, and a
/// line on standard error says so.
///
/// A judge is any command that takes PNG paths after its arguments and prints a line for each: path, tab,
/// name of the class. Paths with spaces need double quotes. It is asked about the drawn and about held-out
/// real pictures.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask eval-image --run mnist --samples 500 --seed 7\n  \
    cargo xtask eval-image --run mnist --weights int8\n  \
    cargo xtask eval-image --run mnist --judge \"python3 judge.py\"")]
pub struct EvalImage {
    /// Run and sampling options.
    #[command(flatten)]
    pub sampling: Sampling,
    /// Weights in memory, f32 by default: fewer bits take less memory. Others want the CPU
    #[arg(long, value_enum, conflicts_with = "precision")]
    pub weights: Option<WeightNumbers>,
    /// Number of pictures to generate
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(2..=100_000))]
    pub samples: u64,
    /// Prints the measurements as JSON instead of a table
    #[arg(long)]
    pub json: bool,
    /// Command that names the class of each picture
    #[arg(long, value_name = "COMMAND")]
    pub judge: Option<String>,
}
