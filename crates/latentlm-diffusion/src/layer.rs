//! A layer of the head, and what modulates it.

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig, RmsNorm, SwiGlu};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{SwiGluBlock, linear_layer, swiglu_block};

/// A linear layer without bias that starts as zeros.
pub(crate) fn zero_linear(input: usize, output: usize, device: &Device) -> Linear {
    LinearConfig::new(input, output)
        .with_bias(false)
        .with_initializer(Initializer::Zeros)
        .init(device)
}

/// One layer: `x += gate * mlp(norm(x) * (1 + scale) + shift)`.
#[derive(Module, Debug)]
pub(crate) struct HeadLayer {
    pub(crate) norm: Option<RmsNorm>,
    pub(crate) modulation: Linear,
    pub(crate) up: SwiGlu,
    pub(crate) down: Linear,
}

impl HeadLayer {
    /// Applies the layer under a modulation.
    ///
    /// # Shapes
    /// - `x`: `[N, D]`; `modulation`: `[N, 3D]`, shift, scale and gate
    /// - returns: `[N, D]`
    pub(crate) fn forward(&self, x: Tensor<2>, modulation: Tensor<2>, epsilon: f64) -> Tensor<2> {
        swiglu_block(x, &self.block(epsilon), Some(modulation))
    }

    /// Computes the modulation from the condition, `[N, D]`, and applies the layer.
    pub(crate) fn forward_conditioned(
        &self,
        x: Tensor<2>,
        condition: Tensor<2>,
        epsilon: f64,
    ) -> Tensor<2> {
        self.forward(x, linear_layer(&self.modulation, condition), epsilon)
    }

    pub(crate) fn block(&self, epsilon: f64) -> SwiGluBlock {
        SwiGluBlock {
            norm_weight: self.norm.as_ref().map(|norm| norm.gamma.val()),
            epsilon,
            gate: self.up.linear_inner.weight.val(),
            up: self.up.linear_outer.weight.val(),
            down: self.down.weight.val(),
        }
    }
}
