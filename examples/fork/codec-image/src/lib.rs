//! An image codec that is not LatentLM's: a block cosine transform, as in JPEG, with learned gains.
//!
//! A picture is cut into square blocks. Each block becomes the lowest of its cosine coefficients, each
//! times a gain of its own. The decoder multiplies by gains of its own and transforms back. Gains are all
//! that is learned. Latents are noised as in a sigma-VAE, so the decoder learns to stand noise.
//!
//! The names at the end are the role's: what LatentLM imports of an image codec.
//!
//! Letters in shapes: `B` batch, `C` channels, `H x W` picture, `T` blocks, `K` coefficients of a block and
//! channel, `Z = C * K` numbers a latent.

mod codec;
mod config;
mod loss;
mod transform;

use latentlm_core::PartKeys;

pub use codec::BlockCosine;
pub use config::{BlockCosineConfig, CodecError};
pub use loss::{SquaredError, SquaredErrorConfig};

pub use BlockCosine as Codec;
pub use BlockCosineConfig as CodecConfig;
pub use SquaredErrorConfig as CodecLossConfig;

/// Keys of the tables `[codec]` and `[codec_loss]`, as the file `keys.toml` declares them.
pub static KEYS: PartKeys = PartKeys::new(include_str!("../keys.toml"));
