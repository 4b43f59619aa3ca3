//! The arguments of every `latentlm` command, and all checks of them that need no tensors.
//!
//! The first build of the binary `latentlm` takes minutes, because of Burn. This crate builds in
//! seconds. `cargo xtask` and the binary share it, so that both have the same flags, defaults, help and
//! error messages: `cargo xtask` shows the help and refuses wrong arguments before it starts a build; the
//! binary then runs the command.
//!
//! [`Command`] is the one table of commands. The arguments of a command are a plain struct with public
//! fields, which its `run` function in the binary takes. [`Command::check`] checks what clap can't: names
//! of devices, input files, existing or new runs, and the form of overrides. [`Command::check_recipe`]
//! checks the keys and values of a recipe against the tables in the sources; the binary has these tables
//! compiled in and checks by itself.
//!
//! ```
//! use clap::Parser;
//! use latentlm_args::{Command, Project};
//!
//! #[derive(Parser)]
//! struct Cli {
//!     #[command(subcommand)]
//!     command: Command,
//! }
//!
//! let cli = Cli::parse_from(["latentlm", "train-image", "--run", "small", "lm.width=96"]);
//! cli.command.check(&Project::here())?;
//! let Command::TrainImage(args) = cli.command else { panic!("another command") };
//! assert_eq!((args.run.as_str(), args.training.device.as_str()), ("small", "cpu"));
//! assert_eq!(args.training.overrides, ["lm.width=96"]);
//! # Ok::<(), latentlm_args::ArgsError>(())
//! ```
//!
//! A new command needs a struct in a module here, a variant of [`Command`] with a line in `check` and in
//! `devices`, and a `run` function in the binary.

mod bench;
mod codec;
mod command;
mod compare;
mod data;
mod device;
mod dialogue;
mod endings;
mod error;
mod image;
mod make_model;
mod mllm;
mod number;
mod output;
mod project;
mod quantize;
mod run;
mod shared;
mod transcribe;
mod tts;
mod typed;
mod verify;
mod video;
mod voice;

pub use bench::{BenchDecode, BenchKernels, BenchProbe, BenchScaling, BenchWorker, ListAdapters};
pub use codec::{Codec, CodecFiles};
pub use command::Command;
pub use compare::{
    Compare, CompareFastMllm, CompareFastTts, CompareHeads, CompareImage, CompareLatents,
    CompareMllm, CompareSampling, CompareSigma, CompareTts,
};
pub use data::{ClipSplit, Data, DataCheck, DataClips, DataVoices, Espeak};
pub use device::{DeviceKind, DeviceName};
pub use dialogue::{Dialogue, DialogueSampler, numbered_voice};
pub use endings::PICTURE_ENDINGS;
pub use error::ArgsError;
pub use image::{EvalImage, SampleImage, TrainImage};
pub use latentlm_keys::escaped;
pub use make_model::{MakeModel, PublishedModel, StoredNumbers};
pub use mllm::{Caption, EvalMllm, Generate, TrainMllm};
pub use number::{guidance_scale, noise_temperature, not_negative, positive, probability};
pub use output::{say_line, tell_line};
pub use project::{Project, run_path};
pub use quantize::{CacheType, Quantize, QuantizedNumbers, WeightNumbers};
pub use run::{Run, RunCheck};
pub use shared::{Drawing, HeadNumbers, Progress, Sampling, Training, TrainingNumbers};
pub use transcribe::{Transcribe, Transcript};
pub use tts::{EvalTts, Judges, MOST_TEXT_BYTES, Speak, TrainTts};
pub use typed::parse_typed;
pub use verify::VerifyReference;
pub use video::{EvalVideo, SampleVideo, TrainVideo};
pub use voice::ConvertVoice;
