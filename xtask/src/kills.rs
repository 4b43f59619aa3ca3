//! `cargo xtask kills`: trainings that are killed at random moments, as often as one likes.

use std::process::{Command, ExitCode};

use anyhow::Result;
use latentlm_args::say;

use crate::cargo::status;
use crate::test::workspace_tests;

/// The module of the tests that kill, in `crates/latentlm-cli/tests/cli`.
const TESTS: &str = "kills::";

/// Kill trainings again and again: each must end as if nobody had killed it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask kills             1,000 kills: 400 of images, 200 each of speech, text with pictures, and clips
  cargo xtask kills 5000
  cargo xtask kills --seed 2    other moments

A third of the kills comes while a checkpoint is written. After each kill, `run check` must find all
checkpoints whole, and none may be lost. At the end, weights, latents and curves must equal those of a run that
was not killed, to the bit.")]
pub struct Args {
    /// Number of kills
    #[arg(default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    kills: u64,
    /// Seed of the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    /// Builds the tests and runs them; each prints a line.
    pub fn run(self) -> Result<ExitCode> {
        say!(
            "{:<12} {:>6} {:>10} {:>15} {:>10}",
            "training",
            "kills",
            "trainings",
            "within writing",
            "time"
        );
        let passed = status(&mut self.command())?.success();
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The whole workspace's tests, of which few are run: what they build serves these too.
    fn command(&self) -> Command {
        let mut command = workspace_tests();
        command.args(["--quiet", "--test", "cli", "--", TESTS]);
        command
            .env("LATENTLM_KILLS", self.kills.to_string())
            .env("LATENTLM_KILLS_SEED", self.seed.to_string());
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::line;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn the_tests_that_kill_are_run_with_what_was_asked_for() {
        for (typed, kills) in [(&["kills", "7"][..], 7), (&["kills"][..], 1000)] {
            let command = line(&Typed::parse_from(typed.iter().copied()).args.command());
            let count = format!("LATENTLM_KILLS={kills} ");
            for part in [
                count.as_str(),
                "LATENTLM_KILLS_SEED=1",
                "test --workspace --quiet --test cli -- kills::",
            ] {
                assert!(command.contains(part), "{command}");
            }
        }
        assert!(Typed::try_parse_from(["kills", "0"]).is_err());
    }
}
