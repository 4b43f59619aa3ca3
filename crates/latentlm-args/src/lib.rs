//! The arguments of every `latentlm` command, and what can be checked of them without tensors.
//!
//! The binary `latentlm` takes minutes to build for the first time, because Burn does. This crate
//! takes seconds. `cargo xtask` and the binary share it: `cargo xtask` shows the help, refuses what is
//! wrong and only then starts a build; the binary runs what was asked for. Both say the same, because
//! both take flags, defaults, help and messages from here.
//!
//! [`Command`] is the one table of commands. A command's arguments are a plain structure with public
//! fields; `run` functions in the binary take them. [`Command::check`] looks at what clap alone can't
//! know: devices, files that are read, runs that are used or begun, the form of overrides.
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
//! A new command is a structure in a module here, a variant of [`Command`] with a line in its `check`
//! and `device`, and a `run` function in the binary.

mod bench;
mod codec;
mod command;
mod compare;
mod data;
mod device;
mod error;
mod image;
mod mllm;
mod number;
pub mod overrides;
mod project;
mod shared;
mod text;
mod tts;
mod verify;

pub use bench::{BenchDecode, BenchKernels, BenchScaling, BenchWorker, ListAdapters};
pub use codec::{Codec, CodecFiles};
pub use command::Command;
pub use compare::{Compare, CompareImage, CompareMllm, CompareSampling, CompareSigma};
pub use data::{Data, DataCheck, Espeak};
pub use device::{DeviceKind, DeviceName};
pub use error::ArgsError;
pub use image::{EvalImage, SampleImage, TrainImage};
pub use mllm::{Caption, EvalMllm, Generate, TrainMllm};
pub use number::{finite, not_negative, probability};
pub use project::{Project, run_path};
pub use shared::{Drawing, HeadNumbers, Progress, Sampling, Training, TrainingNumbers};
pub use text::escaped;
pub use tts::{EvalTts, Speak, TrainTts};
pub use verify::VerifyReference;
