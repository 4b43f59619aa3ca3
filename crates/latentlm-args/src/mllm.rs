//! Text and pictures: `train-mllm`, `generate`, `caption` (also of clips), `eval-mllm`.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::ArgPredicate;

use crate::endings::check_picture;
use crate::{ArgsError, Drawing, Project, Training, WeightNumbers, not_negative, probability};

/// Trains an image codec and one language model that draws, captions and writes
///
/// The default recipe is configs/mllm/twemoji.toml, emoji with captions.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-mllm\n  \
    cargo xtask train-mllm --run mine data.path=path/to/captioned text.data=story.txt\n  \
    cargo xtask train-mllm --run mine --resume")]
pub struct TrainMllm {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    pub run: String,
    /// Training options.
    #[command(flatten)]
    pub training: Training,
}

/// Continues a prompt of text and pictures: writes text, and draws pictures
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask generate --run emoji --prompt \"a blue heart <image>\" --out heart.png\n  \
    cargo xtask generate --run emoji --prompt \"My fellow citizens\" --temperature 0.7\n  \
    cargo xtask generate --run emoji --prompt \"<image>heart.png</image>\"")]
pub struct Generate {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    pub run: String,
    /// Sampling options.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Prompt; `<image>file.png</image>` inserts a picture, `<image>` at the end asks for a drawing
    #[arg(long)]
    pub prompt: String,
    /// Sampling temperature of tokens, 0 for the likeliest token; the recipe's by default
    #[arg(long, value_name = "T", value_parser = not_negative)]
    pub temperature: Option<f64>,
    /// Samples from the K likeliest tokens, 0 for all; the recipe's by default
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Samples from the likeliest tokens with total probability P; the recipe's by default
    #[arg(long, value_name = "P", value_parser = probability)]
    pub top_p: Option<f64>,
    /// Largest number of generated positions: tokens and latents
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub positions: u64,
    /// Scale factor of pictures
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub scale: u32,
    /// File to write; its ending says the format: png, jpg, jpeg or webp; further pictures get numbers
    #[arg(long, value_name = "FILE", default_value = "generated.png")]
    pub out: PathBuf,
}

impl Generate {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        project.find_device_and_run(&self.drawing.device, &self.run, "train-mllm")?;
        for picture in self.pictures() {
            project.find_file(picture)?;
        }
        check_picture(&self.out, project)
    }

    /// Files of the pictures in the prompt. Malformed marks are reported later, by the model's prompt parser.
    fn pictures(&self) -> impl Iterator<Item = &Path> {
        self.prompt
            .split("<image>")
            .skip(1)
            .filter_map(|after| after.split_once("</image>"))
            .map(|(file, _)| file.trim())
            .filter(|file| !file.is_empty())
            .map(Path::new)
    }
}

/// Captions pictures or clips
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask caption --run emoji --image heart.png\n  \
    cargo xtask caption --run digits --video seven.gif")]
pub struct Caption {
    /// Name of the run, a folder under runs/; digits by default for clips
    #[arg(
        long,
        default_value = "emoji",
        default_value_if("video", ArgPredicate::IsPresent, "digits")
    )]
    pub run: String,
    /// Picture file; several are captioned in order
    #[arg(long, value_name = "FILE", required_unless_present = "video", num_args = 1..)]
    pub image: Vec<PathBuf>,
    /// Clip, for a run of train-video: GIF, PNG, WebP, Y4M, or a folder of frames; several in order
    #[arg(long, value_name = "FILE", conflicts_with = "image", num_args = 1..)]
    pub video: Vec<PathBuf>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

impl Caption {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        let trained_by = if self.video.is_empty() {
            "train-mllm"
        } else {
            "train-video"
        };
        project.find_device_and_run(&self.device, &self.run, trained_by)?;
        for image in &self.image {
            project.find_file(image)?;
        }
        // Or a folder of frames.
        for clip in &self.video {
            project.find("read", clip)?;
        }
        Ok(())
    }
}

/// Measures a model of text and pictures: captions, drawn pictures, perplexity
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask eval-mllm --run emoji --samples 199")]
pub struct EvalMllm {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    pub run: String,
    /// Sampling options.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Weights in memory, f32 by default: fewer bits take less memory. Others want the CPU
    #[arg(long, value_enum, conflicts_with = "precision")]
    pub weights: Option<WeightNumbers>,
    /// Number of pictures of each split, training and held-out, to be captioned and drawn
    #[arg(long, default_value_t = 199, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub samples: u64,
    /// Prints the measurements as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}
