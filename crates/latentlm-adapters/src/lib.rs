//! Adapters: embeddings of labels, tokens and latents as positions of the backbone's sequence, and
//! the softmax head.
//!
//! - [`LabelAdapter`]: class labels, one position each, with a null label for guidance.
//! - [`TokenAdapter`]: tokens of a vocabulary, and the softmax head that predicts them.
//! - [`LatentAdapter`]: latent vectors, through a linear projection or a small network.
//! - [`Whitener`]: mean and standard deviation that latents are normalized with, saved with the
//!   model.
//! - [`packed`]: documents of tokens and latents as tensors, and their cross entropy.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use latentlm_adapters::{LabelAdapterConfig, LatentAdapterConfig};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let labels = LabelAdapterConfig::new(10, 64).init(&device);
//! let latents = LatentAdapterConfig::new(8, 64).init(&device);
//! // A class and the 16 latents of a picture become one sequence of 17 positions.
//! let class = labels.embed(Tensor::<1, Int>::from_ints([3], &device)); // [1, 1, 64]
//! let picture = latents.whiten(Tensor::<3>::zeros([1, 16, 8], &device));
//! let sequence = Tensor::cat(vec![class, latents.embed(picture)], 1);
//! assert_eq!(sequence.dims(), [1, 17, 64]);
//! ```
//!
//! Letters in shapes: `B` batch, `T` positions, `Z` latent dimension, `D` width, `V`
//! vocabulary.

mod label;
mod latent;
pub mod packed;
mod token;
mod whitening;

pub use label::{LabelAdapter, LabelAdapterConfig};
pub use latent::{LatentAdapter, LatentAdapterConfig};
pub use token::{TokenAdapter, TokenAdapterConfig};
pub use whitening::{Whitener, Whitening};
