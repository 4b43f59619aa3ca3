//! Trained models in use: run folders, recipes, and everything that draws, speaks, captions or
//! reconstructs with them. No optimizer and no terminal: a program that uses a run compiles no
//! training.
//!
//! A [`Pipeline`] is a codec, a language model and its vocabulary, loaded from one [`Checkpoint`], a folder or
//! its files in memory: [`ImagePipeline`] draws pictures of a class, [`SpeechPipeline`] says texts,
//! [`MllmPipeline`] draws, captions and writes, [`VideoPipeline`] draws, continues and captions clips.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use latentlm_pipelines::{ImagePipeline, image_grid, save_png};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = latentlm::device("cpu")?; // with the feature `cpu`
//! let pipeline = ImagePipeline::from_run(Path::new("runs/mnist"), &device)?;
//! let options = pipeline.recipe().sample_options();
//! let sevens = pipeline.draw(&[7; 16], &options, 5)?; // [16, 1, 32, 32]
//! save_png(&image_grid(sevens, 4, 2), Path::new("sevens.png"))?;
//! # Ok(())
//! # }
//! ```
//!
//! Pictures of classes are always there; [`SpeechPipeline`] and [`SpeechCodec`] stand behind the feature `speech`,
//! [`MllmPipeline`] behind `mllm`, [`VideoPipeline`] behind `video`, all on by default: without them a program
//! compiles a quarter fewer packages.
//! Backends are features too, off by default: `cpu`, `wgpu`, `vulkan`, `cuda`.
//!
//! Letters of shapes: `B` batch, `F` frames, `C` channels, `H x W` pixels, `N` samples of sound, `T` latents, `Z`
//! numbers per latent.

mod changed;
mod checkpoint;
mod data;
mod drawing;
mod error;
mod image;
mod integrity;
mod inventory;
#[cfg(any(feature = "mllm", feature = "speech"))]
mod known;
mod lock;
mod manifest;
mod metrics;
#[cfg(feature = "mllm")]
mod mllm;
mod pipeline;
mod recipe;
mod run;
mod run_check;
mod schedule;
pub mod skipped;
#[cfg(feature = "speech")]
mod speech;
mod tensors;
#[cfg(any(feature = "mllm", feature = "speech"))]
mod text;
#[cfg(feature = "video")]
mod video;
mod within;

pub use changed::{ChangedKey, changed_keys};
pub use checkpoint::Checkpoint;
pub use data::TrainingData;
pub use error::{PipelineError, Result};
pub use image::*;
pub use integrity::{FileSum, FileSums, Wanted};
pub use inventory::{Changes, Inventory};
#[cfg(any(feature = "mllm", feature = "speech"))]
pub use known::{KnownText, Unheard};
pub use latentlm_keys::{Keys, RecipeError, printable};
pub use lock::RunLock;
pub use manifest::{Manifest, SkippedSteps};
pub use metrics::{MetricLine, MetricsLog, series};
#[cfg(feature = "mllm")]
pub use mllm::*;
pub use pipeline::{ModelRecipe, Pipeline, Vocabulary, load_codec};
pub use recipe::*;
pub use run::{BegunStage, Found, RunFolder, ema_file, weights_file};
pub use run_check::*;
pub use schedule::{LearningRate, ema_decay};
pub use skipped::SkippedList;
#[cfg(feature = "speech")]
pub use speech::*;
pub use tensors::{draw_latents, host_values, label_tensor};
#[cfg(any(feature = "mllm", feature = "speech"))]
pub use text::{TextVocabulary, TokenizerConfig};
#[cfg(feature = "video")]
pub use video::*;
pub use within::{checked_within, keys_within};

/// A checkpoint's vocabulary.
pub const TOKENIZER: &str = "tokenizer.json";
/// The characters and words that a checkpoint was trained on.
pub const KNOWN_TEXT: &str = "known-text.json";
