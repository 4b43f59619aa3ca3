//! Adapters: what a modality's values look like as positions of the backbone's sequence.
//!
//! - [`LabelAdapter`]: class labels, one position each, with a null label for guidance.
//! - [`LatentAdapter`]: latent vectors, whitened by statistics that are saved with the model.
//!
//! Letters in shapes: `B` batch, `T` positions, `Z` latent dimension, `D` width.

mod label;
mod latent;

pub use label::{LabelAdapter, LabelAdapterConfig};
pub use latent::{LatentAdapter, LatentAdapterConfig, Whitening};
