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

/// Runs a part of a step that has no gradients, such as a teacher's predictions, in a precision: with rounded factors of
/// products where kernels round them. On other devices it computes in float32, since what it makes is a target.
pub fn without_gradients<R>(precision: Precision, device: &Device, work: impl FnOnce() -> R) -> R {
    if precision == Precision::Bf16 && rounds_products(device) {
        return rounded_products(work);
    }
    work()
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

#[cfg(test)]
mod tests {
    use latentlm_kernels::{at_once, linear};

    use super::*;

    /// Numbers of bfloat16 next to 1 are 2^-7 away: a weight of 1 + 2^-10 counts as 1. Shards are on other threads.
    #[test]
    fn targets_are_computed_in_the_precision_of_training() {
        let device = Device::default();
        let products = |precision| {
            without_gradients(precision, &device, || {
                at_once(vec![2.0f32, 4.0], |factor| {
                    let x = Tensor::<2>::full([1, 1], factor, &Device::default());
                    let weight =
                        Tensor::<2>::full([1, 1], 1.0 + 2f32.powi(-10), &Device::default());
                    linear(x, weight, None).into_scalar::<f32>()
                })
            })
        };
        let exact = [2.0 + 2f32.powi(-9), 4.0 + 2f32.powi(-8)];
        assert_eq!(products(Precision::F32), exact);
        let rounded = if rounds_products(&device) {
            [2.0, 4.0]
        } else {
            exact
        };
        assert_eq!(products(Precision::Bf16), rounded);
    }
}
