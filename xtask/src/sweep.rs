//! `cargo xtask sweep`: every key of the recipes at values that nobody means.

use std::process::{Command, ExitCode};

use anyhow::Result;
use latentlm_args::say;

use crate::cargo::status;
use crate::test::workspace_tests;

/// The module of the tests that sweep, in `crates/latentlm-cli/tests/cli`.
const TESTS: &str = "sweep::absurd_";

/// Try every key of the recipes at absurd values: each is refused in one line, or trains two steps.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask sweep                  all keys of images, speech, text with pictures, clips, and comparisons
  cargo xtask sweep codec_train.     keys with this part in their names

Values are 0, -1, 1e9, the largest and the smallest whole number, 1e-300, 1e300, infinities and NaN. Each case is a
process: a refusal has one line and takes at most a second and a gigabyte; a training ends within a minute, and
its logs have finite numbers of two steps of both stages.")]
pub struct Args {
    /// Part of the names of keys; all if absent
    #[arg(default_value = "")]
    part: String,
}

impl Args {
    /// Builds the tests and runs them; each prints a line.
    pub fn run(self) -> Result<ExitCode> {
        say!(
            "{:<13} {:>8} {:>6} {:>8} {:>7} {:>10} {:>10}",
            "training",
            "refused",
            "ran",
            "stopped",
            "failed",
            "refusals",
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
        command.env("LATENTLM_SWEEP", &self.part);
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
    fn the_tests_that_sweep_are_run_with_what_was_asked_for() {
        let one = line(&Typed::parse_from(["sweep", "lm."]).args.command());
        for part in [
            "LATENTLM_SWEEP=lm.",
            "test --workspace --quiet --test cli -- sweep::absurd_",
        ] {
            assert!(one.contains(part), "{one}");
        }
        let all = line(&Typed::parse_from(["sweep"]).args.command());
        assert!(all.contains("LATENTLM_SWEEP="), "{all}");
    }
}
