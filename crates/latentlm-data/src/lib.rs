//! Datasets: readers, checks, batch order, the latent cache. Samples only: this crate knows no
//! tensors and no model.
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
//! documents of text and pictures behind `text`, BMP, GIF and TIFF pictures behind `formats`. All are on by default.

mod check;
mod csv;
mod dataset;
mod error;
mod folder;
#[cfg(feature = "text")]
mod growth;
mod hex;
mod idx;
mod inventory;
#[cfg(any(feature = "sound", feature = "text"))]
mod known;
mod latents;
mod metadata;
#[cfg(feature = "text")]
mod mllm;
#[cfg(any(feature = "sound", feature = "text"))]
mod normal;
mod options;
mod order;
mod picture;
mod plain;
mod sheet;
mod skipped;
#[cfg(feature = "sound")]
pub mod speech;
mod split;
#[cfg(feature = "text")]
mod text;
#[cfg(feature = "text")]
mod text_stream;
mod verify;
mod walk;

pub use check::{CheckReport, ClassCount, Problem, check, check_with, is_pictures};
pub use dataset::{DatasetKind, ImageDataset, ImageSample};
pub use error::DataError;
pub use inventory::{Changes, Content, Inventory, Sample};
#[cfg(any(feature = "sound", feature = "text"))]
pub use known::{KnownText, Unheard};
pub use latentlm_core::sequence;
pub use latentlm_media::{ImageSpec, MediaError};
pub use latents::LatentCache;
#[cfg(feature = "text")]
pub use mllm::{Caption, Mix, MllmCorpus, MllmSizes, PICTURES};
#[cfg(any(feature = "sound", feature = "text"))]
pub use normal::normal_text;
pub use options::ReadOptions;
pub use order::{BatchOrder, PackOrder};
pub use picture::read_picture;
pub use plain::PlainText;
pub use skipped::Skipped;
pub use split::Split;
#[cfg(feature = "text")]
pub use text::{TextLimits, TextTokenizer, TokenizerKind};
#[cfg(feature = "text")]
pub use text_stream::TextStream;
pub use walk::{LeftOut, Reason};
