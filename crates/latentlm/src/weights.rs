//! Weights of fewer bits, for a model that only infers on a CPU.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};
use latentlm_core::{CausalBackbone, LatentHead};
use latentlm_kernels::{WEIGHT_GROUP, WeightBits, quantized_weight};

use crate::model::LatentLm;

/// Type of the matrices of a model that only infers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmallWeights {
    /// bfloat16.
    Bf16,
    /// The backbone's matrices in int8 or int4 with a scale for each group of 32 inputs, those of heads in bfloat16.
    /// So are matrices whose inputs are no whole groups.
    Quantized(WeightBits),
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<B, H> {
    /// Rounds the matrices of the backbone and heads. The model must be on the CPU without autodiff, and
    /// can't be trained or saved any more. Adapters, norms and biases stay as they are.
    pub fn with_small_weights(mut self, weights: SmallWeights) -> Self {
        let mut backbone = Rounding::to(weights);
        let mut heads = Rounding::to(SmallWeights::Bf16);
        self.backbone = self.backbone.map(&mut backbone);
        self.heads = self.heads.map(&mut heads);
        self
    }
}

/// Rounds the weights of linear layers.
struct Rounding {
    weights: SmallWeights,
    /// Types of the modules around a parameter.
    containers: Vec<String>,
}

impl Rounding {
    fn to(weights: SmallWeights) -> Self {
        Self {
            weights,
            containers: Vec::new(),
        }
    }

    /// A weight `[I, O]` rounded; `None` if the device has no products with such weights.
    fn rounded<const D: usize>(&self, weight: Tensor<D>) -> Option<Tensor<D>> {
        let inputs = weight.dims()[0];
        // Rows of inputs, one for each output: the order that products read them in.
        let rows = weight.transpose();
        match self.weights {
            SmallWeights::Quantized(bits) if inputs.is_multiple_of(WEIGHT_GROUP) => {
                let device = rows.device();
                let numbers = rows.into_data().convert::<f32>();
                let numbers: Vec<f32> = numbers.try_to_vec().ok()?;
                quantized_weight(&numbers, inputs, bits, &device)
            }
            _ => Some(rows.cast(DType::BF16).transpose()),
        }
    }
}

impl ModuleMapper for Rounding {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.containers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_linear = self
            .containers
            .last()
            .is_some_and(|of| of == "Struct:Linear");
        if D != 2 || !is_linear {
            return param;
        }
        let id = param.id;
        match self.rounded(param.val()) {
            Some(weight) => param.transform_for_load(weight, id),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use latentlm_core::conformance::seeded;
    use latentlm_core::{RandomStream, SampleOptions};

    use crate::config::LatentLmConfig;
    use crate::sizes::LmSizes;

    /// Hidden states and latents stay close to those of float32, the closer the more bits there are.
    #[test]
    fn fewer_bits_are_nearly_the_same() {
        let device = Device::default();
        let sizes = LmSizes::new().with_width(64).with_depth(2).with_heads(4);
        let config = LatentLmConfig::image(3, 4, 8).with_sizes(sizes);
        let exact = seeded(5, &device, |device| config.init(device));
        let x = RandomStream::new(1).normal([2, 9, 64], &device);
        let expected = exact.backbone.forward(x.clone());
        let draw = |model: &LatentLm| {
            let mut random = RandomStream::new(2);
            model.draw_images(&[0, 2], &SampleOptions::default(), &mut random)
        };
        let size = expected.clone().square().mean().into_scalar::<f32>();
        // In the root mean square, rounding is off by 1e-3 of a number in bfloat16, by 3e-3 in int8 and 5e-2 in int4
        // (both of the inputs' numbers, too); two blocks have eight products in a row.
        for (weights, bound) in [
            (SmallWeights::Bf16, 1e-2),
            (SmallWeights::Quantized(WeightBits::Eight), 2.5e-2),
            (SmallWeights::Quantized(WeightBits::Four), 0.4),
        ] {
            let small = exact.clone().with_small_weights(weights);
            let got = small.backbone.forward(x.clone());
            let error = (got - expected.clone())
                .square()
                .mean()
                .into_scalar::<f32>();
            let error = (error / size).sqrt();
            assert!(error > 0.0 && error < bound, "{weights:?}: {error}");
            let latents = draw(&small.prepared_for_sampling());
            let data = latents.into_data().convert::<f32>();
            let latents: Vec<f32> = data.try_to_vec().expect("float32");
            assert!(latents.iter().all(|x| x.is_finite()), "{weights:?}");
        }
    }
}
