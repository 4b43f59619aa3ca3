//! Products whose factors are rounded to bfloat16, as training in bfloat16 has them on a CPU.

use burn::module::{Param, ParamId};
use burn::nn::Linear;
use burn::tensor::{DType, Tensor};

use super::{assert_close, block, device, draw, normal, values};
use crate::{
    linear, linear_layer, recomputed, rounded_products, rounds_products, swiglu_block,
    without_kernels,
};

/// The numbers that are multiplied, without a graph.
fn rounded<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    let x = x.clone().inner();
    x.cast(DType::BF16).cast(DType::F32)
}

#[test]
fn the_cpu_rounds_unless_kernels_are_off() {
    let device = device();
    assert!(rounds_products(&device) && rounds_products(&device.clone().inner()));
    assert!(!without_kernels(|| rounds_products(&device)));
}

/// Value and gradients are those of rounded factors, the bias is exact. The backward pass runs where nothing rounds.
#[test]
fn linear_multiplies_rounded_numbers() {
    for (rows, input, output) in [(1, 3, 5), (7, 19, 4), (130, 70, 33)] {
        let (x, w, b) = (
            normal([rows, input]),
            normal([input, output]),
            normal([output]),
        );
        let run = || linear(x.clone(), w.clone(), Some(b.clone()));
        let (y, exact) = (rounded_products(run), run());
        assert_ne!(values(y.clone()), values(exact));
        let bias = b.clone().inner().unsqueeze::<2>();
        let expected = rounded(&x).matmul(rounded(&w)) + bias;
        // float32 sums of at most 130 products in two orders.
        assert_close("product", &values(y.clone()), &values(expected), 1e-5);
        let direction = draw([rows, output]);
        let gradients = (y * direction.clone()).sum().backward();
        let dy = rounded(&direction);
        let dx = dy.clone().matmul(rounded(&w).transpose());
        let got = x.grad(&gradients).unwrap();
        assert_close("gradient of x", &values(got), &values(dx), 1e-5);
        let dw = rounded(&x).transpose().matmul(dy);
        let got = w.grad(&gradients).unwrap();
        assert_close("gradient of the weight", &values(got), &values(dw), 1e-5);
        let db = direction.inner().sum_dim(0);
        let got = b.grad(&gradients).unwrap();
        assert_close("gradient of the bias", &values(got), &values(db), 1e-5);
    }
}

/// A block's value and gradients are near those in float32, and not the same.
#[test]
fn a_block_multiplies_rounded_numbers() {
    let (rows, width, inner) = (50, 24, 64);
    let (x, modulation) = (normal([rows, width]), normal([rows, 3 * width]));
    let block = block(width, inner, true);
    let direction = draw([rows, width]);
    let run = || swiglu_block(x.clone(), &block, Some(modulation.clone()));
    let found = |y: Tensor<2>| {
        let gradients = (y.clone() * direction.clone()).sum().backward();
        let of_weights = [&block.gate, &block.up, &block.down, &modulation, &x];
        let mut all = of_weights
            .map(|x| values(x.grad(&gradients).unwrap()))
            .to_vec();
        all.push(values(y));
        all
    };
    for (got, exact) in found(rounded_products(run)).iter().zip(&found(run())) {
        assert_ne!(got, exact);
        // Numbers have errors of 2^-9 at most; three products follow each other.
        assert_close("block", got, exact, 2e-2);
    }
}

/// The second run of a recomputed part rounds as the first one did, although it runs later.
#[test]
fn recomputed_products_round_too() {
    let layer = Linear {
        weight: Param::initialized(ParamId::new(), normal([6, 5])),
        bias: None,
    };
    let x = normal([9, 6]);
    let run = |layer: &Linear, [x]: [Tensor<2>; 1]| linear_layer(layer, x);
    let gradient = |y: Tensor<2>| {
        let gradients = y.clone().square().sum().backward();
        let of_weight = layer.weight.val().grad(&gradients).unwrap();
        (values(y), values(of_weight))
    };
    let direct = rounded_products(|| run(&layer, [x.clone()]));
    let again = rounded_products(|| recomputed(&layer, [x.clone()], run));
    let exact = gradient(recomputed(&layer, [x.clone()], run));
    // What was not rounded forward is not rounded backward either, whatever this thread does by then.
    let later = recomputed(&layer, [x.clone()], run);
    assert_eq!(rounded_products(|| gradient(later)), exact);
    let (direct, again) = (gradient(direct), gradient(again));
    assert_eq!(again.0, direct.0);
    assert_close("gradient", &again.1, &direct.1, 1e-5);
    assert_ne!(again.1, exact.1);
}
