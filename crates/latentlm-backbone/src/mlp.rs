//! The SwiGLU feed-forward network.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, SwiGlu, SwiGluConfig};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{SwiGluBlock, swiglu_block};

use crate::norm::RmsNorm;

/// `down(silu(inner(x)) * outer(x))`, without biases.
#[derive(Module, Debug)]
pub struct Mlp {
    up: SwiGlu,
    down: Linear,
}

impl Mlp {
    /// Builds the network; `hidden` is its inner width.
    pub fn new(width: usize, hidden: usize, device: &Device) -> Self {
        Self {
            up: SwiGluConfig::new(width, hidden).init(device),
            down: LinearConfig::new(hidden, width)
                .with_bias(false)
                .init(device),
        }
    }

    /// `x + mlp(norm(x))`, in one kernel.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`
    /// - returns: `[B, T, D]`
    pub(crate) fn residual(&self, x: Tensor<3>, norm: &RmsNorm) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let block = SwiGluBlock {
            norm_weight: norm.weight.as_ref().map(|weight| weight.val()),
            epsilon: norm.epsilon,
            gate: self.up.linear_inner.weight.val(),
            up: self.up.linear_outer.weight.val(),
            down: self.down.weight.val(),
        };
        swiglu_block(x.reshape([batch * length, width]), &block, None)
            .reshape([batch, length, width])
    }
}
