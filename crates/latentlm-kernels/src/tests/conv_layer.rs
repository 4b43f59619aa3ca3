//! The residual layer of a codec against its composition, whole and in pieces, and with smaller weights.

use burn::tensor::{DType, Tensor};

use super::{Input, assert_close, check, check_slope, draw, normal, values};
use crate::conv_layer::{composed, conv_layer};
use crate::{ConvLayerWeights, WeightBits, quantized_weight, rounded_products, without_kernels};

/// A weight for outputs of about 1.
fn weight(inputs: usize, outputs: usize) -> Tensor<2> {
    let scale = 1.0 / (inputs as f64).sqrt();
    draw([inputs, outputs]).mul_scalar(scale).require_grad()
}

/// A layer whose parameters all track a gradient.
fn layer(width: usize, taps: usize) -> ConvLayerWeights {
    let inner = 3 * width;
    ConvLayerWeights {
        norm: normal([width]),
        epsilon: 1e-5,
        filter: normal([width, 1, taps]),
        filter_bias: normal([width]),
        gamma: normal([width]),
        ffn_norm: normal([width]),
        ffn_epsilon: 1e-6,
        up: weight(width, inner),
        up_bias: normal([inner]),
        down: weight(inner, width),
        down_bias: normal([width]),
        ffn_gamma: normal([width]),
    }
}

fn inputs(x: &Tensor<3>, past: &Option<Tensor<3>>, layer: &ConvLayerWeights) -> Vec<Input> {
    let mut inputs = vec![
        Input::Cube(x.clone()),
        Input::Vector(layer.norm.clone()),
        Input::Cube(layer.filter.clone()),
        Input::Vector(layer.filter_bias.clone()),
        Input::Vector(layer.gamma.clone()),
        Input::Vector(layer.ffn_norm.clone()),
        Input::Matrix(layer.up.clone()),
        Input::Vector(layer.up_bias.clone()),
        Input::Matrix(layer.down.clone()),
        Input::Vector(layer.down_bias.clone()),
        Input::Vector(layer.ffn_gamma.clone()),
    ];
    inputs.extend(past.clone().map(Input::Cube));
    inputs
}

fn check_layer([batch, frames, width, taps]: [usize; 4], has_past: bool) {
    let layer = layer(width, taps);
    let x = normal([batch, frames, width]);
    let past = has_past.then(|| normal([batch, taps - 1, width]));
    check(
        &format!("{batch} x {frames} of {width}, {taps} taps, past {has_past}"),
        &inputs(&x, &past, &layer),
        || conv_layer(x.clone(), past.clone(), &layer),
        || without_kernels(|| composed(x.clone(), past.clone(), &layer)),
    );
}

/// Fewer frames than taps, one tap, rows that threads share and rows in blocks.
#[test]
fn a_layer_is_its_composition() {
    for sizes in [
        [1, 1, 3, 7],
        [3, 4, 5, 7],
        [2, 9, 33, 3],
        [3, 50, 6, 7],
        [1, 140, 64, 5],
    ] {
        for has_past in [false, true] {
            check_layer(sizes, has_past);
        }
    }
    check_layer([2, 5, 8, 1], false);
}

/// Several shards of rows, and weights that every block can't read for itself.
#[test]
fn large_layers_are_their_compositions() {
    check_layer([2, 2200, 8, 7], true);
    check_layer([1, 5, 600, 3], true);
}

#[test]
fn gradients_of_a_layer_are_slopes() {
    let layer = layer(8, 3);
    let (x, past) = (normal([2, 6, 8]), normal([2, 2, 8]));
    let run =
        |x: Tensor<3>, past: Tensor<3>, layer: &ConvLayerWeights| conv_layer(x, Some(past), layer);
    check_slope("x", x.clone(), |x| run(x, past.clone(), &layer));
    check_slope("past", past.clone(), |past| run(x.clone(), past, &layer));
    let with = |layer: ConvLayerWeights| run(x.clone(), past.clone(), &layer);
    check_slope("filter", layer.filter.clone(), |filter| {
        let layer = layer.clone();
        with(ConvLayerWeights { filter, ..layer })
    });
    check_slope("gamma", layer.gamma.clone(), |gamma| {
        let layer = layer.clone();
        with(ConvLayerWeights { gamma, ..layer })
    });
    check_slope("ffn_gamma", layer.ffn_gamma.clone(), |ffn_gamma| {
        let layer = layer.clone();
        with(ConvLayerWeights { ffn_gamma, ..layer })
    });
    check_slope("up", layer.up.clone(), |up| {
        let layer = layer.clone();
        with(ConvLayerWeights { up, ..layer })
    });
    check_slope("down", layer.down.clone(), |down| {
        let layer = layer.clone();
        with(ConvLayerWeights { down, ..layer })
    });
}

/// Each gradient goes to its own parameter if others are frozen.
#[test]
fn frozen_parameters_are_left_out() {
    let all = layer(5, 3);
    let frozen = ConvLayerWeights {
        norm: draw([5]),
        filter: draw([5, 1, 3]),
        up_bias: draw([15]),
        down: draw([15, 5]),
        ..all
    };
    let x = draw([2, 4, 5]);
    let learned = [
        Input::Vector(frozen.filter_bias.clone()),
        Input::Vector(frozen.gamma.clone()),
        Input::Vector(frozen.ffn_norm.clone()),
        Input::Matrix(frozen.up.clone()),
        Input::Vector(frozen.down_bias.clone()),
        Input::Vector(frozen.ffn_gamma.clone()),
    ];
    let run = || conv_layer(x.clone(), None, &frozen);
    check("frozen", &learned, run, || without_kernels(run));
    assert!(frozen.down.grad(&run().sum().backward()).is_none());
}

/// A stream that remembers the last frames of its input gives what the whole gives.
#[test]
fn pieces_of_a_layer_are_the_whole() {
    let (batch, frames, width, taps) = (2, 150, 12, 7);
    let layer = layer(width, taps);
    let x = normal([batch, frames, width]);
    let whole = || conv_layer(x.clone(), None, &layer);
    for piece in [1, 3, 80] {
        let pieces = || {
            let zeros = Tensor::zeros([batch, taps - 1, width], &x.device());
            let all = Tensor::cat(vec![zeros, x.clone()], 1);
            let starts = (0..frames).step_by(piece);
            let parts = starts.map(|start| {
                let count = piece.min(frames - start);
                let past = all.clone().narrow(1, start, taps - 1);
                conv_layer(x.clone().narrow(1, start, count), Some(past), &layer)
            });
            Tensor::cat(parts.collect(), 1)
        };
        let what = format!("pieces of {piece}");
        check(&what, &inputs(&x, &None, &layer), pieces, whole);
    }
}

/// Without a graph, with every type of weights.
#[test]
fn smaller_weights_are_near() {
    let exact = layer(32, 7);
    let plain = |x: &Tensor<1>| x.clone().inner();
    let with = |up: Tensor<2>, down: Tensor<2>| ConvLayerWeights {
        norm: plain(&exact.norm),
        filter: exact.filter.clone().inner(),
        filter_bias: plain(&exact.filter_bias),
        gamma: plain(&exact.gamma),
        ffn_norm: plain(&exact.ffn_norm),
        up,
        up_bias: plain(&exact.up_bias),
        down,
        down_bias: plain(&exact.down_bias),
        ffn_gamma: plain(&exact.ffn_gamma),
        ..exact
    };
    let matrices = || [&exact.up, &exact.down].map(|weight| weight.clone().inner());
    let stored = matrices().map(|weight| {
        let rows = weight.transpose().cast(DType::BF16);
        rows.transpose()
    });
    let quantized = matrices().map(|weight| {
        let ([inputs, _], device) = (weight.dims(), weight.device());
        let rows = values(weight.transpose());
        let weight = quantized_weight(&rows, inputs, WeightBits::Eight, &device);
        weight.expect("the CPU has products with such weights")
    });
    for frames in [3, 90] {
        let x: Tensor<3> = draw([2, frames, 32]).inner();
        let run = |[up, down]: [Tensor<2>; 2]| {
            let layer = with(up, down);
            let got = values(conv_layer(x.clone(), None, &layer));
            let expected = without_kernels(|| composed(x.clone(), None, &layer));
            (got, values(expected))
        };
        let (got, expected) = run(matrices());
        assert_close("float32", &got, &expected, 1e-5);
        for (what, weights) in [("bfloat16", &stored), ("int8", &quantized)] {
            let (got, expected) = run(weights.clone());
            // The rows of two products in a row are rounded to 8 bits at most; weights are the same on both sides, but that tiles
            // round those of int8 to 8 bits of each number.
            assert_close(what, &got, &expected, 3e-2);
        }
    }
}

/// Where the factors of products are rounded, those of the layer are too.
#[test]
fn a_layer_multiplies_rounded_numbers() {
    let layer = layer(16, 5);
    let x = normal([2, 30, 16]);
    let run = || conv_layer(x.clone(), None, &layer);
    let (rounded, exact) = (values(rounded_products(run)), values(run()));
    assert_ne!(rounded, exact);
    // Factors of two products in a row have errors of 2^-9 at most.
    assert_close("rounded", &rounded, &exact, 2e-2);
}

#[test]
#[should_panic(expected = "the projections")]
fn projections_of_other_sizes_are_refused() {
    let other = ConvLayerWeights {
        down: weight(5, 4),
        ..layer(4, 3)
    };
    conv_layer(draw([1, 2, 4]), None, &other);
}
