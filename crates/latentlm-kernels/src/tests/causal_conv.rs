//! Causal convolutions against their compositions and against Burn's, whole and in pieces.

use burn::tensor::Tensor;
use burn::tensor::module::{conv_transpose1d, conv1d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};

use super::{Input, assert_close, check, check_slope, draw, normal, values};
use crate::depthwise::{self, depthwise_conv};
use crate::{causal_conv, causal_conv_transpose, rounded_products, without_kernels};

/// Batch, frames, channels, samples of a frame, taps, outputs: those of a speech codec's first, last and resampling
/// convolutions, made small, fewer frames than taps, and frames for a task and a little more.
const SMALL: [[usize; 6]; 9] = [
    [2, 9, 1, 1, 7, 8],
    [2, 9, 8, 1, 7, 1],
    [2, 5, 3, 1, 7, 4],
    [3, 1, 4, 2, 2, 3],
    [1, 11, 3, 5, 2, 6],
    [2, 7, 2, 3, 1, 4],
    [2, 64, 5, 1, 3, 3],
    [1, 71, 8, 1, 7, 1],
    [2, 67, 2, 4, 2, 5],
];

type Convolve<const D: usize> = fn(Tensor<3>, Option<Tensor<3>>, Tensor<D>, Tensor<1>) -> Tensor<3>;

/// Arguments of a convolution.
struct Given<const D: usize> {
    x: Tensor<3>,
    past: Option<Tensor<3>>,
    weight: Tensor<D>,
    bias: Tensor<1>,
}

impl<const D: usize> Given<D> {
    fn run(&self, convolve: Convolve<D>) -> Tensor<3> {
        convolve(
            self.x.clone(),
            self.past.clone(),
            self.weight.clone(),
            self.bias.clone(),
        )
    }

    fn inputs(&self, weight: fn(Tensor<D>) -> Input) -> Vec<Input> {
        let mut inputs = vec![
            Input::Cube(self.x.clone()),
            weight(self.weight.clone()),
            Input::Vector(self.bias.clone()),
        ];
        inputs.extend(self.past.clone().map(Input::Cube));
        inputs
    }

    /// The frames behind those before them.
    fn extended(&self, before: usize) -> Tensor<3> {
        if before == 0 {
            return self.x.clone();
        }
        let [batch, _, width] = self.x.dims();
        let zeros = || Tensor::zeros([batch, before, width], &self.x.device());
        let past = self.past.clone().unwrap_or_else(zeros);
        Tensor::cat(vec![past, self.x.clone()], 1)
    }
}

/// A weight for outputs of about 1.
fn weight<const D: usize>(shape: [usize; D], inputs: usize) -> Tensor<D> {
    draw(shape)
        .mul_scalar(1.0 / (inputs as f64).sqrt())
        .require_grad()
}

fn down(sizes: [usize; 6], has_past: bool) -> Given<3> {
    let [batch, frames, channels, samples, taps, output] = sizes;
    let (width, kernel) = (samples * channels, taps * samples);
    Given {
        x: normal([batch, frames, width]),
        past: (has_past && taps > 1).then(|| normal([batch, taps - 1, width])),
        weight: weight([kernel, channels, output], kernel * channels),
        bias: normal([output]),
    }
}

fn up(sizes: [usize; 6], has_past: bool) -> Given<4> {
    let [batch, frames, channels, samples, taps, output] = sizes;
    Given {
        x: normal([batch, frames, channels]),
        past: (has_past && taps > 1).then(|| normal([batch, taps - 1, channels])),
        weight: weight([taps, channels, samples, output], taps * channels),
        bias: normal([output]),
    }
}

fn burns(given: &Given<3>) -> Tensor<3> {
    let [kernel, channels, _] = given.weight.dims();
    let [batch, _, width] = given.x.dims();
    let stride = width / channels;
    let x = given.extended(kernel / stride - 1);
    let samples = x.dims()[1] * stride;
    let x = x.reshape([batch, samples, channels]).swap_dims(1, 2);
    let weight = given.weight.clone().permute([2, 1, 0]);
    let options = ConvOptions::new([stride], [0], [1], 1);
    conv1d(x, weight, Some(given.bias.clone()), options).swap_dims(1, 2)
}

/// Burn's gives all samples that a frame reaches: those of the past come first, those after the end last.
fn burns_transpose(given: &Given<4>) -> Tensor<3> {
    let [taps, channels, samples, output] = given.weight.dims();
    let frames = given.x.dims()[1];
    let weight = given.weight.clone().permute([1, 3, 0, 2]);
    let y = conv_transpose1d(
        given.extended(taps - 1).swap_dims(1, 2),
        weight.reshape([channels, output, taps * samples]),
        Some(given.bias.clone()),
        ConvTransposeOptions::new([samples], [0], [0], [1], 1),
    );
    let first = (taps - 1) * samples;
    y.narrow(2, first, frames * samples).swap_dims(1, 2)
}

#[test]
fn convolutions_are_burns_and_their_compositions() {
    for sizes in SMALL {
        for has_past in [false, true] {
            let what = |of: &str| format!("{of}, {sizes:?}, past {has_past}");
            let given = down(sizes, has_past);
            let run = || given.run(causal_conv);
            let inputs = given.inputs(Input::Cube);
            check(&what("composed"), &inputs, run, || without_kernels(run));
            check(&what("Burn's"), &inputs, run, || burns(&given));
            let given = up(sizes, has_past);
            let run = || given.run(causal_conv_transpose);
            let inputs = given.inputs(Input::Pictures);
            let what = |of: &str| what(&format!("transposed, {of}"));
            check(&what("composed"), &inputs, run, || without_kernels(run));
            check(&what("Burn's"), &inputs, run, || burns_transpose(&given));
        }
    }
}

/// Signals of several tasks, weights that all threads share, and few windows with such a weight.
#[test]
fn large_convolutions_are_their_compositions() {
    for (sizes, is_transposed) in [
        ([2, 9001, 1, 1, 7, 8], false),
        ([2, 9001, 8, 1, 7, 3], false),
        ([3, 151, 32, 8, 2, 800], false),
        ([3, 151, 800, 8, 2, 32], true),
        ([1, 70, 512, 2, 2, 600], false),
        ([2, 2, 512, 2, 2, 600], false),
        ([1, 2, 700, 8, 2, 100], true),
    ] {
        let what = format!("{sizes:?}");
        if is_transposed {
            let given = up(sizes, true);
            let run = || given.run(causal_conv_transpose);
            let inputs = given.inputs(Input::Pictures);
            check(&what, &inputs, run, || without_kernels(run));
        } else {
            let given = down(sizes, true);
            let run = || given.run(causal_conv);
            let inputs = given.inputs(Input::Cube);
            check(&what, &inputs, run, || without_kernels(run));
        }
    }
}

/// Signals of one product and of tasks.
#[test]
fn gradients_are_slopes() {
    for sizes in [[2, 9, 3, 2, 3, 4], [1, 65, 2, 2, 2, 1]] {
        let what = |input: &str| format!("{input}, {sizes:?}");
        let Given {
            x,
            past,
            weight,
            bias,
        } = down(sizes, true);
        let past = past.expect("more than one tap");
        check_slope(&what("x"), x.clone(), |x| {
            causal_conv(x, Some(past.clone()), weight.clone(), bias.clone())
        });
        check_slope(&what("past"), past.clone(), |past| {
            causal_conv(x.clone(), Some(past), weight.clone(), bias.clone())
        });
        check_slope(&what("weight"), weight.clone(), |weight| {
            causal_conv(x.clone(), Some(past.clone()), weight, bias.clone())
        });
        check_slope(&what("bias"), bias.clone(), |bias| {
            causal_conv(x.clone(), Some(past.clone()), weight.clone(), bias)
        });
        let given = up(sizes, false);
        let (weight, bias) = (given.weight, given.bias);
        check_slope(&what("transposed, x"), given.x.clone(), |x| {
            causal_conv_transpose(x, None, weight.clone(), bias.clone())
        });
        check_slope(&what("transposed, weight"), weight.clone(), |weight| {
            causal_conv_transpose(given.x.clone(), None, weight, bias.clone())
        });
    }
}

/// The same convolution in pieces of the signal, each with the last frames before it.
fn in_pieces<const D: usize>(
    given: &Given<D>,
    convolve: Convolve<D>,
    before: usize,
    piece: usize,
) -> Tensor<3> {
    let [batch, frames, width] = given.x.dims();
    let mut past = Tensor::zeros([batch, before, width], &given.x.device());
    let mut parts = Vec::new();
    for start in (0..frames).step_by(piece) {
        let count = piece.min(frames - start);
        let part = Given {
            x: given.x.clone().narrow(1, start, count),
            past: Some(past),
            weight: given.weight.clone(),
            bias: given.bias.clone(),
        };
        parts.push(part.run(convolve));
        past = part.extended(before).narrow(1, count, before);
    }
    Tensor::cat(parts, 1)
}

/// Values, and gradients, which go from piece to piece by the frames before.
#[test]
fn pieces_are_the_whole() {
    for sizes in [
        [2, 22, 3, 1, 7, 4],
        [2, 22, 1, 1, 7, 5],
        [1, 22, 8, 1, 7, 1],
        [2, 22, 2, 5, 2, 4],
        [2, 100, 2, 2, 3, 9],
    ] {
        let before = sizes[4] - 1;
        for piece in [1, 3, 7, 70] {
            let what = format!("{sizes:?} in pieces of {piece}");
            let given = down(sizes, false);
            check(
                &what,
                &given.inputs(Input::Cube),
                || in_pieces(&given, causal_conv, before, piece),
                || given.run(causal_conv),
            );
            let given = up(sizes, false);
            check(
                &format!("transposed, {what}"),
                &given.inputs(Input::Pictures),
                || in_pieces(&given, causal_conv_transpose, before, piece),
                || given.run(causal_conv_transpose),
            );
        }
    }
}

fn filters(batch: usize, frames: usize, channels: usize, taps: usize) -> Given<3> {
    Given {
        x: normal([batch, frames, channels]),
        past: (taps > 1).then(|| normal([batch, taps - 1, channels])),
        weight: normal([channels, 1, taps]),
        bias: normal([channels]),
    }
}

#[test]
fn depthwise_is_a_convolution() {
    for (frames, channels, taps) in [(1, 3, 1), (4, 1, 7), (9, 20, 7), (40, 33, 3), (900, 21, 7)] {
        let mut given = filters(2, frames, channels, taps);
        for past in [given.past.clone(), None] {
            given.past = past;
            let what = format!("{frames} frames, {channels} channels, {taps} taps");
            let inputs = given.inputs(Input::Cube);
            let kernel = || given.run(depthwise_conv);
            check(&what, &inputs, kernel, || given.run(depthwise::composed));
        }
    }
    let Given {
        x,
        past,
        weight,
        bias,
    } = filters(2, 9, 5, 4);
    let past = past.expect("more than one tap");
    check_slope("depthwise, x", x.clone(), |x| {
        depthwise_conv(x, Some(past.clone()), weight.clone(), bias.clone())
    });
    check_slope("depthwise, past", past.clone(), |past| {
        depthwise_conv(x.clone(), Some(past), weight.clone(), bias.clone())
    });
    check_slope("depthwise, weight", weight.clone(), |weight| {
        depthwise_conv(x.clone(), Some(past.clone()), weight, bias.clone())
    });
}

/// The sums of an output are the same whatever frames lie before it in the same call.
#[test]
fn depthwise_pieces_are_the_whole() {
    for (channels, taps) in [(1, 7), (33, 7), (8, 2)] {
        let mut given = filters(2, 22, channels, taps);
        given.past = None;
        for piece in [1, 3, 7] {
            let what = format!("{channels} channels, {taps} taps, pieces of {piece}");
            let pieces = || in_pieces(&given, depthwise_conv, taps - 1, piece);
            let whole = || given.run(depthwise_conv);
            assert_eq!(values(pieces()), values(whole()), "{what}");
            check(&what, &given.inputs(Input::Cube), pieces, whole);
        }
    }
}

/// Where the factors of products are rounded, those of convolutions are too.
#[test]
fn convolutions_multiply_rounded_numbers() {
    let given = down([2, 70, 6, 2, 2, 5], true);
    let run = || given.run(causal_conv);
    let (rounded, exact) = (values(rounded_products(run)), values(run()));
    assert_ne!(rounded, exact);
    // Factors have errors of 2^-9 at most, and 24 products are added.
    assert_close("rounded", &rounded, &exact, 2e-2);
}

#[test]
#[should_panic(expected = "the frames before [2, 5, 3] for 4 taps")]
fn a_past_of_another_length_is_refused() {
    let given = down([2, 5, 3, 1, 4, 2], true);
    let short = given.past.map(|past| past.narrow(1, 0, 2));
    causal_conv(given.x, short, given.weight, given.bias);
}
