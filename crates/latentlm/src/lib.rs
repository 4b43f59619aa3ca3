//! LatentLM in Rust: one causal Transformer reads and writes discrete tokens and continuous
//! latents ("Multimodal Latent Language Modeling with Next-Token Diffusion",
//! [arXiv 2412.08635](https://arxiv.org/abs/2412.08635)).
//!
//! This crate puts the parts together. [`LatentLm`] is generic over adapters, backbone and head;
//! the aliases ([`ImageLm`]) fill in the workspace's own.
//!
//! A program names the backends that it may run on as features of this crate (`cpu`, `wgpu`, `vulkan`,
//! `cuda`; none is on by default), and asks for a device by name ([`device()`]).
//!
//! ```
//! # #[cfg(feature = "cpu")]
//! # fn main() -> Result<(), latentlm::DeviceError> {
//! use burn::tensor::{Int, Tensor};
//! use latentlm::{ImageLmConfig, LmSizes, RandomStream, SampleOptions};
//!
//! // A tiny, untrained model of 16 latents of 8 numbers for 10 classes.
//! let device = latentlm::device("cpu")?;
//! let sizes = LmSizes::new().with_width(64).with_depth(2).with_heads(4);
//! let model = ImageLmConfig::new(10, 16, 8).with_sizes(sizes).init(&device);
//! let labels = Tensor::<1, Int>::from_ints([3, 7], &device);
//! let options = SampleOptions { steps: 5, guidance_scale: 2.0, ..Default::default() };
//! let latents = model.generate(labels, &options, &mut RandomStream::new(0));
//! assert_eq!(latents.dims(), [2, 16, 8]);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "cpu"))]
//! # fn main() {}
//! ```

mod device;
mod draw;
mod generate;
mod image;
mod mixed;
mod mixed_generate;
mod model;
pub mod pretrained;
mod sizes;
mod speak;
mod speech;
#[cfg(test)]
mod stir;
mod text_sampling;
mod tts;

pub use device::{DeviceError, device, device_names, devices};
pub use image::{ImageAdapters, ImageLm, ImageLmConfig};
pub use latentlm_adapters as adapters;
pub use latentlm_backbone as backbone;
pub use latentlm_codec_audio as codec_audio;
pub use latentlm_codec_image as codec_image;
pub use latentlm_core as core;
pub use latentlm_core::{
    CausalBackbone, LatentCodec, LatentHead, ModalityAdapter, RandomStream, SampleOptions, Sampler,
    StreamingCodec,
};
pub use latentlm_diffusion as diffusion;
pub use mixed::{MixedAdapters, MixedLm, MixedLmConfig, MixedLoss};
pub use mixed_generate::{Continuation, GenerateOptions, MixedPrompt, Piece};
pub use model::LatentLm;
pub use sizes::{LmSizes, ModelError};
pub use speak::{SpeechFrame, SpeechPrompt, SpeechStream};
pub use speech::{SpeechAdapters, VibeVoice, VibeVoiceConfig};
pub use text_sampling::TextOptions;
pub use tts::{SpeechDocument, SpeechLm, SpeechLmConfig, SpeechLoss, TtsAdapters};
