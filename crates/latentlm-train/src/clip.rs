//! Clipping of gradients by their norm over all parameters together (Burn's clips each parameter
//! on its own).

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use latentlm_kernels::square_sum;

/// The norm of the gradients of all parameters together.
pub fn global_norm<M: Module>(module: &M, gradients: &GradientsParams) -> f32 {
    let mut squares = Squares {
        gradients,
        sums: Vec::new(),
    };
    module.visit(&mut squares);
    let sum = squares.sums.into_iter().reduce(|sum, own| sum + own);
    // One read for all parameters: on a GPU each would wait for the device.
    sum.map_or(0.0, |sum| sum.sqrt().into_scalar::<f32>())
}

/// The factor that shortens gradients of norm `norm` to `max_norm`; 1 for shorter ones. A `max_norm` of 0
/// switches clipping off.
pub fn clip_factor(norm: f32, max_norm: f64) -> f64 {
    if max_norm > 0.0 {
        (max_norm / f64::from(norm)).min(1.0)
    } else {
        1.0
    }
}

/// Collects the sum of squares of each parameter's gradient.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = self.gradients.get::<D>(param.id);
        self.sums.extend(gradient.map(square_sum));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::LinearConfig;
    use burn::tensor::Device;
    use latentlm::core::conformance::seeded;

    /// Four 3s and two 4s: the norm is sqrt(68).
    #[test]
    fn the_norm_is_that_of_all_parameters_together() {
        let device = Device::default();
        let module = seeded(1, &device, |device| LinearConfig::new(2, 2).init(device));
        let mut gradients = GradientsParams::new();
        gradients.register(module.weight.id, Tensor::<2>::full([2, 2], 3.0, &device));
        let bias = module.bias.as_ref().unwrap().id;
        gradients.register(bias, Tensor::<1>::full([2], 4.0, &device));
        let norm = global_norm(&module, &gradients);
        assert!((norm - 68f32.sqrt()).abs() < 1e-5);
        assert_eq!(global_norm(&module, &GradientsParams::new()), 0.0);
    }

    #[test]
    fn only_gradients_that_are_too_long_are_scaled() {
        let cases = [
            (4.0, 1.0, 0.25),
            (0.5, 1.0, 1.0),
            (0.0, 1.0, 1.0),
            (4.0, 0.0, 1.0),
        ];
        for (norm, max_norm, expected) in cases {
            assert_eq!(
                clip_factor(norm, max_norm),
                expected,
                "{norm} to {max_norm}"
            );
        }
    }
}
