//! Training of LatentLM: optimizer, averages, stages, the runs of each modality.
//!
//! The step loop is this crate's own (`docs/decisions/0001-step-loop.md`); Burn's training crate
//! gives the terminal dashboard and the interrupter, its optimizer crate AdamW and gradient
//! accumulation.

mod adamw;
mod adamw_record;
mod adversarial;
mod clip;
mod codec_stage;
mod context;
mod error;
mod image;
mod mllm;
mod optimize;
mod precision;
mod progress;
mod speech;
mod spread;
pub mod stage;

pub use adversarial::{AdversarialTrainer, CodecPart, CodecParts, Decoded, NamedValues};
pub use burn::train::Interrupter;
pub use codec_stage::{CodecTask, TaskCodec, codec_parts, train as train_codec};
pub use context::{Context, RunEnd, RunOptions, open_run};
pub use error::TrainError;
pub use image::{Batches, Encoded, Part as LmPart, encode, gather, psnr_db, train_image};
pub use mllm::{Part as MixedPart, Share, train_mixed};
pub use optimize::{Player, StepReport};
pub use precision::check as check_precision;
pub use progress::{ProgressMode, minutes};
pub use speech::train_speech;
pub use spread::{Portable, Spread};
