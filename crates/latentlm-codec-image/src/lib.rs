//! Sigma-VAE codecs for images (paper §2.3), and the losses they are trained with. A Vision
//! Transformer or a convolutional network turns a picture into a grid of latents and back.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use latentlm_codec_image::{Architecture, CodecConfig};
//! use latentlm_core::{LatentCodec, LatentCodecConfig};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let codec = CodecConfig::default().with_architecture(Architecture::Vit).init(&device);
//! let pictures = Tensor::<4>::zeros([2, 1, 32, 32], &device);
//! let latents = codec.encode(pictures).mode();
//! assert_eq!(codec.decode(latents).dims(), [2, 1, 32, 32]);
//! ```
//!
//! Letters in shapes: `B` batch, `C` channels of the picture, `H x W` pixels, `T` latents of the
//! grid, row by row, `Z` latent dimension, `D` width.

mod codec;
mod config;
mod conv;
mod discriminator;
mod error;
mod keys;
mod loss;
mod lpips;
mod mask;
mod vit;

pub use codec::{DecoderFeatures, ImageSigmaVae};
pub use config::{
    Activation, Architecture, ConvConfig, ImageSigmaVaeConfig, LatentsConfig, NoiseKind, VitConfig,
};
pub use discriminator::PatchDiscriminator;
pub use error::CodecError;
pub use keys::KEYS;
pub use loss::{CodecLoss, CodecLossConfig, CodecLossOutput};
pub use lpips::Lpips;

pub use ImageSigmaVae as Codec;
pub use ImageSigmaVaeConfig as CodecConfig;
