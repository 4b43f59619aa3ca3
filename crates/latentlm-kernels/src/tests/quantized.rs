//! Weights of 8 and 4 bits: products against those with the numbers that they stand for.

use burn::module::{Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{DType, Device, Tensor};

use super::{assert_close, block, draw, values};
use crate::{
    SwiGluBlock, WEIGHT_GROUP, WeightBits, linear, linear_layer, quantized_parts, quantized_weight,
    swiglu_block, weight_of_parts, without_kernels,
};

const BOTH: [WeightBits; 2] = [WeightBits::Eight, WeightBits::Four];

/// Numbers without a graph.
fn plain<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    draw(shape).inner()
}

/// A float32 matrix `[inputs, outputs]`, quantized.
fn quantized(exact: Tensor<2>, bits: WeightBits) -> Tensor<2> {
    let inputs = exact.dims()[0];
    let rows = values(exact.transpose());
    quantized_weight(&rows, inputs, bits, &Device::default()).expect("kernels for the CPU")
}

/// The numbers of a quantized weight.
fn widened(weight: &Tensor<2>) -> Tensor<2> {
    let one = Tensor::eye(weight.dims()[0], &weight.device());
    without_kernels(|| linear(one, weight.clone(), None))
}

#[test]
fn linear_keeps_float32() {
    for (bits, (rows, inputs, outputs)) in BOTH
        .into_iter()
        .flat_map(|bits| [(1, 704, 500), (7, 32, 4), (40, 96, 33)].map(|sizes| (bits, sizes)))
    {
        let x = plain([2, rows, inputs]);
        let w = quantized(plain([inputs, outputs]), bits);
        assert_eq!(w.dims(), [inputs, outputs]);
        let bias = plain([outputs]);
        let product = || linear(x.clone(), w.clone(), Some(bias.clone()));
        let (got, expected) = (product(), without_kernels(product));
        assert_eq!([got.dtype(), expected.dtype()], [DType::F32; 2]);
        assert_eq!(got.dims(), [2, rows, outputs]);
        // Inputs are rounded by half a step at most: a 254th of the largest of their group, so of all. Or both factors are
        // rounded to bfloat16, and products by a 256th. The rest is float32.
        let most = x.clone().abs().max().into_scalar::<f32>();
        let sizes = values(widened(&w).abs().sum_dim(0));
        let both = values(got).into_iter().zip(values(expected));
        for (index, (got, expected)) in both.enumerate() {
            let bound = most * sizes[index % outputs] / 250.0 + 1e-5;
            assert!((got - expected).abs() <= bound, "{got} for {expected}");
        }
    }
}

/// Half a step of int8 is a 254th of a group's largest number, of int4 a 16th, with more where the scale was chosen for
/// the sum of squares: up to 2.4 of the largest's 8 steps.
#[test]
fn weights_are_near_what_they_were() {
    for (bits, bound) in [(WeightBits::Eight, 1.0 / 250.0), (WeightBits::Four, 0.3)] {
        let exact = plain([96, 5]);
        let got = widened(&quantized(exact.clone(), bits));
        let groups = |x: Tensor<2>| values(x.transpose());
        let (exact, got) = (groups(exact), groups(got));
        for (exact, got) in exact.chunks(WEIGHT_GROUP).zip(got.chunks(WEIGHT_GROUP)) {
            let most = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            for (exact, got) in exact.iter().zip(got) {
                assert!((exact - got).abs() <= most * bound, "{got} for {exact}");
            }
        }
    }
}

#[test]
fn swiglu_block_keeps_float32() {
    for (bits, (rows, width, inner)) in BOTH
        .into_iter()
        .flat_map(|bits| [(3, 32, 64), (50, 96, 160)].map(|sizes| (bits, sizes)))
    {
        let exact = block(width, inner, true);
        let stored = SwiGluBlock {
            norm_weight: exact.norm_weight.clone().map(Tensor::inner),
            epsilon: exact.epsilon,
            gate: quantized(exact.gate.inner(), bits),
            // A block may have weights of several types.
            up: exact.up.inner().cast(DType::BF16),
            down: quantized(exact.down.inner(), bits),
        };
        for modulated in [false, true] {
            let x = plain([rows, width]);
            let modulation = modulated.then(|| plain([rows, 3 * width]));
            let run = || swiglu_block(x.clone(), &stored, modulation.clone());
            let expected = without_kernels(run);
            assert_eq!(expected.dtype(), DType::F32);
            // Rounded to 8 bits are the inputs of two products in a row; the modulation makes them larger.
            let what = format!("{bits:?}");
            assert_close(&what, &values(run()), &values(expected), 3e-2);
        }
    }
}

/// A parameter of a layer, as the float32 weight that it replaces.
#[test]
fn modules_keep_quantized_weights() {
    let w = quantized(plain([64, 9]), WeightBits::Eight);
    let layer = Linear {
        weight: Param::initialized(ParamId::new(), w.clone()),
        bias: None,
    };
    let x = plain([3, 64]);
    let expected = values(linear(x.clone(), w, None));
    assert_eq!(values(linear_layer(&layer.clone(), x)), expected);
    assert_eq!(layer.weight.lazy_shape().as_slice(), [64, 9]);
}

#[test]
fn a_files_parts_make_the_same_weight() {
    for bits in BOTH {
        let rows = values(plain([7, 96]));
        let parts = quantized_parts(&rows, 96, bits).expect("kernels for the CPU");
        let device = Device::default();
        let read = weight_of_parts::<2>(&parts, 96, bits, &device).expect("kernels for the CPU");
        let made = quantized_weight::<2>(&rows, 96, bits, &device).expect("kernels for the CPU");
        // A weight has no gradient.
        assert!(quantized_weight::<2>(&rows, 96, bits, &device.autodiff()).is_none());
        assert_eq!(values(widened(&read)), values(widened(&made)));
        assert_eq!(parts.scales.len(), 7 * 3 * 2);
    }
}
