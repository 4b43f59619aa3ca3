//! The command line of LatentLM. `cargo xtask <command>` builds this binary with the features that the
//! device needs, and runs it.

#[cfg(feature = "bench")]
mod bench_decode;
#[cfg(feature = "bench")]
mod bench_kernels;
#[cfg(all(feature = "bench", feature = "published"))]
mod bench_like;
#[cfg(feature = "bench")]
mod bench_probe;
#[cfg(feature = "bench")]
mod bench_scaling;
#[cfg(feature = "bench")]
mod bench_worker;
mod caption;
mod clip_output;
mod codec;
#[cfg(feature = "compare")]
mod compare;
#[cfg(feature = "published")]
mod convert_voice;
mod data;
mod device;
#[cfg(feature = "published")]
mod dialogue;
mod eval_image;
mod eval_mllm;
mod eval_tts;
mod eval_video;
mod evaluation;
mod generate;
#[cfg(any(feature = "bench", feature = "published"))]
mod kv_cache;
mod list_adapters;
#[cfg(feature = "published")]
mod make_model;
mod memory;
mod notes;
mod phase;
#[cfg(feature = "published")]
mod published;
#[cfg(feature = "published")]
mod quantize;
#[cfg(feature = "published")]
mod realtime;
mod run;
#[cfg(feature = "published")]
mod said;
mod sample_image;
mod sample_video;
mod sampling;
mod signals;
mod speak;
#[cfg(feature = "compare")]
mod speak_codes;
mod stream;
mod texts;
mod train_image;
mod train_mllm;
mod train_tts;
mod train_video;
mod training;
#[cfg(feature = "published")]
mod transcribe;
#[cfg(feature = "verify")]
mod verify_reference;
mod written;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use latentlm_args::{ArgsError, Command, Project, escaped, parse_typed, tell};
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

/// Environment variable by which `cargo xtask` tells the commit of the sources.
const COMMIT: &str = "LATENTLM_COMMIT";
/// The commit of the sources when they were built, if they lay in a repository.
const BUILT_FROM: Option<&str> = option_env!("LATENTLM_BUILT_FROM");

fn main() -> ExitCode {
    let told = std::env::var(COMMIT).ok();
    if let Some(commit) = told.or_else(|| BUILT_FROM.map(str::to_owned)) {
        latentlm_eval::name_commit(commit);
    }
    let Cli { command } = parse_typed(std::env::args_os());
    let result = match command.check(&Project::here()) {
        Ok(()) => latentlm_kernels::on_workers(|| run(command)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Messages of libraries may have several lines; an error is always printed on one.
            let message = error.to_string();
            let line: Vec<&str> = message.split_whitespace().collect();
            tell!("error: {}", escaped(&line.join(" ")));
            exit_code(&error)
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::TrainImage(args) => train_image::run(args),
        Command::TrainTts(args) => train_tts::run(args),
        Command::TrainMllm(args) => train_mllm::run(args),
        Command::TrainVideo(args) => train_video::run(args),
        Command::SampleImage(args) => sample_image::run(args),
        Command::EvalImage(args) => eval_image::run(args),
        Command::Speak(args) => speak::run(args),
        #[cfg(feature = "published")]
        Command::ConvertVoice(args) => convert_voice::run(&args),
        Command::EvalTts(args) => eval_tts::run(args),
        #[cfg(feature = "published")]
        Command::Transcribe(args) => transcribe::run(&args),
        Command::Codec(args) => codec::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Caption(args) => caption::run(args),
        Command::EvalMllm(args) => eval_mllm::run(args),
        Command::SampleVideo(args) => sample_video::run(args),
        Command::EvalVideo(args) => eval_video::run(args),
        #[cfg(feature = "compare")]
        Command::Compare(args) => compare::run(args),
        #[cfg(feature = "bench")]
        Command::BenchDecode(args) => bench_decode::run(args),
        #[cfg(feature = "verify")]
        Command::VerifyReference(args) => verify_reference::run(args),
        #[cfg(feature = "published")]
        Command::MakeModel(args) => make_model::run(&args),
        #[cfg(feature = "published")]
        Command::Quantize(args) => quantize::run(&args),
        Command::Data(args) => data::run(args),
        Command::Run(args) => run::run(args),
        #[cfg(feature = "bench")]
        Command::BenchWorker(args) => bench_worker::run(args),
        #[cfg(feature = "bench")]
        Command::BenchKernels(args) => bench_kernels::run(args),
        #[cfg(feature = "bench")]
        Command::BenchProbe(args) => bench_probe::run(&args),
        #[cfg(feature = "bench")]
        Command::BenchScaling(args) => bench_scaling::run(args),
        Command::ListAdapters(args) => list_adapters::run(args),
        #[cfg(not(all(
            feature = "bench",
            feature = "compare",
            feature = "published",
            feature = "verify"
        )))]
        _ => anyhow::bail!(
            "this binary was built without that command; build it with the features bench, compare, \
             published and verify, which a fork with parts of its own can't have"
        ),
    }
}

/// Exit code 2 for wrong arguments, 1 for any other failure.
fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.is::<device::DeviceError>()
        || error.is::<latentlm::ModelError>()
        || error
            .downcast_ref::<ArgsError>()
            .is_some_and(ArgsError::is_usage)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `cargo xtask` refuses a wrong device before the build, with the same message as this binary.
    #[test]
    fn devices_are_refused_in_the_same_words() {
        for name in ["tpu", "cpu:0", "cuda:x", ""] {
            let early = latentlm_args::DeviceName::parse(name).unwrap_err();
            let late = device::device(name).unwrap_err();
            assert_eq!(early.to_string(), late.to_string());
        }
        for name in ["cpu,", "cpu,1", ",cpu"] {
            let early = latentlm_args::DeviceName::parse_list(name).unwrap_err();
            let late = device::devices(name).unwrap_err();
            assert_eq!(early.to_string(), late.to_string());
        }
    }
}
