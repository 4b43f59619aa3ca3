//! `cargo xtask test`.

use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::Result;
use latentlm_args::say;

use crate::cargo::{cargo, line, status};
use crate::test_device;

/// Run the tests of the whole workspace.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test                     all tests
  cargo xtask test posterior           tests with `posterior` in their names
  cargo xtask test -p latentlm-core    tests of one crate
  cargo xtask test -- --nocapture      options of the test runner
  cargo xtask test --device wgpu       reference cases, a step and a sample, on that device")]
pub struct Args {
    /// Instead of the tests: reference cases, and a training step and a sample of each modality, on
    /// cpu, wgpu, vulkan or cuda; wgpu:N is the N-th; `skipped` where there is no such device
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["args", "runner"])]
    device: Option<String>,
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
        let start = Instant::now();
        let mut command = if picks_packages(&self.args) {
            let mut command = cargo();
            command.arg("test");
            command
        } else {
            workspace_tests()
        };
        command.args(&self.args);
        if !self.runner.is_empty() {
            command.arg("--").args(&self.runner);
        }
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
