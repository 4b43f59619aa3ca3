//! Clipping of gradients by their norm over all parameters together (Burn's clips each parameter
//! on its own).

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// Multiplies gradients by `share`, scales them down to `max_norm` if they are longer than that, and
/// returns their norm between the two.
pub fn clip_global_norm<M: Module>(
    module: &M,
    gradients: GradientsParams,
    share: f64,
    max_norm: f64,
) -> (GradientsParams, f32) {
    let mut norm = SquareSum {
        gradients: &gradients,
        sum: None,
    };
    module.visit(&mut norm);
    // One read for all parameters: on a GPU each would wait for the device.
    let norm = norm.sum.map_or(0.0, |sum| sum.sqrt().into_scalar::<f32>());
    let norm = share as f32 * norm;
    let factor = share * (max_norm / f64::from(norm)).min(1.0);
    if factor == 1.0 || !norm.is_finite() {
        return (gradients, norm);
    }
    let mut scale = Scale { gradients, factor };
    module.visit(&mut scale);
    (scale.gradients, norm)
}

struct SquareSum<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for SquareSum<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
}

struct Scale {
    gradients: GradientsParams,
    factor: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.gradients
                .register(param.id, gradient.mul_scalar(self.factor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;

    fn gradients(module: &Linear) -> GradientsParams {
        let mut gradients = GradientsParams::new();
        let device = Device::default();
        gradients.register(module.weight.id, Tensor::<2>::full([2, 2], 3.0, &device));
        if let Some(bias) = &module.bias {
            gradients.register(bias.id, Tensor::<1>::full([2], 4.0, &device));
        }
        gradients
    }

    /// Four 3s and two 4s: the norm is sqrt(68).
    #[test]
    fn scales_all_parameters_by_one_factor() {
        let module = LinearConfig::new(2, 2).init(&Device::default());
        let (clipped, norm) = clip_global_norm(&module, gradients(&module), 1.0, 1.0);
        assert!((norm - 68f32.sqrt()).abs() < 1e-5);
        let weight = clipped.get::<2>(module.weight.id).unwrap();
        assert!((weight.max().into_scalar::<f32>() - 3.0 / 68f32.sqrt()).abs() < 1e-6);
        let (kept, _) = clip_global_norm(&module, gradients(&module), 1.0, 10.0);
        let weight = kept.get::<2>(module.weight.id).unwrap();
        assert_eq!(weight.max().into_scalar::<f32>(), 3.0);
        let (halved, norm) = clip_global_norm(&module, gradients(&module), 0.5, 10.0);
        assert!((norm - 17f32.sqrt()).abs() < 1e-5);
        let weight = halved.get::<2>(module.weight.id).unwrap();
        assert_eq!(weight.max().into_scalar::<f32>(), 1.5);
    }
}
