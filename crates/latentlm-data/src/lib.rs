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

mod caught;
mod check;
mod csv;
mod dataset;
mod error;
mod folder;
mod growth;
mod idx;
mod jpeg;
mod known;
mod latents;
mod metadata;
mod mixed;
mod normal;
mod options;
mod order;
mod picture;
mod plain;
mod sheet;
pub mod speech;
mod split;
mod text;
mod verify;
mod walk;

pub use check::{CheckReport, ClassCount, Problem, check, check_with, is_pictures};
pub use dataset::{DatasetKind, ImageDataset, ImageSample, Split};
pub use error::DataError;
pub use known::{KnownText, Unheard};
pub use latentlm_core::sequence;
pub use latents::LatentCache;
pub use mixed::{Caption, Mix, MixedCorpus, PICTURES};
pub use normal::normal_text;
pub use options::ReadOptions;
pub use order::{BatchOrder, PackOrder};
pub use picture::{ImageSpec, read_picture};
pub use plain::PlainText;
pub use text::{TextLimits, TextTokenizer, TokenizerKind};
pub use walk::{LeftOut, Reason};
