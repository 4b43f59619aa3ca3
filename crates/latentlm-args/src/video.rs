//! Clips: `train-video`, `sample-video`, `eval-video`.

use std::path::PathBuf;

use clap::Args;

use crate::endings::{check_clips, check_sheet};
use crate::{ArgsError, Drawing, Project, Training, WeightNumbers};

/// Trains a video codec and one language model that draws, continues and captions clips
///
/// The default recipe is configs/video/digits.toml, moving digits that are composed of the included ones.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-video\n  \
    cargo xtask train-video --run mine data.path=path/to/clips data.composed=0\n  \
    cargo xtask train-video --run mine --resume")]
pub struct TrainVideo {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "digits")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Draws a clip for a caption or a class, or continues a given one
///
/// Frames are written as they are drawn: into a folder, or as a GIF on standard output, a pipe or a device. Files get
/// their names when they are complete. Ctrl-C ends after the group of frames that is being drawn, with whole files.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask sample-video --run digits --prompt \"a seven moves left\" --out seven.gif\n  \
    cargo xtask sample-video --prompt \"a three above a bouncing one\" --count 4 --contact-sheet all.png --out clip.gif\n  \
    cargo xtask sample-video --prompt \"a seven moves up\" --from seven.png --out frames\n  \
    cargo xtask sample-video --prompt \"a two grows\" --out - | ffplay -")]
pub struct SampleVideo {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "digits")]
    pub run: String,
    /// Sampling options.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Caption of the clip, or the name of its class
    #[arg(long, visible_alias = "class", required_unless_present = "from")]
    pub prompt: Option<String>,
    /// Picture or clip that the drawn clip begins with: GIF, PNG, WebP, Y4M, or a folder of numbered frames
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Number of clips; with the second the seed is one higher, and so on
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub count: u64,
    /// File to write: .gif, or .png for an animated PNG; a name without ending is a new folder of frames; `-` for
    /// a GIF on standard output; further clips get numbers
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// PNG with all frames of all clips, a row for each clip
    #[arg(long, value_name = "FILE")]
    pub contact_sheet: Option<PathBuf>,
}

impl SampleVideo {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        project.find_device_and_run(&self.drawing.device, &self.run, "train-video")?;
        if let Some(given) = &self.from {
            project.find("read", given)?;
        }
        check_clips(&self.out, self.count, project)?;
        match &self.contact_sheet {
            Some(sheet) => check_sheet(sheet, project),
            None => Ok(()),
        }
    }
}

/// Measures a model of clips: reconstruction, digits and motions of drawn clips, captions, continuation
///
/// Digits and motions are measured if the clips are composed of digits, as those of the default recipe are. Prints a
/// table of measures with values and units, and writes evaluation.json and report.html into the run's folder. With no
/// more changes from frame to frame than the judge has features, 64, a Frechet distance is rough, and a line on
/// standard error says so.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask eval-video --run digits --samples 200 --seed 7")]
pub struct EvalVideo {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "digits")]
    pub run: String,
    /// Sampling options.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Weights in memory, f32 by default: fewer bits take less memory. Others want the CPU
    #[arg(long, value_enum, conflicts_with = "precision")]
    pub weights: Option<WeightNumbers>,
    /// Number of clips for each measure; a twentieth of it for each held-out pair of digit and motion
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    pub samples: u64,
    /// Prints the measurements as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
