//! The sigma-VAE speech codec (paper §2.3; VibeVoice's acoustic tokenizer): causal convolutions
//! from sound to a few latents per second and back, streaming in both directions. With codebooks
//! ([`QuantizerConfig`]) it is the codec of a rival, whose latents are sums of their entries.
//!
//! Callers see signals as `[B, C, N]`, layers as `[B, N, C]`. With channels last, each dense
//! convolution is a matrix product over frames (see [`CausalConv1d`]), and norms and feed-forward
//! layers need no transposition.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use latentlm_codec_audio::{CodecConfig, DecoderState};
//! use latentlm_core::{LatentCodec, LatentCodecConfig, StreamingCodec};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let codec = CodecConfig::new()
//!     .with_ratios(vec![2, 4])
//!     .with_depths(vec![1, 1, 1])
//!     .with_width(4)
//!     .init(&device);
//! let latents = codec.encode(Tensor::<3>::zeros([1, 1, 80], &device)).mode(); // [1, 10, 64]
//! let whole = codec.decode(latents.clone()); // [1, 1, 80]
//! let mut state = DecoderState::default();
//! let first = codec.decode_step(latents.narrow(1, 0, 3), &mut state);
//! assert!(first.all_close(whole.narrow(2, 0, 24), None, Some(1e-5)));
//! ```
//!
//! Letters in shapes: `B` batch, `N` samples, `T` frames or latents, `C` channels of a layer, `Z`
//! latent dimension.

mod codec;
mod config;
mod conv;
mod discriminator;
mod keys;
mod layer;
mod loss;
mod quantizer;
mod spectrum;
mod stream;
mod tower;

pub use codec::AudioSigmaVae;
pub use config::{AudioCodecError, AudioSigmaVaeConfig};
pub use conv::{CausalConv1d, CausalConvTranspose1d};
pub use discriminator::StftDiscriminator;
pub use keys::KEYS;
pub use layer::ConvLayer;
pub use loss::{CodecLoss, CodecLossConfig, CodecLossOutput};
pub use quantizer::{QuantizerConfig, ResidualQuantizer};
pub use spectrum::{Stft, mel_bands};
pub use stream::{DecoderState, EncoderState};
pub use tower::{AudioDecoder, AudioEncoder, LEAST_BF16_NUMBERS};

pub use AudioCodecError as CodecError;
pub use AudioSigmaVae as Codec;
pub use AudioSigmaVaeConfig as CodecConfig;
