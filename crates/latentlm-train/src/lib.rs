//! Training of LatentLM: recipes, stages, checkpoints, evaluation, reports.
//!
//! The step loop is this crate's own (`docs/decisions/0001-step-loop.md`); Burn's training crate
//! gives the terminal dashboard and the interrupter, its optimizer crate AdamW and gradient
//! accumulation.

mod adamw;
mod batches;
mod bench;
mod classifier;
mod clip;
mod context;
mod decode_bench;
mod distance;
mod ema;
mod error;
mod evaluate;
mod generator;
mod grid;
mod image_run;
mod memory;
mod metrics;
mod optimize;
mod plot;
mod progress;
mod recipe;
mod report;
mod run;
mod schedule;
mod stage_codec;
mod stage_lm;

pub use bench::{ImageSizes, SpeechSizes, WORKLOADS, Workload};
pub use burn::train::Interrupter;
pub use decode_bench::{DecodeTimes, decode_times};
pub use distance::{FeatureStats, frechet_distance, psnr, ssim};
pub use ema::Ema;
pub use error::TrainError;
pub use evaluate::{EvaluateOptions, ImageEvaluation, evaluate_image};
pub use generator::Generator;
pub use grid::{image_grid, png_bytes, save_png};
pub use image_run::{RunEnd, RunOptions, train_image};
pub use memory::peak_memory_bytes;
pub use metrics::{MetricLine, MetricsLog};
pub use optimize::{Player, StepReport};
pub use progress::{ProgressMode, minutes};
pub use recipe::{DataConfig, ImageRecipe, LmConfig, SampleConfig, StageConfig};
pub use run::{Manifest, RunFolder};
pub use schedule::LearningRate;
