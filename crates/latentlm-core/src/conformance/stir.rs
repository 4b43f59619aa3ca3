//! Weights that are far from where training begins.

use burn::module::{ModuleMapper, Param};
use burn::tensor::Tensor;

use crate::RandomStream;

/// Adds a tenth of normal noise to every parameter. An untrained diffusion head predicts zero, whatever
/// the condition, and an untrained softmax head hardly prefers a token; any trained one does not.
pub struct Stir(pub RandomStream);

impl ModuleMapper for Stir {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let noise = self.0.normal(tensor.dims(), &tensor.device());
            tensor + noise.mul_scalar(0.1)
        })
    }
}
