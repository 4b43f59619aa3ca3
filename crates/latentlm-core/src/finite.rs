//! Checks that weights are finite.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Tensor};

/// Whether all parameters of a module are finite. Reads from the device once, not once per parameter.
pub fn is_finite<M: Module>(module: &M) -> bool {
    let mut zeros = Zeros(None);
    module.visit(&mut zeros);
    zeros.0.is_none_or(|sum| sum.into_scalar::<f32>() == 0.0)
}

/// Sum of all parameters times zero; NaN if one is infinite or NaN.
struct Zeros(Option<Tensor<1>>);

impl ModuleVisitor for Zeros {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let zeros = param.val().detach().mul_scalar(0.0);
        let zero = zeros.sum().cast(DType::F32);
        self.0 = Some(match self.0.take() {
            Some(sum) => sum + zero,
            None => zero,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::ParamId;
    use burn::nn::Linear;
    use burn::tensor::Device;

    #[test]
    fn one_number_that_is_none_is_enough() {
        let device = Device::default();
        let linear = |last: f32| Linear {
            weight: Param::initialized(ParamId::new(), Tensor::ones([2, 2], &device) * 1e38),
            bias: Some(Param::initialized(
                ParamId::new(),
                Tensor::from_floats([1.0, last], &device),
            )),
        };
        assert!(is_finite(&linear(-3e38)));
        for wrong in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(!is_finite(&linear(wrong)), "{wrong}");
        }
    }
}
