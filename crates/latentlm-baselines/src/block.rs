//! Layers that DiT and Transfusion share.

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig, SwiGlu, SwiGluConfig};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{PackedHeads, SwiGluBlock, linear_layer, swiglu_block};

use crate::sizes::{DenoiserSizes, NORM_EPSILON};

/// A projection without bias.
pub(crate) fn linear(input: usize, output: usize, device: &Device) -> Linear {
    LinearConfig::new(input, output)
        .with_bias(false)
        .init(device)
}

/// A projection without bias that starts as zero.
pub(crate) fn zero_linear(input: usize, output: usize, device: &Device) -> Linear {
    LinearConfig::new(input, output)
        .with_bias(false)
        .with_initializer(Initializer::Zeros)
        .init(device)
}

/// The two projections of self-attention. The attention between them, with its mask, is an argument
/// of [`forward`](Self::forward).
#[derive(Module, Debug)]
pub(crate) struct Attention {
    qkv: Linear,
    proj: Linear,
    #[module(skip)]
    heads: PackedHeads,
}

impl Attention {
    pub(crate) fn new(sizes: &DenoiserSizes, device: &Device) -> Self {
        let heads = sizes.packed_heads();
        let packed = (heads.heads + 2 * heads.kv_heads) * sizes.head_dim();
        Self {
            qkv: linear(sizes.width, packed, device),
            proj: linear(sizes.width, sizes.width, device),
            heads,
        }
    }

    /// Projects, attends and projects back.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`; `attend`: `[B, T, (H + 2 G) E]` to `[B, T, D]`
    /// - returns: `[B, T, D]`
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        attend: impl FnOnce(Tensor<3>, PackedHeads) -> Tensor<3>,
    ) -> Tensor<3> {
        let packed = linear_layer(&self.qkv, x);
        linear_layer(&self.proj, attend(packed, self.heads))
    }
}

/// Norm, SwiGLU and residual connection, in one kernel.
#[derive(Module, Debug)]
pub(crate) struct FeedForward {
    up: SwiGlu,
    down: Linear,
}

impl FeedForward {
    pub(crate) fn new(sizes: &DenoiserSizes, device: &Device) -> Self {
        Self {
            up: SwiGluConfig::new(sizes.width, sizes.mlp_width()).init(device),
            down: linear(sizes.mlp_width(), sizes.width, device),
        }
    }

    /// `x + mlp(norm(x))`, or with a modulation `x + gate * mlp(norm(x) * (1 + scale) + shift)`.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`; `modulation`: `[B * T, 3 D]`, shift, scale and gate
    /// - returns: `[B, T, D]`
    pub(crate) fn residual(&self, x: Tensor<3>, modulation: Option<Tensor<2>>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let block = SwiGluBlock {
            norm_weight: None,
            epsilon: NORM_EPSILON,
            gate: self.up.linear_inner.weight.val(),
            up: self.up.linear_outer.weight.val(),
            down: self.down.weight.val(),
        };
        swiglu_block(x.reshape([batch * tokens, width]), &block, modulation)
            .reshape([batch, tokens, width])
    }
}
