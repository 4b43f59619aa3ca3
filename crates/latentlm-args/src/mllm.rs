//! Text and pictures: `train-mllm`, `generate`, `caption`, `eval-mllm`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{ArgsError, Drawing, Project, Training, not_negative, probability};

/// Trains a codec of pictures and one language model that draws, captions and writes
///
/// The default recipe is the emoji of configs/mllm/twemoji.toml.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-mllm\n  \
    cargo xtask train-mllm --run mine data.path=path/to/captioned text.data=story.txt\n  \
    cargo xtask train-mllm --run mine --resume")]
pub struct TrainMllm {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    pub run: String,
    /// How the recipe is trained.
    #[command(flatten)]
    pub training: Training,
}

/// Goes on with a prompt of text and pictures: writes, and draws
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask generate --run emoji --prompt \"a blue heart <image>\" --out heart.png\n  \
    cargo xtask generate --run emoji --prompt \"My fellow citizens\" --temperature 0.7\n  \
    cargo xtask generate --run emoji --prompt \"<image>heart.png</image>\"")]
pub struct Generate {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    pub run: String,
    /// How latents are drawn.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Text; `<image>file.png</image>` is a picture to be read, `<image>` at the end one to be drawn
    #[arg(long)]
    pub prompt: String,
    /// Divisor of the tokens' scores, 0 for the likeliest token; the recipe's by default
    #[arg(long, value_name = "T", value_parser = not_negative)]
    pub temperature: Option<f64>,
    /// Likeliest tokens that are drawn from, 0 for all; the recipe's by default
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Probability that the tokens drawn from add up to; the recipe's by default
    #[arg(long, value_name = "P", value_parser = probability)]
    pub top_p: Option<f64>,
    /// Most positions that are made: tokens and latents
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    pub positions: u64,
    /// Enlargement of pictures
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub scale: u32,
    /// PNG to write; further pictures get numbers
    #[arg(long, value_name = "FILE", default_value = "generated.png")]
    pub out: PathBuf,
}

impl Generate {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        project.find_device_and_run(&self.drawing.device, &self.run, "train-mllm")?;
        for picture in self.pictures() {
            project.find("read", picture)?;
        }
        Ok(())
    }

    /// Files of pictures to be read. Where the marks themselves are wrong, the model's reader of
    /// prompts says so.
    fn pictures(&self) -> impl Iterator<Item = &Path> {
        let marked = self.prompt.split("<image>").skip(1);
        let files = marked.filter_map(|behind| behind.split_once("</image>"));
        let files = files.map(|(file, _)| file.trim());
        files.filter(|file| !file.is_empty()).map(Path::new)
    }
}

/// Says what a picture shows
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cargo xtask caption --run emoji --image heart.png")]
pub struct Caption {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "emoji")]
    pub run: String,
    /// Picture; several are captioned in their order
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub image: Vec<PathBuf>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

impl Caption {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        project.find_device_and_run(&self.device, &self.run, "train-mllm")?;
        for image in &self.image {
            project.find("read", image)?;
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
    /// How latents are drawn.
    #[command(flatten)]
    pub drawing: Drawing,
    /// Pictures captioned and drawn, of the training split and of the held-out one
    #[arg(long, default_value_t = 199, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub samples: u64,
}
