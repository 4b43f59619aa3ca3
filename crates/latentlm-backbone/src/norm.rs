//! RMSNorm, with or without a weight.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::rms_norm;

/// `x / sqrt(mean(x^2) + epsilon) * weight`, the mean in float32.
///
/// `burn::nn::RmsNorm` always has a weight, which the image models do not.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Weight, `[D]`, if the norm has one.
    pub weight: Option<Param<Tensor<1>>>,
    pub(crate) epsilon: f64,
}

impl RmsNorm {
    /// Builds a norm over `width` elements; its weight, if it has one, starts as ones.
    pub fn new(width: usize, weight: bool, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: weight.then(|| Initializer::Ones.init([width], device)),
            epsilon,
        }
    }

    /// Normalizes the last axis.
    ///
    /// # Shapes
    /// - `x`: `[.., D]`
    /// - returns: `[.., D]`
    pub fn forward<const R: usize>(&self, x: Tensor<R>) -> Tensor<R> {
        let weight = self.weight.as_ref().map(|weight| weight.val());
        rms_norm(x, weight, self.epsilon)
    }
}
