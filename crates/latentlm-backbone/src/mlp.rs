//! The SwiGLU feed-forward network.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, SwiGlu, SwiGluConfig};
use burn::tensor::{Device, Tensor};

/// `down(silu(inner(x)) * outer(x))`, no biases.
#[derive(Module, Debug)]
pub struct Mlp {
    up: SwiGlu,
    down: Linear,
}

impl Mlp {
    /// A network of inner width `hidden`.
    pub fn new(width: usize, hidden: usize, device: &Device) -> Self {
        Self {
            up: SwiGluConfig::new(width, hidden).init(device),
            down: LinearConfig::new(hidden, width)
                .with_bias(false)
                .init(device),
        }
    }

    /// # Shapes
    /// - `x`: `[.., D]`
    /// - returns: `[.., D]`
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        self.down.forward(self.up.forward(x))
    }
}
