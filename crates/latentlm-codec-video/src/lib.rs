//! The sigma-VAE video codec (paper §2.3): a Transformer over patches between clips and latents, causal in time.
//! The first frame of a clip is encoded alone, and then groups of frames, each with the groups before it in mind. So a
//! picture is a clip of one frame, and clips of any length are encoded and decoded as a stream. With `motion_range`,
//! the decoder shifts patches of the first frame, so that latents of groups need to say only how.
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//! use latentlm_codec_video::{CodecConfig, DecoderState};
//! use latentlm_core::{LatentCodec, LatentCodecConfig, StreamingCodec};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let codec = CodecConfig::new().init(&device);
//! let clips = Tensor::<5>::zeros([1, 17, 1, 32, 32], &device); // one frame, and four groups of four
//! let latents = codec.encode(clips).mode(); // [1, 20, 64]
//! let whole = codec.decode(latents.clone()); // [1, 17, 1, 32, 32]
//! let mut state = DecoderState::default();
//! let first = codec.decode_step(latents.clone().narrow(1, 0, 4), &mut state); // [1, 1, 1, 32, 32]
//! let group = codec.decode_step(latents.narrow(1, 4, 4), &mut state); // [1, 4, 1, 32, 32]
//! assert!(first.all_close(whole.clone().narrow(1, 0, 1), None, Some(1e-5)));
//! assert!(group.all_close(whole.narrow(1, 1, 4), None, Some(1e-5)));
//! ```
//!
//! Letters in shapes: `B` batch, `F` frames, `C` channels, `H x W` pixels of a frame, `G` groups (the first frame is
//! one), `P` patches of a group, `T` latents of a clip, group by group and in each row by row, `Z` latent dimension, `D`
//! width.

mod block;
mod codec;
mod config;
mod discriminator;
mod error;
mod keys;
mod loss;
mod motion;
mod patches;
mod stream;
mod tower;

pub use codec::VideoSigmaVae;
pub use config::{Activation, Added, VideoSigmaVaeConfig};
pub use discriminator::FrameDiscriminator;
pub use error::VideoCodecError;
pub use keys::KEYS;
pub use loss::{CodecLoss, CodecLossConfig, CodecLossOutput};
pub use stream::{DecoderState, EncoderState};

pub use VideoCodecError as CodecError;
pub use VideoSigmaVae as Codec;
pub use VideoSigmaVaeConfig as CodecConfig;
