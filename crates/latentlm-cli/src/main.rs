//! The command line of LatentLM. `cargo xtask <command>` builds and runs this binary with the
//! features that the asked device needs.
#![allow(clippy::print_stdout)] // A command's results go to standard output.

mod bench_decode;
mod bench_kernels;
mod bench_scaling;
mod bench_worker;
mod caption;
mod codec;
mod compare;
mod data;
mod device;
mod eval_image;
mod eval_mllm;
mod eval_tts;
mod generate;
mod list_adapters;
mod sample_image;
mod sampling;
mod speak;
mod train_image;
mod train_mllm;
mod train_tts;
mod training;
mod verify_reference;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use latentlm_eval::EvalError;
use latentlm_pipelines::PipelineError;
use latentlm_train::TrainError;

/// LatentLM: train and sample latent language models.
#[derive(Parser)]
#[command(name = "latentlm", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    TrainImage(train_image::TrainImage),
    TrainTts(train_tts::TrainTts),
    SampleImage(sample_image::SampleImage),
    EvalImage(eval_image::EvalImage),
    Speak(speak::Speak),
    EvalTts(eval_tts::EvalTts),
    TrainMllm(train_mllm::TrainMllm),
    Generate(generate::Generate),
    Caption(caption::Caption),
    EvalMllm(eval_mllm::EvalMllm),
    #[command(subcommand)]
    Codec(codec::Codec),
    #[command(subcommand)]
    Compare(compare::Compare),
    BenchDecode(bench_decode::BenchDecode),
    VerifyReference(verify_reference::VerifyReference),
    #[command(hide = true)]
    BenchWorker(bench_worker::BenchWorker),
    #[command(hide = true)]
    BenchKernels(bench_kernels::BenchKernels),
    #[command(hide = true)]
    BenchScaling(bench_scaling::BenchScaling),
    #[command(hide = true)]
    ListAdapters(list_adapters::ListAdapters),
    /// Looks at datasets
    #[command(subcommand)]
    Data(data::Data),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let result = latentlm_kernels::on_workers(|| match command {
        Command::TrainImage(command) => command.run(),
        Command::TrainTts(command) => command.run(),
        Command::SampleImage(command) => command.run(),
        Command::EvalImage(command) => command.run(),
        Command::Speak(command) => command.run(),
        Command::EvalTts(command) => command.run(),
        Command::TrainMllm(command) => command.run(),
        Command::Generate(command) => command.run(),
        Command::Caption(command) => command.run(),
        Command::EvalMllm(command) => command.run(),
        Command::Codec(command) => command.run(),
        Command::Compare(command) => command.run(),
        Command::BenchDecode(command) => command.run(),
        Command::VerifyReference(command) => command.run(),
        Command::BenchWorker(command) => command.run(),
        Command::BenchKernels(command) => command.run(),
        Command::BenchScaling(command) => command.run(),
        Command::ListAdapters(command) => command.run(),
        Command::Data(command) => command.run(),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, whatever a library put into its message.
            let message = error.to_string();
            let line: Vec<&str> = message.split_whitespace().collect();
            let _ = writeln!(std::io::stderr(), "error: {}", line.join(" "));
            exit_code(&error)
        }
    }
}

/// 2 where the user's words are wrong, 1 where something failed.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.is::<device::DeviceError>()
        || error.is::<latentlm::ModelError>()
        || error
            .downcast_ref::<PipelineError>()
            .is_some_and(PipelineError::is_usage)
        || error
            .downcast_ref::<EvalError>()
            .is_some_and(EvalError::is_usage)
        || error
            .downcast_ref::<TrainError>()
            .is_some_and(TrainError::is_usage);
    ExitCode::from(if usage { 2 } else { 1 })
}
