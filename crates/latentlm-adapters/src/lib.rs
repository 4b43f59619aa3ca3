//! Adapters: what a modality's values look like as positions of the backbone's sequence.
//!
//! - [`LabelAdapter`]: class labels, one position each, with a null label for guidance.
//! - [`TokenAdapter`]: tokens of a vocabulary, and the softmax head that predicts them.
//! - [`LatentAdapter`]: latent vectors by a linear projection, [`Connector`]: by a small network.
//! - [`packed`]: documents of tokens and latents as one sequence.
//! - [`Whitener`]: the statistics that precede both, saved with the model.
//!
//! Letters in shapes: `B` batch, `T` positions, `Z` latent dimension, `D` width, `V`
//! vocabulary.

mod connector;
mod label;
mod latent;
pub mod packed;
mod token;
mod whitening;

pub use connector::{Connector, ConnectorConfig};
pub use label::{LabelAdapter, LabelAdapterConfig};
pub use latent::{LatentAdapter, LatentAdapterConfig};
pub use token::{TokenAdapter, TokenAdapterConfig};
pub use whitening::{Whitener, Whitening};
