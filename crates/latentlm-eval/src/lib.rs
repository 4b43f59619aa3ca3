//! Evaluation of runs: measures of pictures, clips, speech and text, evaluations of whole runs, charts and
//! reports.
//!
//! - Pictures: [`psnr`], [`ssim`], [`frechet_distance`]; a [`Judge`] is a classifier of real pictures
//!   that shares no weights with the generator.
//! - Speech: [`stoi`], [`mel_distance_db`], [`si_sdr_db`], [`edit_rate`]; a [`Listener`] is a command
//!   that recognizes words.
//! - Clips: the digits and motions of composed clips, captions, continuation.
//! - Text and pictures: accuracy of captions, nearest neighbours in the codec's latent space,
//!   colours.
//!
//! ```
//! use latentlm_eval::psnr;
//!
//! // An error of 0.02 everywhere, numbers in [-1, 1]: 20 log10(2 / 0.02) = 40 dB.
//! let (original, copy) = ([0.5f32; 64], [0.48f32; 64]);
//! assert!((psnr(&original, &copy, 2.0) - 40.0).abs() < 1e-3);
//! ```
//!
//! Letters in shapes: `B` batch, `F` frames, `C` channels, `H x W` pixels, `D` features of a picture, `N` real
//! pictures, `T` latents, `Z` latent dimension.

mod error;
mod evaluation;
mod image;
mod mllm;
mod origin;
mod plot;
mod report;
mod speech;
mod statistics;
mod video;

pub use error::{EvalError, Result};
pub use evaluation::{EvaluateOptions, Measure, MeasuredWeights, measures, unshown};
pub use image::*;
pub use mllm::*;
pub use origin::{Work, keep_origin, memory_bytes, name_commit};
pub use plot::{Series, bar_chart, decimals, line_chart, stack};
pub use report::{ComparedSoFar, write_comparison_report, write_image_report, write_speech_report};
pub use speech::*;
pub use statistics::{deviation, interval, mean, median, perplexity, share};
pub use video::*;
