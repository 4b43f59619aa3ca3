//! `cargo xtask fuzz`: damaged files for every reader, as many as one likes.

use std::process::{Command, ExitCode};

use anyhow::Result;
use latentlm_args::say;

use crate::cargo::status;
use crate::test::workspace_tests;

/// The test that reads them, in `tests/inputs`.
const TEST: &str = "damaged_files_are_read_or_refused";

/// Read damaged files with every reader: none may panic, abort, hang or take a gigabyte.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz                            all readers, 5,000 damaged files each
  cargo xtask fuzz picture --inputs 100000    one of them
  cargo xtask fuzz --seed 2                   other damage

Inputs that fail lie in target/tmp/fuzz/TARGET; fuzz/README.md says what to do with them.")]
pub struct Args {
    /// The reader, as fuzz/README.md calls it; all if absent
    target: Option<String>,
    /// Damaged files a reader; readers of many formats get more, slow ones fewer
    #[arg(long, default_value_t = 5000)]
    inputs: u32,
    /// Seed of the damage
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl Args {
    /// Builds the test and runs it; it prints a line a reader.
    pub fn run(self) -> Result<ExitCode> {
        say!(
            "{:<18} {:>8} {:>8} {:>8} {:>6} {:>11} {:>10}",
            "reader",
            "inputs",
            "refused",
            "read",
            "failed",
            "slowest",
            "memory"
        );
        let passed = status(&mut self.command())?.success();
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The whole workspace's tests, of which one is run: what they build serves this one too.
    fn command(&self) -> Command {
        let mut command = workspace_tests();
        command.args(["--quiet", "--test", "inputs", "--", "--exact", TEST]);
        command
            .env("LATENTLM_FUZZ_FULL", "1")
            .env("LATENTLM_FUZZ_INPUTS", self.inputs.to_string())
            .env("LATENTLM_FUZZ_SEED", self.seed.to_string());
        if let Some(target) = &self.target {
            command.env("LATENTLM_FUZZ_TARGET", target);
        }
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
    fn one_test_is_run_with_what_was_asked_for() {
        let typed = Typed::parse_from(["fuzz", "picture", "--inputs", "7"]);
        let one = line(&typed.args.command());
        for part in [
            "LATENTLM_FUZZ_TARGET=picture",
            "LATENTLM_FUZZ_INPUTS=7",
            "LATENTLM_FUZZ_SEED=1",
            "test --workspace --quiet --test inputs -- --exact damaged_files_are_read_or_refused",
        ] {
            assert!(one.contains(part), "{one}");
        }
        let all = line(&Typed::parse_from(["fuzz"]).args.command());
        assert!(!all.contains("LATENTLM_FUZZ_TARGET"), "{all}");
    }
}
