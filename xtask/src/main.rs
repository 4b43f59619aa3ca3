//! `cargo xtask <command>`: the project's own commands.
//!
//! This crate parses and checks arguments, picks cargo features and starts other programs. It does not depend
//! on Burn, so it builds in seconds. Everything that needs Burn is in the binary `latentlm`. The binary's
//! commands and arguments are in `latentlm-args`, so that wrong arguments are refused before it is built.

mod announce;
mod asides;
mod bench;
mod build;
mod cargo;
mod check_devices;
mod ci;
mod drivers;
mod fork;
mod forward;
mod fuzz;
mod gpu_report;
mod kills;
mod live;
mod pack;
mod python;
mod speech;
mod sweep;
mod test;
mod test_device;
mod test_repeat;
#[cfg(test)]
mod tidy;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use latentlm_args::{ArgsError, Project, escaped, parse_typed, tell};

use asides::Aside;
use cargo::project_root;
use drivers::System;

/// Commands of the latentlm workspace. All run at the repository's root: relative paths count from there.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", subcommand_required = true)]
#[command(arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask train-image                      train on the digits that ship, on the CPU
  cargo xtask sample-image --help              help of one command
  cargo xtask ci                               everything that a change must pass

Exit code: 0 success, 1 failure, 2 usage.";

#[derive(Subcommand)]
#[allow(
    clippy::large_enum_variant,
    reason = "there is one, and clap flattens no box"
)]
enum Command {
    #[command(flatten)]
    Latent(latentlm_args::Command),
    Bench(bench::Args),
    Build(build::Args),
    GpuReport(gpu_report::Args),
    Test(test::Args),
    Ci(ci::Args),
    CheckDevices(check_devices::Args),
    Fork(fork::Args),
    Fuzz(fuzz::Args),
    Kills(kills::Args),
    Sweep(sweep::Args),
}

fn main() -> ExitCode {
    let words = std::env::args_os().skip(1).collect();
    run(words).unwrap_or_else(|error| match error.downcast_ref::<ArgsError>() {
        // The same message and exit code as the binary's.
        Some(refused) => {
            tell!("error: {}", escaped(&refused.to_string()));
            ExitCode::from(if refused.is_usage() { 2 } else { 1 })
        }
        None => {
            tell!("error: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn run(mut words: Vec<OsString>) -> Result<ExitCode> {
    let aside = Aside::take(&mut words)?;
    let typed = std::iter::once(OsString::from("cargo xtask")).chain(words.iter().cloned());
    let Cli { command } = parse_typed(typed);
    match command {
        Command::Latent(command) => {
            let project = Project::at(project_root());
            forward::check(&command, &project, &System::here())?;
            aside.put(&command, &mut words)?;
            forward::run(&command, &words)
        }
        Command::Bench(args) => args.run(),
        Command::Build(args) => args.run(),
        Command::GpuReport(args) => args.run(),
        Command::Test(args) => args.run(),
        Command::Ci(args) => args.run(),
        Command::CheckDevices(args) => args.run(),
        Command::Fork(args) => args.run(),
        Command::Fuzz(args) => args.run(),
        Command::Kills(args) => args.run(),
        Command::Sweep(args) => args.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_parses() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_and_an_example() {
        let example = |command: &clap::Command| {
            let help = command.clone().render_long_help().to_string();
            help.contains("Example")
        };
        for command in Cli::command().get_subcommands() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            let mut parts = command.get_subcommands().peekable();
            let in_parts = parts.peek().is_some() && parts.all(example);
            assert!(example(command) || in_parts, "{name}");
        }
    }

    /// The help lists all commands, also those of the binary, without building it.
    #[test]
    fn all_commands_are_listed() {
        let help = Cli::command().render_help().to_string();
        for (name, about) in [
            ("train-image", "Trains an image codec"),
            ("data", "Looks at datasets"),
            ("run", "Looks at runs"),
            ("bench", "Time our workloads"),
            ("build", "Build the binary for a device"),
            ("gpu-report", "Make tables"),
            ("check-devices", "Type-check"),
            ("fork", "Swap each part"),
            ("fuzz", "Read damaged files"),
            ("kills", "Kill trainings"),
            ("sweep", "Try every key"),
        ] {
            let of = |line: &str| line.trim_start().starts_with(name) && line.contains(about);
            assert!(help.lines().any(of), "{name}: {help}");
        }
        assert!(!help.contains("bench-worker"), "{help}");
        assert!(
            help.starts_with("Commands of the latentlm workspace"),
            "{help}"
        );
    }

    #[test]
    fn wrong_words_have_the_binarys_exit_code() {
        for words in [
            &["cargo xtask", "train-image", "--stepz"][..],
            &["cargo xtask", "trian-image"],
            &["cargo xtask", "sample-image", "--grid"],
            &["cargo xtask", "speak", "--out", "a", "--guidance", "nan"],
        ] {
            let Err(error) = Cli::try_parse_from(words.iter().copied()) else {
                panic!("{words:?}")
            };
            assert_eq!(error.exit_code(), 2, "{words:?}");
            assert!(!error.to_string().contains("latentlm"), "{error}");
        }
    }
}
