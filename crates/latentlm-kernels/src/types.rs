//! Types that operations share with their kernels.

use burn::tensor::Tensor;

use crate::mask::Mask;

/// Heads in the last axis of a packed tensor: `H` queries, then `G` keys, then `G` values, each `E` wide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedHeads {
    /// Number of query heads, `H`.
    pub heads: usize,
    /// Number of key/value heads, `G`. Each serves `H / G` query heads.
    pub kv_heads: usize,
}

/// Sizes and masks that the kernel needs beside its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "cpu"), expect(dead_code, reason = "the kernel's form"))]
pub(crate) struct HeadLayout {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) interleaved: bool,
    /// Masks of the documents that each sequence of the batch consists of.
    pub(crate) documents: Vec<Mask>,
}

/// Settings of one step of AdamW (Loshchilov and Hutter, arXiv 1711.05101) and of the moving average of the
/// weights that follows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Epsilon, added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub time: i32,
    /// Factor of the gradient before anything else, as clipping by the global norm needs it.
    pub gradient_scale: f64,
    /// Decay of the moving average of the weights: the weight of its old value.
    pub average_decay: f64,
}

impl AdamWStep {
    /// Divisors of the first and second moment that correct their start at zero.
    pub(crate) fn corrections(&self) -> (f64, f64) {
        let correction = |beta: f64| 1.0 - beta.powi(self.time);
        (correction(self.beta_1), correction(self.beta_2))
    }
}

/// An activation function, applied to each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    Gelu,
    Tanh,
}

/// Parameters of a [`conv_layer`](fn@crate::conv_layer).
#[derive(Debug, Clone)]
pub struct ConvLayerWeights {
    /// Weight of the first RMSNorm, `[C]`.
    pub norm: Tensor<1>,
    /// Epsilon of the first RMSNorm.
    pub epsilon: f64,
    /// Filter of each channel, `[C, 1, K]`, oldest frame first.
    pub filter: Tensor<3>,
    /// Bias of the filters, `[C]`.
    pub filter_bias: Tensor<1>,
    /// Scale of what the filters add, `[C]`.
    pub gamma: Tensor<1>,
    /// Weight of the second RMSNorm, `[C]`.
    pub ffn_norm: Tensor<1>,
    /// Epsilon of the second RMSNorm.
    pub ffn_epsilon: f64,
    /// Weight of the projection into GELU, `[C, F]`.
    pub up: Tensor<2>,
    /// Its bias, `[F]`.
    pub up_bias: Tensor<1>,
    /// Weight of the projection back, `[F, C]`.
    pub down: Tensor<2>,
    /// Its bias, `[C]`.
    pub down_bias: Tensor<1>,
    /// Scale of what the projections add, `[C]`.
    pub ffn_gamma: Tensor<1>,
}

/// Parameters of a [`swiglu_block`](crate::swiglu_block).
#[derive(Debug, Clone)]
pub struct SwiGluBlock {
    /// Weight of the RMSNorm, `[D]`, if it has one.
    pub norm_weight: Option<Tensor<1>>,
    /// Epsilon of the RMSNorm.
    pub epsilon: f64,
    /// Weight of the projection that the SiLU is applied to, `[D, F]`.
    pub gate: Tensor<2>,
    /// Weight of the projection that the activated one is multiplied with, `[D, F]`.
    pub up: Tensor<2>,
    /// Weight of the projection back to the width of the input, `[F, D]`.
    pub down: Tensor<2>,
}

/// A resolution of [`spectral_losses`](crate::spectral_losses). A frame of a signal begins every quarter of a window's
/// length.
#[derive(Debug, Clone)]
pub struct SpectralWindow {
    /// The window, whose length is a power of two of 4 or more.
    pub window: Tensor<1>,
    /// Factor from magnitudes to levels.
    pub scale: f64,
    /// Weights of a spectrum's bins in mel bands, `[bins, bands]`. There is one bin more than half the window's length.
    pub bands: Tensor<2>,
}

/// What keeps [`spectral_losses`](crate::spectral_losses) and their gradients finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SpectralFloors {
    /// Added to squared magnitudes, under the root.
    pub power: f64,
    /// Least level and least mel band before the logarithm.
    pub level: f64,
    /// Least sum of squared differences of levels, under the root.
    pub difference: f64,
    /// Added to the root of the sum of squared levels, which is a divisor.
    pub divisor: f64,
}

/// Inputs that share a scale.
pub const WEIGHT_GROUP: usize = 32;

/// Bits of a quantized weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightBits {
    /// int8, -127 to 127.
    Eight,
    /// int4, -8 to 7.
    Four,
}

/// Precision of the factors in the head's matrix products. Sums and all other operations are float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadPrecision {
    /// float32.
    F32,
    /// Weights and activations are rounded to bfloat16.
    Bf16,
}
