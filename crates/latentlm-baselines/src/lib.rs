//! The baselines that the paper compares LatentLM with (§3). They are built from the same layers,
//! so that they differ from LatentLM only in their method:
//!
//! - [`Dit`]: bidirectional AdaLN-Zero blocks that denoise all latents of an image together.
//! - [`Transfusion`]: one Transformer, causal over text and bidirectional within an image, with
//!   diffusion over the whole image; [`MllmTransfusion`] is the same on documents of text and
//!   images.
//! - [`VqCodec`] and [`VqLm`]: images as tokens of a codebook, sampled from a softmax;
//!   [`MllmVqLm`] has text in the same vocabulary.
//! - [`CodeLm`]: speech as codes of several codebooks, the first one group after the other, the others
//!   in one pass each (VALL-E 2).
//!
//! The fourth baseline, a plain VAE instead of the sigma-VAE, is an option of the image codec:
//! `NoiseKind::Learned` of `latentlm-codec-image`.
//!
//! ```
//! use burn::tensor::{Device, Int, Tensor};
//! use latentlm_baselines::{DenoiserConfig, DenoiserSizes, Dit};
//! use latentlm_core::{RandomStream, SampleOptions};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let sizes = DenoiserSizes::new().with_width(32).with_depth(1).with_heads(4);
//! let model: Dit = DenoiserConfig::new(10, 16, 8).with_sizes(sizes).init(&device);
//! let labels = Tensor::<1, Int>::from_ints([3, 7], &device);
//! let options = SampleOptions { steps: 5, guidance_scale: 2.0, ..Default::default() };
//! let latents = model.generate(labels, &options, &mut RandomStream::new(0));
//! assert_eq!(latents.dims(), [2, 16, 8]);
//! ```
//!
//! Letters in shapes: `B` images, `T` latents per image, `P` positions of the prefix, `Z` latent
//! dimension, `D` width, `V` codes, `Q` codebooks, `K` draws of noise per image, `C` channels,
//! `H x W` pixels. In attention, `H` and `G` are query and key/value heads and `E` is the width of a
//! head; in packed documents, `I` is the number of pictures, `M` the number of predicted tokens, and
//! `G` the number of codes in a group.

mod block;
mod class;
mod code_config;
mod code_fill;
mod code_groups;
mod code_lm;
mod code_sampling;
mod denoiser;
mod dit;
mod error;
mod mllm_transfusion;
mod mllm_vq;
mod quantizer;
mod sizes;
mod token;
mod transfusion;
mod vq_codec;
mod vq_lm;

pub use class::ClassConditional;
pub use code_config::CodeLmConfig;
pub use code_fill::ParallelCodeLm;
pub use code_groups::GroupedCodeLm;
pub use code_lm::{CodeLm, CodeLmLoss, CodePrompt, CodeSpeech, SpokenCodes};
pub use code_sampling::CodeOptions;
pub use denoiser::{DenoiserConfig, ImageDenoiser, ImageDiffusion};
pub use dit::{Dit, DitNetwork};
pub use error::BaselineError;
pub use mllm_transfusion::MllmTransfusion;
pub use mllm_vq::{MllmVqLm, MllmVqLmConfig};
pub use quantizer::{Quantized, Quantizer};
pub use sizes::DenoiserSizes;
pub use token::TokenOptions;
pub use transfusion::{Transfusion, TransfusionHidden, TransfusionNetwork};
pub use vq_codec::{CodebookConfig, VqCodec, VqCodecConfig, VqLoss, VqObjective};
pub use vq_lm::{VqLm, VqLmConfig};
