//! Arguments that several commands have.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{ArgsError, DeviceName, Project, finite, not_negative, overrides};

/// How a recipe is trained.
#[derive(Debug, Args)]
pub struct Training {
    /// Recipe; the default one of the command if absent
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th; several share every batch out: cuda:0,1
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Continues the run from its newest checkpoint
    #[arg(long)]
    pub resume: bool,
    /// Does without the kernels of the CPU: slower, to see what they are worth and whether they are right
    #[arg(long)]
    pub without_kernels: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
    /// Changes of the recipe, e.g. lm_train.steps=200
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A dashboard on a terminal, lines in a pipe
    Auto,
    /// Lines
    Plain,
    /// Nothing
    Silent,
}

impl Training {
    /// `run` is the name of the run, `command` the words that train it.
    pub(crate) fn check(
        &self,
        command: &str,
        run: &str,
        project: &Project,
    ) -> Result<(), ArgsError> {
        DeviceName::parse_list(&self.device)?;
        if let Some(config) = &self.config {
            project.find_recipe(config)?;
        }
        for text in &self.overrides {
            overrides::split(text)?;
        }
        // Keys and values of `self.overrides` against the tables of a recipe's parts: here.
        if self.resume {
            project.find_run(run, command)
        } else {
            project.find_no_run(run)
        }
    }
}

/// How latents are drawn.
#[derive(Debug, Args)]
pub struct Drawing {
    /// Classifier-free guidance; the recipe's by default
    #[arg(long, value_name = "SCALE", value_parser = finite)]
    pub guidance: Option<f64>,
    /// Solver steps a latent; the recipe's by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=999))]
    pub steps: Option<u64>,
    /// Factor of the noise that latents begin as; the recipe's by default
    #[arg(long, value_name = "FACTOR", value_parser = not_negative)]
    pub noise_temperature: Option<f64>,
    /// Numbers of the diffusion head's products; bf16 is faster on a CPU with AVX-512 BF16
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: HeadNumbers,
    /// Seed: the same seed draws the same
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

/// Numbers of the diffusion head's products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeadNumbers {
    /// 32 bits
    F32,
    /// 16 bits, summed up in 32
    Bf16,
}

/// Numbers that a language model is trained in, weights rounded to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrainingNumbers {
    /// 32 bits
    F32,
    /// 16 bits; sums, norms and losses keep 32
    Bf16,
}

/// How pictures are drawn.
#[derive(Debug, Args)]
pub struct Sampling {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    pub run: String,
    /// How latents are drawn.
    #[command(flatten)]
    pub drawing: Drawing,
}

impl Sampling {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        project.find_device_and_run(&self.drawing.device, &self.run, "train-image")
    }
}
