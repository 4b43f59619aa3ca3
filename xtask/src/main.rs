//! `cargo xtask <command>`: the project's own commands.
//!
//! This crate parses, picks cargo features and starts other programs. It contains no tensors, so
//! it builds in seconds; what needs Burn lives in the binary `latentlm`, which the first group of
//! commands builds and runs.

#![expect(
    clippy::print_stdout,
    reason = "a program for the terminal; libraries of this workspace never print"
)]

mod bench;
mod cargo;
mod check_devices;
mod ci;
mod forward;
mod live;
mod python;
mod speech;
mod test;
mod test_device;
#[cfg(test)]
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use forward::Forwarded;

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
enum Command {
    /// Train an image codec and the language model on its latents.
    #[command(disable_help_flag = true)]
    TrainImage(Forwarded),
    /// Train a speech codec and the language model that speaks through it.
    #[command(disable_help_flag = true)]
    TrainTts(Forwarded),
    /// Say a text in the voice of a trained run.
    #[command(disable_help_flag = true)]
    Speak(Forwarded),
    /// Measure a trained voice: codec, words understood, lengths, times.
    #[command(disable_help_flag = true)]
    EvalTts(Forwarded),
    /// Turn sound into latents and back with a trained run's codec.
    #[command(disable_help_flag = true)]
    Codec(Forwarded),
    /// Draw images from a trained run.
    #[command(disable_help_flag = true)]
    SampleImage(Forwarded),
    /// Measure reconstruction and generation of a trained run.
    #[command(disable_help_flag = true)]
    EvalImage(Forwarded),
    /// Train one model of text and pictures.
    #[command(disable_help_flag = true)]
    TrainMllm(Forwarded),
    /// Go on with a prompt of text and pictures.
    #[command(disable_help_flag = true)]
    Generate(Forwarded),
    /// Say what a picture shows.
    #[command(disable_help_flag = true)]
    Caption(Forwarded),
    /// Measure a model of text and pictures.
    #[command(disable_help_flag = true)]
    EvalMllm(Forwarded),
    /// Compare LatentLM with its rivals, codecs with each other, ways of sampling.
    #[command(disable_help_flag = true)]
    Compare(Forwarded),
    /// Time generation position by position: backbone and head apart.
    #[command(disable_help_flag = true)]
    BenchDecode(Forwarded),
    /// Compare with numbers that the reference implementations computed.
    #[command(disable_help_flag = true)]
    VerifyReference(Forwarded),
    /// Look into dataset folders.
    #[command(disable_help_flag = true)]
    Data(Forwarded),
    /// Time our workloads against the same in PyTorch.
    Bench(bench::Args),
    /// Run the tests of the whole workspace.
    Test(test::Args),
    /// Run everything that a change must pass, cheap checks first.
    Ci(ci::Args),
    /// Type-check the binary for the devices that this machine need not have.
    CheckDevices(check_devices::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::TrainImage(args) => args.run("train-image"),
        Command::TrainTts(args) => args.run("train-tts"),
        Command::Speak(args) => args.run("speak"),
        Command::EvalTts(args) => speech::run(args),
        Command::Codec(args) => args.run("codec"),
        Command::SampleImage(args) => args.run("sample-image"),
        Command::EvalImage(args) => args.run("eval-image"),
        Command::TrainMllm(args) => args.run("train-mllm"),
        Command::Generate(args) => args.run("generate"),
        Command::Caption(args) => args.run("caption"),
        Command::EvalMllm(args) => args.run("eval-mllm"),
        Command::Compare(args) => args.run("compare"),
        Command::BenchDecode(args) => args.run("bench-decode"),
        Command::VerifyReference(args) => live::run(args),
        Command::Data(args) => args.run("data"),
        Command::Bench(args) => args.run(),
        Command::Test(args) => args.run(),
        Command::Ci(args) => args.run(),
        Command::CheckDevices(args) => args.run(),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_parses() {
        Cli::command().debug_assert();
    }

    /// Commands of our own show an example; forwarded ones show the binary's help, which has its own.
    #[test]
    fn own_commands_have_an_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.clone().render_long_help().to_string();
            let forwarded = command.is_disable_help_flag_set();
            assert!(forwarded || help.contains("Example"), "{help}");
        }
    }
}
