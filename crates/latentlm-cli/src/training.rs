//! What the training commands share.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::{Args, ValueEnum};
use latentlm_eval::peak_memory_bytes;
use latentlm_kernels::without_kernels;
use latentlm_pipelines::{Recipe, RunFolder};
use latentlm_train::{Interrupter, ProgressMode, RunEnd, RunOptions, TrainError, minutes};

use crate::device::devices;

/// How a recipe is trained.
#[derive(Args)]
pub struct Training {
    /// Recipe; the default one of the command if absent
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th; several share every batch out: cuda:0,1
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Continues the run from its newest checkpoint
    #[arg(long)]
    resume: bool,
    /// Does without the kernels of the CPU: slower, to see what they are worth and whether they are right
    #[arg(long)]
    without_kernels: bool,
    /// How progress is shown
    #[arg(long, value_enum, default_value = "auto")]
    progress: Shown,
    /// Changes of the recipe, e.g. lm_train.steps=200
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shown {
    /// A dashboard on a terminal, lines in a pipe
    Auto,
    /// Lines
    Plain,
    /// Nothing
    Silent,
}

impl Training {
    /// Trains, and says what came of it.
    pub fn run<R: Recipe>(
        self,
        name: &str,
        train: fn(R, RunOptions) -> Result<RunEnd, TrainError>,
    ) -> Result<()> {
        let path = run_path(name);
        let (device, more_devices) = devices(&self.device)?;
        let config = match (&self.config, self.resume) {
            // A run continues with the recipe that it was begun with.
            (None, true) => Some(RunFolder::<R>::open(&path)?.0.file("config.toml")),
            (config, _) => config.clone(),
        };
        let recipe = R::resolve(config.as_deref(), &self.overrides)?;
        let interrupter = Interrupter::new();
        stop_on_ctrl_c(interrupter.clone())?;
        let options = RunOptions {
            path: path.clone(),
            resume: self.resume,
            device,
            more_devices,
            progress: match self.progress {
                Shown::Auto => ProgressMode::Auto,
                Shown::Plain => ProgressMode::Plain,
                Shown::Silent => ProgressMode::Silent,
            },
            interrupter,
            within: String::new(),
        };
        let end = match self.without_kernels {
            true => without_kernels(|| train(recipe, options)),
            false => train(recipe, options),
        };
        match end? {
            RunEnd::Finished {
                samples,
                report,
                seconds,
                skipped,
            } => {
                for skipped in &skipped {
                    println!("left out {}: {}", skipped.path.display(), skipped.reason);
                }
                println!("trained in {}", minutes(seconds));
                if let Some(bytes) = peak_memory_bytes() {
                    println!("peak memory {:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
                }
                println!("samples {}", samples.display());
                println!("report {}", report.display());
            }
            RunEnd::Stopped => println!(
                "stopped; continue with: cargo xtask {} --run {name} --resume",
                R::COMMAND
            ),
        }
        Ok(())
    }
}

/// The folder of a run: a name lies under `runs/`, a path is taken as it is.
pub fn run_path(name: &str) -> PathBuf {
    match name.contains(std::path::MAIN_SEPARATOR) {
        true => name.into(),
        false => Path::new("runs").join(name),
    }
}

/// The first Ctrl-C asks for a stop with a checkpoint, the second ends the process.
fn stop_on_ctrl_c(interrupter: Interrupter) -> Result<()> {
    ctrlc::set_handler(move || {
        if interrupter.should_stop() {
            std::process::exit(130);
        }
        eprintln!("stopping after this step; once more to stop at once");
        interrupter.stop(Some("Ctrl-C"));
    })?;
    Ok(())
}
