//! LatentLM in Rust: one causal Transformer reads and writes discrete tokens and continuous
//! latents ("Multimodal Latent Language Modeling with Next-Token Diffusion",
//! [arXiv 2412.08635](https://arxiv.org/abs/2412.08635)).
//!
//! This crate puts the parts together. [`LatentLm`] is the one model: it reads and learns
//! [`Document`](sequence::Document)s, segments of any kind in one sequence. [`LatentLmConfig`] has a preset
//! for each kind of document: a class and its picture, a text and its speech, text with latents of any
//! kind. The model is generic over backbone and head; the workspace's own are the defaults.
//!
//! A program names the backends that it may run on as features of this crate (`cpu`, `wgpu`, `vulkan`,
//! `cuda`; none is on by default), and asks for a device by name ([`device()`]). The codecs of speech (`codec_audio`)
//! and video (`codec_video`) stand behind the features `speech` and `video`, which are on by default.
//!
//! ```
//! # #[cfg(feature = "cpu")]
//! # fn main() -> Result<(), latentlm::DeviceError> {
//! use latentlm::{LatentLmConfig, LmSizes, RandomStream, SampleOptions};
//!
//! // A tiny, untrained model of 16 latents of 8 numbers for 10 classes.
//! let device = latentlm::device("cpu")?;
//! let sizes = LmSizes::new().with_width(64).with_depth(2).with_heads(4);
//! let model = LatentLmConfig::image(10, 16, 8).with_sizes(sizes).init(&device);
//! let options = SampleOptions { steps: 5, guidance_scale: 2.0, ..Default::default() };
//! let latents = model.draw_images(&[3, 7], &options, &mut RandomStream::new(0));
//! assert_eq!(latents.dims(), [2, 16, 8]);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "cpu"))]
//! # fn main() {}
//! ```
//!
//! Examples (`cargo run -p latentlm --features cpu --example NAME`): `train_digits` trains a codec and a
//! language model from nothing, on a page; `draw`, `speak` and `codec` use a trained run.
//!
//! Models that others have published are not here: `latentlm-published` reads and writes their checkpoints,
//! `latentlm-vibevoice` has VibeVoice.
//!
//! Letters in shapes: `B` batch, `T` latents, `P` positions of all documents, `N` latents of all
//! documents, `Z` numbers per latent, `D` width, `K` draws of noise per latent.

mod config;
mod device;
mod generate;
mod load;
mod model;
mod sizes;
mod text_sampling;
mod weights;

pub use config::{LatentLmConfig, Modality};
pub use device::{DeviceError, adapter_name, device, device_names, devices};
pub use generate::{
    Continuation, GenerateOptions, LatentStream, Piece, Prompt, SpeechFrame, SpeechPrompt,
    SpeechStream,
};
pub use latentlm_adapters as adapters;
pub use latentlm_backbone as backbone;
#[cfg(feature = "speech")]
pub use latentlm_codec_audio as codec_audio;
pub use latentlm_codec_image as codec_image;
#[cfg(feature = "video")]
pub use latentlm_codec_video as codec_video;
pub use latentlm_core as core;
pub use latentlm_core::{
    CausalBackbone, LatentCodec, LatentHead, Loss, RandomStream, SampleOptions, Sampler,
    StreamingCodec, sequence,
};
pub use latentlm_diffusion as diffusion;
pub use latentlm_kernels::WeightBits;
pub use load::{load_lm, load_lm_from_bytes};
pub use model::{Batch, DocumentTokens, LatentLm};
pub use sizes::{LmSizes, ModelError};
pub use text_sampling::TextOptions;
pub use weights::SmallWeights;
