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

mod check;
mod dataset;
mod error;
mod folder;
mod idx;
mod latents;
mod order;
mod picture;
mod sheet;
pub mod speech;
mod text;

pub use check::{CheckReport, ClassCount, Problem, check};
pub use dataset::{DatasetKind, ImageDataset, ImageSample, Split};
pub use error::DataError;
pub use latents::LatentCache;
pub use order::{BatchOrder, PackOrder};
pub use picture::ImageSpec;
pub use text::{TextTokenizer, TokenizerKind};
