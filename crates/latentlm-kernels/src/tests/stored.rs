//! Weights that are only stored in bfloat16: products keep float32 outside of a graph, and round within one.

use burn::module::{Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{DType, Int, Tensor};

use super::{assert_close, block, draw, values};
use crate::{
    SwiGluBlock, depthwise_conv, embedding, linear, linear_layer, recomputed, rms_norm,
    swiglu_block, without_kernels,
};

/// Numbers without a graph.
fn plain<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    draw(shape).inner()
}

/// A weight `[inputs, outputs]` in the layout of a model's file.
fn weight(inputs: usize, outputs: usize) -> Tensor<2> {
    plain([outputs, inputs]).cast(DType::BF16).transpose()
}

#[test]
fn linear_keeps_float32() {
    for (rows, inputs, outputs) in [(1, 700, 500), (7, 19, 4), (40, 64, 33)] {
        let (x, w) = (plain([2, rows, inputs]), weight(inputs, outputs));
        let bias = plain([outputs]).cast(DType::BF16);
        let product = || linear(x.clone(), w.clone(), Some(bias.clone()));
        let (got, expected) = (product(), without_kernels(product));
        assert_eq!([got.dtype(), expected.dtype()], [DType::F32; 2]);
        assert_eq!(got.dims(), [2, rows, outputs]);
        let exact = w.clone().cast(DType::F32).unsqueeze::<3>();
        let size = values(x.clone().abs().matmul(exact.abs()));
        let both = values(got).into_iter().zip(values(expected));
        for ((got, expected), size) in both.zip(size) {
            // Inputs are rounded to 8 bits at most: by 2^-8 of themselves. The rest is float32.
            let bound = size / 250.0 + 1e-5;
            assert!((got - expected).abs() <= bound, "{got} for {expected}");
        }
    }
}

/// The block with its projections in bfloat16, and the same numbers in float32.
fn blocks(width: usize, inner: usize) -> [SwiGluBlock; 2] {
    let exact = block(width, inner, true);
    let rounded = |x: &Tensor<2>, dtype| x.clone().inner().cast(DType::BF16).cast(dtype);
    [DType::BF16, DType::F32].map(|dtype| SwiGluBlock {
        norm_weight: exact.norm_weight.clone().map(Tensor::inner),
        epsilon: exact.epsilon,
        gate: rounded(&exact.gate, dtype),
        up: rounded(&exact.up, dtype),
        down: rounded(&exact.down, dtype),
    })
}

#[test]
fn swiglu_block_keeps_float32() {
    for (rows, width, inner) in [(3, 4, 6), (50, 24, 64)] {
        let [stored, exact] = blocks(width, inner);
        for modulated in [false, true] {
            let x = plain([rows, width]);
            let modulation = modulated.then(|| plain([rows, 3 * width]));
            let expected = values(swiglu_block(x.clone(), &exact, modulation.clone()));
            let run = || swiglu_block(x.clone(), &stored, modulation.clone());
            // Rounded to 8 bits are the inputs of two products in a row; the modulation makes them larger.
            assert_close("with kernels", &values(run()), &expected, 3e-2);
            let composed = without_kernels(run);
            assert_eq!(composed.dtype(), DType::F32);
            assert_close("without kernels", &values(composed), &expected, 1e-5);
        }
    }
}

/// A model that is trained in bfloat16 rounds what it multiplies, in a graph and where a graph is left out for a
/// moment.
#[test]
fn a_graph_rounds() {
    let numbers = draw([8, 3]);
    let inputs = draw([5, 8]);
    let run = |layer: &Linear, [x]: [Tensor<2>; 1]| linear_layer(layer, x);
    // A graph each: one serves a single backward pass.
    let both = [false, true].map(|twice| {
        let weight = Param::initialized(ParamId::new(), numbers.clone().require_grad());
        let layer = Linear {
            weight: weight.map(|weight| weight.cast(DType::BF16)),
            bias: None,
        };
        let x = inputs.clone().require_grad();
        let y = if twice {
            recomputed(&layer, [x.clone()], run)
        } else {
            run(&layer, [x.clone()])
        };
        assert_eq!(y.dtype(), DType::BF16);
        let y = y.cast(DType::F32);
        let gradients = y.clone().sum().backward();
        let gradient = x.grad(&gradients).expect("a gradient");
        [values(y), values(gradient)]
    });
    assert_eq!(both[0], both[1]);
}

#[test]
fn rows_of_a_table_are_float32() {
    let table = plain([6, 4]).cast(DType::BF16);
    let tokens = Tensor::<2, Int>::from_ints([[5, 0, 5]], &table.device());
    let rows = embedding(table.clone(), tokens.clone());
    assert_eq!(rows.dtype(), DType::F32);
    let expected = embedding(table.cast(DType::F32), tokens);
    assert_eq!(values(rows), values(expected));
}

#[test]
fn small_parameters_may_be_bfloat16_too() {
    let (x, w, b) = (plain([2, 9, 5]), plain([5, 1, 3]), plain([5]));
    let [w, b] = [w.reshape([15]), b].map(|x: Tensor<1>| x.cast(DType::BF16));
    let conv = |dtype| {
        let w = w.clone().cast(dtype).reshape([5, 1, 3]);
        values(depthwise_conv(x.clone(), None, w, b.clone().cast(dtype)))
    };
    assert_eq!(conv(DType::BF16), conv(DType::F32));
    let norm = |dtype| values(rms_norm(x.clone(), Some(b.clone().cast(dtype)), 1e-6));
    assert_eq!(norm(DType::BF16), norm(DType::F32));
}
