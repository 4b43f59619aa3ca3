//! What the language model's training computes in: float32, or bfloat16 with float32 weights behind it.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Tensor};
pub use latentlm::core::Precision;

use crate::error::TrainError;

/// Refuses what the devices do not compute: some panic when asked for it, some return rubbish.
///
/// # Errors
/// If a device lacks the precision.
pub(crate) fn check<'a>(
    precision: Precision,
    devices: impl IntoIterator<Item = &'a Device>,
) -> Result<(), TrainError> {
    let mut devices = devices.into_iter();
    match precision {
        Precision::Bf16 if devices.any(|device| !device.supports_dtype(DType::BF16)) => {
            Err(TrainError::Config {
                reason: "lm.precision is \"bf16\", which the device does not compute; use \"f32\""
                    .into(),
            })
        }
        _ => Ok(()),
    }
}

/// The model with its trained weights rounded, within the graph: gradients reach the weights as they
/// were.
pub(crate) fn round<M: Module>(precision: Precision, model: M) -> M {
    match precision {
        Precision::F32 => model,
        Precision::Bf16 => model.map(&mut Round),
    }
}

struct Round;

impl ModuleMapper for Round {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        // What is not trained are statistics, which say what latents and signals measure.
        match param.is_require_grad() {
            true => param.map(|weight| weight.cast(DType::BF16)),
            false => param,
        }
    }
}
