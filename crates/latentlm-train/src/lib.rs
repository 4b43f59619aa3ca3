//! Training of LatentLM: optimizer, averages, stages, the runs of each modality.
//!
//! The step loop is this crate's own (`docs/decisions/0001-step-loop.md`); Burn's training crate
//! gives the terminal dashboard and the interrupter, its optimizer crate AdamW and gradient
//! accumulation.
//!
//! ```no_run
//! use latentlm_pipelines::{ImageRecipe, Recipe};
//! use latentlm_train::{Interrupter, ProgressMode, RunEnd, RunOptions, train_image};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The recipe of the digits with fewer steps; a file of configs/ would come first.
//! let recipe = ImageRecipe::resolve(None, &["lm_train.steps=600".into()])?;
//! let options = RunOptions {
//!     path: "runs/digits".into(),
//!     resume: false,
//!     accept_changed_data: false,
//!     device: latentlm::device("cpu")?, // with the feature `cpu` of `latentlm`
//!     more_devices: Vec::new(),
//!     progress: ProgressMode::Plain,
//!     interrupter: Interrupter::new(),
//!     within: String::new(),
//! };
//! if let RunEnd::Finished { report, .. } = train_image(recipe, options)? {
//!     println!("{}", report.display());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Letters in shapes: `B` batch, `F` frames, `C` channels, `H x W` pixels, `N` samples of sound, or rows of all latents
//! of a batch, `T` latents, `Z` numbers a latent.

mod adamw;
mod adamw_record;
mod adversarial;
mod ahead;
mod clip;
mod codec_stage;
mod context;
mod error;
mod heard;
mod image;
mod latent_cache;
mod latents;
mod lm_recipe;
mod lm_stage;
mod memory;
mod mllm;
mod optimize;
mod options;
mod precision;
mod progress;
mod run;
mod shard;
mod skips;
mod speech;
mod spread;
mod stage;
mod teacher;
mod video;
mod weights;

pub use adversarial::{AdversarialTrainer, CodecSetup, CodecShard, NamedValues};
pub use ahead::Ahead;
pub use burn::train::Interrupter;
pub use codec_stage::{CodecTask, TaskCodec, codec_setup, train as train_codec};
pub use context::{Context, RunEnd, StartedRun, WholeReport, open_run, open_run_with};
pub use error::{Result, TrainError};
pub use image::*;
pub use latent_cache::LatentCache;
pub use latents::{Coding, Encoded};
pub use lm_recipe::{LmPlan, LmRecipe};
pub use lm_stage::{Corpus, Learner, LmSetup, LmTask, train as train_lm};
pub use memory::{Demand, Demanding, check as check_memory, check_demands, check_parameters};
pub use mllm::{mllm_setup, train_mllm, train_mllm_with};
pub use optimize::{StepReport, Trainer};
pub use options::{ProgressMode, RunOptions};
pub use progress::{minutes, phases, reading, say, stoppable};
pub use shard::Shard;
pub use speech::*;
pub use spread::{DataParallel, ToDevice};
pub use teacher::wrong_teacher;
pub use video::train_video;
