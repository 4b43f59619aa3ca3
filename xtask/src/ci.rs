//! `cargo xtask ci`: everything that a change must pass.

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Result;
use latentlm_args::say;

use crate::cargo::{cargo, line, status};
use crate::{check_devices, test};

/// Run everything that a change must pass, cheap checks first; stops at the first failure.
#[derive(clap::Args)]
#[command(after_help = "Example: cargo xtask ci")]
pub struct Args {}

/// Members that are not libraries.
const NOT_PUBLISHED: [&str; 3] = ["latentlm-cli", "latentlm-tests", "xtask"];

struct Step {
    name: &'static str,
    command: Command,
    /// The reason why the step can't run here; `None` if it can.
    skip: Option<&'static str>,
}

enum Outcome {
    Passed(Duration),
    Failed(Duration),
    Skipped(&'static str),
    NotReached,
}

impl Args {
    /// Runs the steps and prints a table of their times.
    pub fn run(self) -> Result<ExitCode> {
        let start = Instant::now();
        let mut failed = false;
        let mut table = Vec::new();
        for step in steps() {
            let name = step.name;
            let outcome = if failed {
                Outcome::NotReached
            } else {
                run(step)?
            };
            failed |= matches!(outcome, Outcome::Failed(_));
            table.push((name, outcome));
        }
        print_table(&table, start.elapsed());
        Ok(if failed {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// Cheap steps first: a misplaced brace should not cost a build of Burn.
fn steps() -> Vec<Step> {
    let step = |name, command| Step {
        name,
        command,
        skip: None,
    };
    vec![
        step("format", with(&["fmt", "--all", "--check"])),
        // The tidy rules. In this crate's own profile and target folder, where it is built already.
        step(
            "tidy",
            with(&[
                "test",
                "--quiet",
                "--profile",
                "xtask",
                "--package",
                "xtask",
                "--target-dir",
                "target/xtask",
            ]),
        ),
        licences(),
        step(
            "clippy",
            with(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]),
        ),
        step("test", test::workspace_tests()),
        step("docs", docs()),
        step("package", package()),
        step("check wgpu, vulkan, cuda", check_devices::check()),
        // After the tests, which build Burn for it.
        step("fork", with(&["xtask", "fork"])),
    ]
}

fn with(args: &[&str]) -> Command {
    let mut command = cargo();
    command.args(args);
    command
}

fn docs() -> Command {
    let mut command = with(&["doc", "--workspace", "--no-deps"]);
    command.env("RUSTDOCFLAGS", "-Dwarnings");
    command
}

/// Packages the library crates as for publication, without building them. Fails if a crate depends on
/// something that a registry lacks: a path without a version, or a file outside its folder.
fn package() -> Command {
    let mut command = with(&["package", "--workspace", "--no-verify", "--no-metadata"]);
    command.args(["--allow-dirty", "--offline"]);
    for name in NOT_PUBLISHED {
        command.args(["--exclude", name]);
    }
    command
}

/// Checks licences, sources and bans of `deny.toml` with cargo-deny. It takes minutes to compile, so it is
/// used if it is installed, and never installed from here.
fn licences() -> Step {
    let installed = with(&["deny", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    Step {
        name: "licences",
        command: with(&[
            "deny",
            "check",
            "--hide-inclusion-graph",
            "licenses",
            "bans",
            "sources",
        ]),
        skip: (!installed).then_some("cargo-deny is not installed (cargo install cargo-deny)"),
    }
}

fn run(mut step: Step) -> Result<Outcome> {
    if let Some(reason) = step.skip {
        say!("\n== {}: skipped, {reason}", step.name);
        return Ok(Outcome::Skipped(reason));
    }
    say!("\n== {}: {}", step.name, line(&step.command));
    let start = Instant::now();
    let passed = status(&mut step.command)?.success();
    let time = start.elapsed();
    Ok(if passed {
        Outcome::Passed(time)
    } else {
        Outcome::Failed(time)
    })
}

fn print_table(table: &[(&str, Outcome)], total: Duration) {
    say!("");
    for (name, outcome) in table {
        let (verdict, time) = match outcome {
            Outcome::Passed(time) => ("passed", format!("{:8.1} s", time.as_secs_f64())),
            Outcome::Failed(time) => ("FAILED", format!("{:8.1} s", time.as_secs_f64())),
            Outcome::Skipped(reason) => ("skipped", format!("  {reason}")),
            Outcome::NotReached => ("not reached", String::new()),
        };
        say!("{name:<12} {verdict:<12}{time}");
    }
    say!("{:<12} {:<12}{:8.1} s", "total", "", total.as_secs_f64());
}
