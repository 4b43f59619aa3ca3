//! Arguments shared by several commands.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use latentlm_keys::{Kind, lay, overrides};

use crate::{ArgsError, DeviceName, Project, guidance_scale, noise_temperature, run_path};

/// Arguments of the commands that train.
#[derive(Debug, Args)]
pub struct Training {
    /// Recipe file; by default the command's own recipe
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th; several devices share each batch: cuda:0,1
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// A finished run to begin from: takes its codec and averaged weights and, without --config, its recipe (sets the key
    /// lm.from)
    #[arg(long, value_name = "RUN", conflicts_with = "resume", group = "earlier")]
    pub from: Option<String>,
    /// Continues the run from its latest checkpoint
    #[arg(long, group = "earlier")]
    pub resume: bool,
    /// Continues although the data, the teacher or the weights of the loss have changed since the run began, or the data
    /// since the run of --from
    #[arg(long, requires = "earlier")]
    pub accept_changed_data: bool,
    /// Runs without the CPU kernels, on Burn's own operations: slower; to compare speed and results
    #[arg(long)]
    pub without_kernels: bool,
    /// Display of progress
    #[arg(long, value_enum, default_value = "auto")]
    pub progress: Progress,
    /// Overrides of recipe keys, e.g. lm_train.steps=200
    #[arg(value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
}

impl Training {
    /// The folder of the run whose recipe is used, if there is one: this run with `--resume`, the other run with
    /// `--from`.
    pub fn recipe_of(&self, run: &str) -> Option<PathBuf> {
        if self.config.is_some() {
            return None;
        }
        if self.resume {
            return Some(run_path(run));
        }
        self.from.as_deref().map(run_path)
    }

    /// All overrides of keys, that of `--from` first.
    pub fn all_overrides(&self) -> Vec<String> {
        let from = self.from.iter();
        let from = from.map(|run| format!("lm.from={}", run_path(run).display()));
        from.chain(self.overrides.iter().cloned()).collect()
    }
}

/// Display of training progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A dashboard on a terminal, plain lines otherwise
    Auto,
    /// Lines
    Plain,
    /// Nothing
    Silent,
}

/// A command that trains.
pub(crate) struct Trained<'a> {
    /// Its arguments.
    pub(crate) training: &'a Training,
    /// The name of the run.
    pub(crate) run: &'a str,
    /// The command, for messages.
    pub(crate) command: &'static str,
    /// The table of the recipe's keys.
    pub(crate) table: &'static str,
}

impl Trained<'_> {
    /// Checks the devices, the form of overrides, and that the run is there if it goes on, or else is new.
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        DeviceName::parse_list(&self.training.device)?;
        if let Some(config) = &self.training.config {
            project.find_recipe(config)?;
        }
        for text in &self.training.overrides {
            // Without the recipe's keys there is no example of one.
            overrides::split(text).map_err(|error| match project.keys(self.table) {
                Ok(keys) => error.with_example(&keys),
                Err(_) => error,
            })?;
        }
        if let Some(from) = &self.training.from {
            project.find_run(from, self.command)?;
        }
        if self.training.resume {
            project.find_run(self.run, self.command)
        } else {
            project.find_no_run(self.run)
        }
    }

    /// Checks every key and value of the recipe, and that the files and folders that it names exist.
    pub(crate) fn check_recipe(&self, project: &Project) -> Result<(), ArgsError> {
        let keys = project.keys(self.table)?;
        let (root, mut recipe) = (project.root(), keys.default_table());
        let config = self.training.config.as_deref();
        if let Some(run) = self.training.recipe_of(self.run) {
            let saved = run.join("config.toml");
            let laid = lay(&keys, recipe, root, Some(&saved), &[]);
            recipe = laid.map_err(|error| ArgsError::OtherRun {
                path: run,
                command: self.command,
                reason: error.to_string(),
            })?;
        }
        let overrides = self.training.all_overrides();
        let recipe = lay(&keys, recipe, root, config, &overrides)?;
        for (key, path) in keys.paths(&recipe) {
            // A run that goes on may need these weights no more. If it does, training asks for them.
            let weights = key.ends_with("lm.from") || key.contains("codec_loss.");
            if self.training.resume && weights {
                continue;
            }
            let needed = keys.get(&key).is_some_and(|key| key.kind == Kind::Path);
            let action = if needed { "open the dataset" } else { "read" };
            project.find(action, path.as_ref())?;
        }
        Ok(())
    }
}

/// Arguments of the commands that sample latents.
#[derive(Debug, Args)]
pub struct Drawing {
    /// Scale of classifier-free guidance; the recipe's by default
    #[arg(long, value_name = "SCALE", value_parser = guidance_scale)]
    pub guidance: Option<f64>,
    /// Solver steps per latent; the recipe's by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=999))]
    pub steps: Option<u64>,
    /// Factor of the initial noise of each latent; the recipe's by default
    #[arg(long, value_name = "FACTOR", value_parser = noise_temperature)]
    pub noise_temperature: Option<f64>,
    /// Precision of the diffusion head's matrix products, f32 by default; bf16 is faster on a CPU with AVX-512
    /// BF16. With --model the same as --weights
    #[arg(long, value_enum)]
    pub precision: Option<HeadNumbers>,
    /// Random seed; the same seed gives the same samples; 0 by default, drawn and printed for a dialogue
    #[arg(long)]
    pub seed: Option<u64>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th
    #[arg(long, default_value = "cpu")]
    pub device: String,
}

impl Drawing {
    /// The seed, or its default.
    pub fn seed(&self) -> u64 {
        self.seed.unwrap_or(0)
    }
}

/// Precision of weights and of products with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HeadNumbers {
    /// 32 bits
    F32,
    /// bfloat16, accumulated in 32 bits
    Bf16,
}

/// Precision of a language model in training; its weights are rounded to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TrainingNumbers {
    /// 32 bits
    F32,
    /// bfloat16; sums, norms and losses keep 32 bits
    Bf16,
}

/// Arguments of the commands that draw pictures.
#[derive(Debug, Args)]
pub struct Sampling {
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    pub run: String,
    /// Sampling options.
    #[command(flatten)]
    pub drawing: Drawing,
}

impl Sampling {
    pub(crate) fn check(&self, project: &Project) -> Result<(), ArgsError> {
        project.find_device_and_run(&self.drawing.device, &self.run, "train-image")
    }
}
