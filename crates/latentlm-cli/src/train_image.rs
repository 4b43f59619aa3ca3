//! `train-image`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use latentlm_train::{
    ImageRecipe, Interrupter, ProgressMode, RunEnd, RunFolder, RunOptions, minutes,
    peak_memory_bytes, train_image,
};

use crate::device::device;

/// Trains an image codec and a class-conditional language model on its latents
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    cargo xtask train-image\n  \
    cargo xtask train-image --config configs/image/twemoji.toml --run emoji\n  \
    cargo xtask train-image --run small lm.width=96 lm_train.steps=500\n  \
    cargo xtask train-image --run small --resume")]
pub struct TrainImage {
    /// Recipe; the digits of configs/image/mnist.toml by default
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// cpu, wgpu, wgpu:N, cuda or cuda:N
    #[arg(long, default_value = "cpu")]
    device: String,
    /// Name of the run, a folder under runs/
    #[arg(long, default_value = "mnist")]
    run: String,
    /// Continues the run from its newest checkpoint
    #[arg(long)]
    resume: bool,
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

impl TrainImage {
    pub fn run(self) -> Result<()> {
        let path = run_path(&self.run);
        let device = device(&self.device)?;
        let config = match (&self.config, self.resume) {
            // A run continues with the recipe that it was begun with.
            (None, true) => Some(RunFolder::open(&path)?.0.file("config.toml")),
            (config, _) => config.clone(),
        };
        let recipe = ImageRecipe::resolve(config.as_deref(), &self.overrides)?;
        let interrupter = Interrupter::new();
        stop_on_ctrl_c(interrupter.clone())?;
        let end = train_image(
            recipe,
            RunOptions {
                path: path.clone(),
                resume: self.resume,
                device,
                progress: match self.progress {
                    Shown::Auto => ProgressMode::Auto,
                    Shown::Plain => ProgressMode::Plain,
                    Shown::Silent => ProgressMode::Silent,
                },
                interrupter,
            },
        )?;
        match end {
            RunEnd::Finished {
                samples,
                report,
                seconds,
            } => {
                println!("trained in {}", minutes(seconds));
                if let Some(bytes) = peak_memory_bytes() {
                    println!("peak memory {:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
                }
                println!("samples {}", samples.display());
                println!("report {}", report.display());
            }
            RunEnd::Stopped => println!(
                "stopped; continue with: cargo xtask train-image --run {} --resume",
                self.run
            ),
        }
        Ok(())
    }
}

/// The folder of a run: a name lies under `runs/`, a path is taken as it is.
pub fn run_path(name: &str) -> PathBuf {
    match name.contains(std::path::MAIN_SEPARATOR) {
        true => name.into(),
        false => PathBuf::from("runs").join(name),
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
