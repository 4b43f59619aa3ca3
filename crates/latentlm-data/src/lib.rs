//! Datasets: readers and checks. Samples only: this crate knows no tensors and no model.
//!
//! ```no_run
//! use latentlm_data::{ImageDataset, ImageSpec, Split};
//! use std::path::Path;
//!
//! let spec = ImageSpec { channels: 1, height: 32, width: 32 };
//! let digits = ImageDataset::open(Path::new("datasets/mnist"), spec, Split::Train)?;
//! let first = digits.get(0)?;
//! println!("{} pictures, the first is a {}", digits.len(), digits.classes()[first.label as usize]);
//! # Ok::<(), latentlm_data::DataError>(())
//! ```
//!
//! Pictures and plain text are always there; recordings stand behind the feature `sound`, vocabularies and
//! documents of text and pictures behind `text`, clips behind `clips`, BMP, GIF and TIFF pictures behind `formats`.
//! All are on by default.
//!
//! Letters in shapes: `F` frames, `C` channels, `H x W` pixels.

mod allowed;
mod check;
#[cfg(feature = "clips")]
mod clips;
mod csv;
mod dataset;
mod error;
mod folder;
#[cfg(feature = "text")]
mod growth;
mod hex;
mod idx;
mod kind;
mod left_out;
mod metadata;
#[cfg(feature = "text")]
mod mllm;
#[cfg(any(feature = "sound", feature = "text"))]
mod normal;
mod options;
mod picture;
mod plain;
mod read_count;
mod replace;
mod sample;
mod sheet;
mod skipped;
#[cfg(feature = "sound")]
pub mod speech;
mod split;
mod stop;
#[cfg(feature = "text")]
mod text;
#[cfg(feature = "text")]
mod text_stream;
mod verify;
mod walk;

#[cfg(feature = "clips")]
pub use check::check_clips;
pub use check::{CheckReport, ClassCount, Problem, check, check_with, is_pictures};
#[cfg(feature = "clips")]
pub use clips::{Clip, ClipDataset, read_clip};
pub use dataset::{DatasetKind, ImageDataset, ImageSample};
pub use error::DataError;
pub use hex::{file_sha256, sha256};
pub use latentlm_core::{BatchOrder, PackOrder, sequence};
#[cfg(feature = "clips")]
pub use latentlm_media::clip::ClipSpec;
pub use latentlm_media::{ImageSpec, MediaError};
pub use metadata::check_texts;
#[cfg(feature = "text")]
pub use mllm::{Caption, Described, Mix, MllmCorpus, MllmSizes, PICTURES};
#[cfg(any(feature = "sound", feature = "text"))]
pub use normal::{normal_text, plain_word};
pub use options::ReadOptions;
pub use picture::read_picture;
pub use plain::{PlainLimits, PlainText};
pub use read_count::ReadCount;
pub use sample::{Content, Sample};
pub use skipped::Skipped;
pub use split::{Split, held_out};
pub use stop::{Stop, check_stop};
#[cfg(feature = "text")]
pub use text::{TextLimits, TextTokenizer, TokenizerKind};
#[cfg(feature = "text")]
pub use text_stream::TextStream;
pub use walk::{LeftOut, Reason};
