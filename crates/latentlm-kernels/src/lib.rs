//! Fused operations that the models share, each with its gradient. In float32 on Burn's CPU backend
//! (feature `cpu`) they run as kernels of this crate; on every other device and in every other
//! precision they are compositions of Burn's operations with the same result. Weights of models that only infer may
//! be bfloat16, int8 or int4 there, see [`linear()`] and [`quantized_weight`]; training in bfloat16 keeps float32 tensors
//! there, and rounds the factors of products ([`rounded_products`]).
//!
//! ```
//! use burn::tensor::{Device, Tensor};
//!
//! let device = Device::flex(); // the CPU: Burn's feature `flex`
//! let x = Tensor::<3>::ones([2, 3, 4], &device);
//! let y = latentlm_kernels::rms_norm(x, None, 1e-6); // a row of ones has an RMS of 1
//! assert!(y.all_close(Tensor::ones([2, 3, 4], &device), None, Some(1e-5)));
//! ```
//!
//! Letters in shapes: `N` rows, `B` batch, `T` positions, `I` inputs, `C` input channels, `O` outputs or output
//! channels, `D` width, `F` inner width, `H` query heads, `G` key/value heads, `E` width of a head, `V`
//! vocabulary size, `Z` latent dimension, `S` cached and new positions together, or steps of a solver, `K` taps of a
//! filter, `R` samples of a frame, `P` frequencies.

mod activation;
mod attention;
mod blockwise;
mod cache;
mod causal_conv;
mod conv2d;
mod conv_layer;
#[cfg(feature = "cpu")]
mod cpu;
mod cross_entropy;
mod decode;
mod depthwise;
mod fallback;
mod gradient;
mod head;
mod linear;
mod mask;
mod norm;
mod optimizer;
mod patches;
mod peak;
mod quantized;
mod recompute;
mod sampled_head;
mod sinusoid;
mod spectral;
#[cfg(feature = "cpu")]
mod support;
mod swiglu;
mod types;
mod workers;

pub use activation::{gelu, silu, tanh};
pub use attention::{Rotary, causal_attention, document_attention, full_attention};
pub use cache::{CacheNumbers, KeysValues};
pub use causal_conv::{causal_conv, causal_conv_transpose};
pub use conv_layer::conv_layer;
pub use conv2d::conv2d_layer;
pub use cross_entropy::cross_entropy;
pub use decode::{CachedMask, cached_attention};
pub use depthwise::depthwise_conv;
pub use fallback::{rounded_products, without_kernels};
pub use head::{has_bf16_head, sample_head};
pub use linear::{embedding, linear, linear_layer};
pub use mask::Mask;
pub use norm::{group_norm_layer, layer_norm, modulated_rms_norm, rms_norm};
pub use optimizer::{Trained, adamw, blend, square_sum};
pub use patches::patch_logits;
pub use peak::{MULTIPLY_ADDS, multiply_add, product_instructions, wrapping_sum};
pub use quantized::{QuantizedParts, quantized_parts, quantized_weight, weight_of_parts};
pub use recompute::recomputed;
pub use sampled_head::{HeadLayer, HeadLayouts, HeadRun, LinearStep, SampledHead};
pub use sinusoid::sinusoid;
pub use spectral::{SpectralLosses, spectral_losses};
pub use swiglu::swiglu_block;
pub use types::{
    AdamWStep, ConvLayerWeights, HeadPrecision, PackedHeads, SpectralFloors, SpectralWindow,
    SwiGluBlock, WEIGHT_GROUP, WeightBits,
};
pub use workers::{ROWS_A_SHARD, at_once, cut, on_workers, rounds_products, shards, shards_of};

#[cfg(all(test, feature = "cpu"))]
mod tests;
