//! Weights in bfloat16, as `lm.precision = "bf16"` computes.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};

/// Rounds the trained weights of a model inside the autodiff graph, so that gradients reach the original
/// float32 weights.
pub(crate) fn round<M: Module>(model: M) -> M {
    model.map(&mut Round)
}

struct Round;

impl ModuleMapper for Round {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if param.is_require_grad() {
            param.map(|weight| weight.cast(DType::BF16))
        } else {
            param
        }
    }
}
