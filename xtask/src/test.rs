//! `cargo xtask test`.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Result, ensure};
use latentlm_args::say;

use crate::cargo::{cargo, line, status};
use crate::test_device;
use crate::test_repeat::Repetition;

/// Run the tests of the whole workspace.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                     all tests
  cargo xtask test posterior           tests with `posterior` in their names
  cargo xtask test -p latentlm-core    tests of one crate
  cargo xtask test -- --nocapture      options of the test runner
  cargo xtask test --device wgpu       reference cases, a step and a sample, on that device
  cargo xtask test --repeat 20 --threads 1,2,8,16    all tests, 20 times for each number of threads
  cargo xtask test --repeat 20 --at-once 2           always two runs at the same time

Repeated tests are built once. Each run prints one line. The output of failed runs is in target/test-repeat
until tests are repeated again. Options of this command come before ARGS.")]
pub struct Args {
    /// Instead of the tests: reference cases, and a training step and a sample of each modality, on
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th; `skipped` where there is no such device
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["args", "runner", "repeat", "threads", "at_once"])]
    device: Option<String>,
    /// Run the tests so many times, and go on after a failure; exit code 1 if any run failed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    repeat: Option<u64>,
    /// Numbers of test threads, such as 1,2,8,16: each round of --repeat runs the tests once with each
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u64).range(1..=1024)
    )]
    threads: Vec<u64>,
    /// Number of repeated runs at the same time
    #[arg(
        long,
        value_name = "N",
        requires = "repeat",
        value_parser = clap::value_parser!(u16).range(1..=256)
    )]
    at_once: Option<u16>,
    /// Further arguments of `cargo test`: a filter, `--package X`
    #[arg(allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
    /// Options of the test runner
    #[arg(last = true, value_name = "OPTIONS")]
    runner: Vec<String>,
}

impl Args {
    /// Runs the tests and prints one closing line.
    pub fn run(self) -> Result<ExitCode> {
        if let Some(device) = &self.device {
            return test_device::run(device);
        }
        if self.repeat.is_some() || !self.threads.is_empty() {
            return self.repetition()?.run();
        }
        let start = Instant::now();
        let mut command = self.command(None);
        let passed = status(&mut command)?.success();
        let verdict = if passed { "passed" } else { "FAILED" };
        let seconds = start.elapsed().as_secs();
        say!("tests {verdict} in {seconds} s: {}", line(&command));
        Ok(if passed {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The tests as they were asked for, with one more option of `cargo test`.
    fn command(&self, option: Option<&str>) -> Command {
        let mut command = if picks_packages(&self.args) {
            let mut command = cargo();
            command.arg("test");
            command
        } else {
            workspace_tests()
        };
        command.args(option).args(&self.args);
        if !self.runner.is_empty() {
            command.arg("--").args(&self.runner);
        }
        command
    }

    /// The repeated tests.
    ///
    /// # Errors
    /// If the options of the test runner have a number of threads too, which would override the list.
    fn repetition(self) -> Result<Repetition> {
        // Behind a filter, clap counts the options of the test runner among the arguments of cargo.
        let mut options = self.args.iter().chain(&self.runner);
        let has_threads = options.any(|option| option.starts_with("--test-threads"));
        ensure!(
            self.threads.is_empty() || !has_threads,
            "--threads and --test-threads exclude each other"
        );
        // A run that ended at its first failure would say nothing about the tests after it.
        let keep_going = "--no-fail-fast";
        let is_typed = self.args.iter().any(|arg| arg == keep_going);
        Ok(Repetition {
            build: self.command(Some("--no-run")),
            tests: self.command((!is_typed).then_some(keep_going)),
            rounds: self.repeat.unwrap_or(1),
            threads: self.threads,
            at_once: self.at_once.map_or(1, usize::from),
        })
    }
}

/// Whether the arguments select packages: `--workspace` would then build everything anyway.
fn picks_packages(args: &[String]) -> bool {
    args.iter()
        .any(|arg| arg.starts_with("-p") || arg.starts_with("--package"))
}

/// All tests, with the same profile and features as `cargo xtask train-image`, so that Burn is compiled
/// only once.
pub fn workspace_tests() -> Command {
    let mut command = cargo();
    command.args(["test", "--workspace"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: Args,
    }

    fn typed(words: &[&str]) -> Args {
        let words = std::iter::once("test").chain(words.iter().copied());
        Typed::parse_from(words).args
    }

    #[test]
    fn without_flags_the_tests_run_once() {
        let args = typed(&["posterior", "--", "--nocapture"]);
        assert!(args.repeat.is_none() && args.threads.is_empty());
        let all = line(&args.command(None));
        assert!(
            all.ends_with(" test --workspace posterior -- --nocapture"),
            "{all}"
        );
        let one = line(&typed(&["-p", "latentlm-core"]).command(None));
        assert!(one.ends_with(" test -p latentlm-core"), "{one}");
    }

    #[test]
    fn repeated_tests_are_built_once_and_go_on_after_a_failure() {
        let args = typed(&["--repeat", "20", "--threads", "1,2,8,16"]);
        let repeated = args.repetition().unwrap();
        assert_eq!(repeated.rounds, 20);
        assert_eq!(repeated.threads, [1, 2, 8, 16]);
        let (build, tests) = (line(&repeated.build), line(&repeated.tests));
        assert!(build.ends_with(" test --workspace --no-run"), "{build}");
        assert!(
            tests.ends_with(" test --workspace --no-fail-fast"),
            "{tests}"
        );

        assert_eq!(repeated.at_once, 1);
        let two = typed(&["--repeat", "20", "--at-once", "2"]);
        assert_eq!(two.repetition().unwrap().at_once, 2);

        let words = ["--threads=4", "-p", "a", "--no-fail-fast", "--", "--exact"];
        let repeated = typed(&words).repetition().unwrap();
        assert_eq!((repeated.rounds, &repeated.threads[..]), (1, &[4][..]));
        let tests = line(&repeated.tests);
        assert!(
            tests.ends_with(" test -p a --no-fail-fast -- --exact"),
            "{tests}"
        );

        let repeated = typed(&["--repeat", "3"]).repetition().unwrap();
        assert!(repeated.rounds == 3 && repeated.threads.is_empty());
    }

    #[test]
    fn wrong_repetitions_are_refused() {
        for words in [
            &["test", "--repeat", "0"][..],
            &["test", "--repeat", "often"],
            &["test", "--threads", "0"],
            &["test", "--threads", "1,,2"],
            &["test", "--threads", "1,2000"],
            &["test", "--at-once", "2"],
            &["test", "--repeat", "2", "--at-once", "0"],
            &["test", "--device", "cpu", "--repeat", "2"],
            &["test", "--device", "cpu", "--threads", "2"],
        ] {
            assert!(
                Typed::try_parse_from(words.iter().copied()).is_err(),
                "{words:?}"
            );
        }
        let runner = ["--threads", "2", "--", "--test-threads=1"];
        assert!(typed(&runner).repetition().is_err());
        let behind_filter = ["--threads", "2", "posterior", "--", "--test-threads=1"];
        assert!(typed(&behind_filter).repetition().is_err());
        let once = typed(&["--repeat", "2", "--", "--test-threads=1"]);
        assert!(once.repetition().is_ok());
    }
}
