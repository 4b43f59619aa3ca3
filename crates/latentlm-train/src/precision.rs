//! The precision of the language model's training: float32, or bfloat16 with float32 weights behind it.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
use latentlm_kernels::{rounded_products, rounds_products};

pub use latentlm::core::Precision;

use crate::error::{Result, TrainError};
use crate::options::RunOptions;

/// Refuses a precision that the devices do not compute: some panic when asked for it, some return rubbish.
///
/// # Errors
/// If a device lacks the precision.
pub fn check(precision: Precision, options: &RunOptions) -> Result<()> {
    let lacks = |device: &Device| !device.supports_dtype(DType::BF16);
    if precision == Precision::Bf16 && options.devices().any(lacks) {
        return Err(TrainError::config(format!(
            "{}lm.precision is \"bf16\", which the device does not compute; use \"f32\"",
            options.within
        )));
    }
    Ok(())
}

/// Runs a part of a step in a precision: `work` on the model, within the graph, so that gradients reach the weights as they
/// were. Where kernels round the factors of products, the model stays as it is; elsewhere its trained weights are rounded,
/// and activations with them.
pub fn in_precision<M: Module, R>(
    precision: Precision,
    model: &M,
    work: impl FnOnce(&M) -> R,
) -> R {
    if precision == Precision::F32 {
        return work(model);
    }
    let device = model.devices().into_iter().next();
    if device.is_some_and(|device| rounds_products(&device)) {
        return rounded_products(|| work(model));
    }
    work(&model.clone().map(&mut Round))
}

struct Round;

impl ModuleMapper for Round {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // Parameters that are not trained are statistics, of latents or signals: they stay exact.
        if !param.is_require_grad() {
            return param;
        }
        param.map(|weight| weight.cast(DType::BF16))
    }
}
