//! Trained models in use: run folders, recipes, and everything that draws, speaks, captions or
//! reconstructs with them. No optimizer and no terminal: a program that uses a run compiles no
//! training.
//!
//! A *pipeline* is a codec, a language model and, where there is text, a vocabulary, loaded from one
//! checkpoint folder: [`Generator`] draws pictures of a class, [`Speaker`] says texts, [`Artist`]
//! draws, captions and writes.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use burn::tensor::Device;
//! use latentlm_pipelines::{Generator, image_grid, save_png};
//!
//! # fn main() -> Result<(), latentlm_pipelines::PipelineError> {
//! let generator = Generator::from_run(Path::new("runs/mnist"), &Device::default())?;
//! let options = generator.manifest.recipe.sample_options();
//! let sevens = generator.draw(&[7; 16], &options, 5)?; // [16, 1, 32, 32]
//! save_png(&image_grid(sevens, 4, 2), Path::new("sevens.png"))?;
//! # Ok(())
//! # }
//! ```
//!
//! Letters of shapes: `B` batch, `C` channels, `H x W` pixels, `N` samples of sound, `T` latents, `Z`
//! numbers a latent.

mod data;
mod error;
mod image;
mod metrics;
mod mllm;
mod recipe;
mod run;
mod schedule;
pub mod skipped;
mod speech;
mod tensors;

pub use data::TrainingData;
pub use error::PipelineError;
pub use image::{
    DataConfig, Generator, HostBatch, ImageData, ImageRecipe, SampleConfig, evenly, image_grid,
    load_image_codec, png_bytes, read_all, read_evenly, save_png,
};
pub use metrics::{MetricLine, MetricsLog, series};
pub use mllm::{
    Artist, Generated, Made, MixConfig, MixedData, MixedRecipe, MixedSampleConfig, MixedTextConfig,
    PromptPiece, Texts, TokenWeights,
};
pub use recipe::{LmConfig, Recipe, StageConfig};
pub use run::{Manifest, RunFolder, ema_file, weights_file};
pub use schedule::{EmaDecay, LearningRate};
pub use skipped::SkippedList;
pub use speech::{
    HeldOutUtterance, SpeakConfig, Speaker, SpeakingTimes, Speech, SpeechCodec, SpeechData,
    SpeechDataConfig, SpeechRecipe, TextConfig, Voice, hop_samples, load_speech_codec, reconstruct,
    sentences, signal,
};
pub use tensors::{draw_latents, host_values, label_tensor};

/// A checkpoint's vocabulary.
pub const TOKENIZER: &str = "tokenizer.json";
/// The characters and words that a checkpoint was trained on.
pub const KNOWN_TEXT: &str = "known-text.json";
