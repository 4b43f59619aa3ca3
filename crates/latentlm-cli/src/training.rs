//! Shared code of the training commands.

use anyhow::Result;
use latentlm_args::{Progress, Training, escaped, run_path, say};
use latentlm_kernels::without_kernels;
use latentlm_pipelines::{Recipe, RunFolder};
use latentlm_train::{Interrupter, ProgressMode, RunEnd, RunOptions, TrainError, minutes};

use crate::device::devices;
use crate::memory::peak_memory_bytes;
use crate::signals;

/// Trains a run with `train`, and prints the outcome.
pub fn run<R: Recipe>(
    args: Training,
    name: &str,
    train: impl FnOnce(R, RunOptions) -> Result<RunEnd, TrainError>,
) -> Result<()> {
    run_with(args, name, &[], train)
}

/// The same for a command with further arguments, which belong to the line that continues it.
pub fn run_with<R: Recipe>(
    args: Training,
    name: &str,
    more: &[String],
    train: impl FnOnce(R, RunOptions) -> Result<RunEnd, TrainError>,
) -> Result<()> {
    let path = run_path(name);
    let (device, more_devices) = devices(&args.device)?;
    // A run that is resumed keeps its recipe. A run that begins from another takes the other's.
    let config = match args.recipe_of(name) {
        Some(run) => Some(RunFolder::<R>::open(&run)?.0.file("config.toml")),
        None => args.config.clone(),
    };
    let recipe = R::resolve(config.as_deref(), &args.all_overrides())?;
    let interrupter = Interrupter::new();
    signals::stop_training(&interrupter)?;
    let options = RunOptions {
        path: path.clone(),
        resume: args.resume,
        accept_changed_data: args.accept_changed_data,
        device,
        more_devices,
        progress: match args.progress {
            Progress::Auto => ProgressMode::Auto,
            Progress::Plain => ProgressMode::Plain,
            Progress::Silent => ProgressMode::Silent,
        },
        interrupter,
        within: String::new(),
    };
    let end = if args.without_kernels {
        without_kernels(|| train(recipe, options))
    } else {
        train(recipe, options)
    };
    match end? {
        RunEnd::Finished {
            samples,
            report,
            seconds,
            skipped,
        } => {
            for skipped in &skipped {
                let line = format!("left out {}: {}", skipped.path.display(), skipped.reason);
                say!("{}", escaped(&line));
            }
            say!("trained in {}", minutes(seconds));
            if let Some(bytes) = peak_memory_bytes() {
                say!("peak memory {:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
            }
            say!("samples {}", samples.display());
            say!("report {}", report.display());
        }
        RunEnd::Stopped => say!(
            "stopped; continue with: cargo xtask {} --run {} --resume{}",
            R::COMMAND,
            for_shell(name),
            behind(more)
        ),
    }
    Ok(())
}

/// Further arguments of a command, as a shell reads them back.
fn behind(words: &[String]) -> String {
    let words = words.iter().map(|word| format!(" {}", for_shell(word)));
    words.collect()
}

/// A word as a shell reads it back.
fn for_shell(word: &str) -> String {
    let is_plain = |own: char| own.is_alphanumeric() || "-_./".contains(own);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_a_shell() {
        for (name, expected) in [
            ("runs/mnist-2.b_c", "runs/mnist-2.b_c"),
            ("my run", "'my run'"),
            ("it's $HOME", r"'it'\''s $HOME'"),
        ] {
            assert_eq!(for_shell(name), expected);
        }
        let words = ["--pesq-judge", "\"a b\" c.py"].map(String::from);
        assert_eq!(behind(&words), " --pesq-judge '\"a b\" c.py'");
        assert_eq!(behind(&[]), "");
    }
}
