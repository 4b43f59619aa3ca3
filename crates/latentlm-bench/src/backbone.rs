//! One position of a large backbone, with weights of 32 to 4 bits.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};
use latentlm::CausalBackbone;
use latentlm::backbone::TransformerConfig;
use latentlm::core::CausalBackboneConfig;
use latentlm_kernels::{WeightBits, quantized_weight};

use crate::Unit;
use crate::inputs::Inputs;
use crate::sizes::{DecodeSizes, DecodeWeights};

/// Puts the matrices of a module into their type, as a model's file would.
struct Rounding(DecodeWeights);

impl ModuleMapper for Rounding {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D != 2 || self.0 == DecodeWeights::F32 {
            return param;
        }
        let Some(weight) = in_memory(param.val(), self.0) else {
            return param;
        };
        let id = param.id;
        param.transform_for_load(weight, id)
    }
}

/// A float32 matrix with weights of another type; `None` if its device has no products with them.
///
/// # Shapes
/// - `weight`: `[I, O]`, `D` is 2; returns the same
pub(crate) fn in_memory<const D: usize>(
    weight: Tensor<D>,
    weights: DecodeWeights,
) -> Option<Tensor<D>> {
    let (inputs, device) = (weight.dims()[0], weight.device());
    let bits = match weights {
        DecodeWeights::F32 => return Some(weight),
        DecodeWeights::Bf16 => {
            // Row by row of outputs, the order that products with few rows read them in.
            let rows = weight.transpose().into_data().convert_dtype(DType::BF16);
            let rows = Tensor::<D>::from_data(rows, (&device, DType::BF16));
            return Some(rows.transpose());
        }
        DecodeWeights::Int8 => WeightBits::Eight,
        DecodeWeights::Int4 => WeightBits::Four,
    };
    let rows = weight.transpose().into_data().convert::<f32>();
    quantized_weight(rows.as_slice::<f32>().ok()?, inputs, bits, &device)
}

/// Each unit is the next position of one sequence; a full cache begins anew.
pub(super) fn decode(sizes: DecodeSizes, mut inputs: Inputs) -> Unit {
    let config = TransformerConfig::new(sizes.width, sizes.depth, sizes.heads)
        .with_kv_heads(sizes.kv_heads)
        .with_mlp_ratio(sizes.mlp_ratio)
        .with_final_norm(false)
        .with_condition_layer(false);
    let model = config
        .init(&inputs.device)
        .map(&mut Rounding(sizes.weights));
    let mut kv_cache = model.init_state(1, sizes.positions, &inputs.device);
    let mut position = 0;
    Box::new(move || {
        if position == sizes.positions {
            kv_cache = model.init_state(1, sizes.positions, &inputs.device);
            position = 0;
        }
        position += 1;
        let input = inputs.normal([1, 1, sizes.width]);
        model.step(input, &mut kv_cache);
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use latentlm::RandomStream;

    use super::*;

    /// Weights that do not depend on other tests.
    struct Drawn(RandomStream);

    impl ModuleMapper for Drawn {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|weight| {
                let drawn = self.0.normal(weight.dims(), &weight.device());
                drawn.mul_scalar(0.1)
            })
        }
    }

    /// Outputs with smaller weights are those of float32 up to the rounding of the weights: with random weights each
    /// relative error is about that of a weight.
    #[test]
    fn smaller_weights_compute_nearly_the_same() {
        let device = Device::default();
        let config = TransformerConfig::new(64, 2, 4);
        let exact = config.init(&device).map(&mut Drawn(RandomStream::new(3)));
        let x: Tensor<3> = RandomStream::new(1).normal([1, 1, 64], &device);
        let output = |weights| {
            let model = exact.clone().map(&mut Rounding(weights));
            let mut kv_cache = model.init_state(1, 2, &device);
            model.step(x.clone(), &mut kv_cache)
        };
        let expected = output(DecodeWeights::F32);
        let size: f32 = expected.clone().square().sum().into_scalar();
        for (weights, bound) in [
            // 2^-9 a weight and a row.
            (DecodeWeights::Bf16, 0.02),
            // A 254th of the largest of a group.
            (DecodeWeights::Int8, 0.04),
            // A 14th of it.
            (DecodeWeights::Int4, 0.5),
        ] {
            // A build without kernels has no products with them.
            if in_memory(Tensor::<2>::ones([32, 32], &device), weights).is_none() {
                continue;
            }
            let error: f32 = (output(weights) - expected.clone())
                .square()
                .sum()
                .into_scalar();
            let relative = (error / size).sqrt();
            assert!(
                relative > 0.0 && relative < bound,
                "{weights:?}: {relative}"
            );
        }
    }
}
