//! Each kernel against the same computation with Burn's operations: values and gradients of all inputs. The
//! gradients are also compared with finite differences.

mod attention;
mod blockwise;
mod causal_conv;
mod conv2d;
mod conv_layer;
mod decode;
mod modulation;
mod quantized;
mod recompute;
mod rounded;
mod sinusoid;
mod spectral;
mod stored;

use std::cell::Cell;

use burn::module::{Param, ParamId};
use burn::nn::GroupNormConfig;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::activation;
use crate::cross_entropy::{self, cross_entropy};
use crate::swiglu::{self, swiglu_block};
use crate::types::{Activation, SwiGluBlock};
use crate::{gelu, group_norm_layer, layer_norm, linear, norm, optimizer, rms_norm, silu, tanh};

fn device() -> Device {
    Device::default().autodiff()
}

/// Normally distributed numbers, different at each call but the same in each run: each test has its own thread
/// and so its own stream.
fn draw<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    thread_local!(static STATE: Cell<u64> = const { Cell::new(1) });
    let uniform = || {
        // SplitMix64.
        let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(state);
        let x = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    // Box and Muller.
    let number = |_| {
        let (radius, turn) = (-2.0 * (1.0 - uniform()).ln(), uniform());
        (radius.sqrt() * (std::f64::consts::TAU * turn).cos()) as f32
    };
    let numbers: Vec<f32> = (0..shape.iter().product::<usize>()).map(number).collect();
    Tensor::from_data(TensorData::new(numbers, shape), &device())
}

/// Normally distributed numbers that track a gradient.
fn normal<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    draw(shape).require_grad()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().unwrap()
}

fn assert_close(what: &str, got: &[f32], expected: &[f32], bound: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0_f32, |scale, x| scale.max(x.abs()));
    for (got, expected) in got.iter().zip(expected) {
        let error = (got - expected).abs() / scale;
        assert!(error <= bound, "{what}: {got} for {expected}");
    }
}

/// An input of any rank, so that one check works for all operations.
enum Input {
    Vector(Tensor<1>),
    Matrix(Tensor<2>),
    Cube(Tensor<3>),
    Pictures(Tensor<4>),
}

impl Input {
    fn gradient(&self, gradients: &burn::tensor::Gradients) -> Vec<f32> {
        match self {
            Self::Vector(x) => values(x.grad(gradients).expect("a gradient")),
            Self::Matrix(x) => values(x.grad(gradients).expect("a gradient")),
            Self::Cube(x) => values(x.grad(gradients).expect("a gradient")),
            Self::Pictures(x) => values(x.grad(gradients).expect("a gradient")),
        }
    }
}

/// Checks that both functions give the same values and, for the same gradient of the result, the same
/// gradients of the inputs.
fn check<const D: usize>(
    what: &str,
    inputs: &[Input],
    kernel: impl Fn() -> Tensor<D>,
    composed: impl Fn() -> Tensor<D>,
) {
    let (got, expected) = (kernel(), composed());
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let direction = draw(got.dims());
    assert_close(what, &values(got.clone()), &values(expected.clone()), 1e-5);
    let of_kernel = (got * direction.clone()).sum().backward();
    let of_composed = (expected * direction).sum().backward();
    for (index, input) in inputs.iter().enumerate() {
        let what = format!("{what}: gradient of input {index}");
        let (got, expected) = (input.gradient(&of_kernel), input.gradient(&of_composed));
        assert_close(&what, &got, &expected, 2e-5);
    }
}

/// Checks the gradient of one input along a random direction against finite differences.
fn check_slope<const D: usize, const R: usize>(
    what: &str,
    x: Tensor<D>,
    kernel: impl Fn(Tensor<D>) -> Tensor<R>,
) {
    let loss = |x: Tensor<D>| kernel(x).square().mean();
    let direction = draw(x.dims());
    let gradients = loss(x.clone()).backward();
    let along = x.grad(&gradients).unwrap() * direction.clone().inner();
    let slope = along.sum().into_scalar::<f32>();
    let h = 5e-3;
    let at = |h: f32| {
        let moved = x.clone().detach() + direction.clone().mul_scalar(h);
        loss(moved).into_scalar::<f32>()
    };
    let numeric = (at(h) - at(-h)) / (2.0 * h);
    let error = (slope - numeric).abs() / numeric.abs().max(1e-2);
    assert!(error < 0.02, "{what}: {slope} for {numeric}");
}

#[test]
fn linear_is_a_product_with_a_bias() {
    for (rows, input, output) in [(1, 3, 5), (7, 19, 4), (40, 64, 33)] {
        let (x, w, b) = (
            normal([2, rows, input]),
            normal([input, output]),
            normal([output]),
        );
        let inputs = [
            Input::Cube(x.clone()),
            Input::Matrix(w.clone()),
            Input::Vector(b.clone()),
        ];
        let bias = || b.clone().reshape([1, 1, output]);
        check(
            "linear with bias",
            &inputs,
            || linear(x.clone(), w.clone(), Some(b.clone())),
            || x.clone().matmul(w.clone().unsqueeze()) + bias(),
        );
        check(
            "linear",
            &inputs[..2],
            || linear(x.clone(), w.clone(), None),
            || x.clone().matmul(w.clone().unsqueeze()),
        );
    }
    let w = normal([6, 4]);
    check_slope("linear", normal([5, 6]), |x| linear(x, w.clone(), None));
}

/// Transposed and narrowed views are not contiguous. Kernels must read the view and not its storage.
#[test]
fn views_are_read_as_views() {
    let (x, w) = (normal([9, 4]), normal([12, 5]));
    let inputs = [Input::Matrix(x.clone()), Input::Matrix(w.clone())];
    let view = || x.clone().transpose().narrow(1, 2, 6);
    let part = || w.clone().narrow(0, 3, 6);
    check(
        "linear of views",
        &inputs,
        || linear(view(), part(), None),
        || view().matmul(part()),
    );
}

#[test]
fn rows_are_divided_by_their_root_mean_square() {
    let x = Tensor::<2>::from_floats([[3.0, 4.0]], &device());
    let rms = 12.5f32.sqrt();
    let expected = [3.0 / rms, 4.0 / rms];
    assert_close(
        "kernel",
        &values(rms_norm(x.clone(), None, 0.0)),
        &expected,
        1e-6,
    );
    assert_close(
        "composed",
        &values(norm::composed(x, None, 0.0)),
        &expected,
        1e-6,
    );
}

/// Groups of one channel, of several and of all channels; planes smaller than a vector register.
#[test]
fn group_norm_is_burns() {
    for (groups, channels, size) in [(3, 3, [5, 7]), (2, 6, [4, 9]), (1, 5, [1, 3])] {
        let mut layer = GroupNormConfig::new(groups, channels).init(&device());
        layer.gamma = Some(Param::initialized(ParamId::new(), normal([channels])));
        layer.beta = Some(Param::initialized(ParamId::new(), normal([channels])));
        let x = normal([2, channels, size[0], size[1]]);
        let inputs = [
            Input::Pictures(x.clone()),
            Input::Vector(layer.gamma.as_ref().unwrap().val()),
            Input::Vector(layer.beta.as_ref().unwrap().val()),
        ];
        check(
            "group norm",
            &inputs,
            || group_norm_layer(&layer, x.clone()),
            || layer.forward(x.clone()),
        );
        check_slope("group norm", x, |x| group_norm_layer(&layer, x));
    }
}

#[test]
fn rms_norm_is_the_formula() {
    for width in [1, 5, 16, 67] {
        let (x, w) = (normal([2, 3, width]), normal([width]));
        let inputs = [Input::Cube(x.clone()), Input::Vector(w.clone())];
        check(
            "norm with weight",
            &inputs,
            || rms_norm(x.clone(), Some(w.clone()), 1e-5),
            || norm::composed(x.clone(), Some(w.clone()), 1e-5),
        );
        check(
            "norm",
            &inputs[..1],
            || rms_norm(x.clone(), None, 1e-6),
            || norm::composed(x.clone(), None, 1e-6),
        );
    }
    let w = normal([8]);
    check_slope("norm", normal([4, 8]), |x| {
        rms_norm(x, Some(w.clone()), 1e-6)
    });
}

#[test]
fn activations_are_their_formulas() {
    // More numbers than one task has, and a wide range of values.
    let spread = normal([9000]).inner().mul_scalar(4.0);
    let x = Tensor::from_inner(spread).require_grad();
    let inputs = [Input::Vector(x.clone())];
    for (what, kernel, kind) in [
        ("silu", silu as fn(Tensor<1>) -> Tensor<1>, Activation::Silu),
        ("gelu", gelu, Activation::Gelu),
        ("tanh", tanh, Activation::Tanh),
    ] {
        let composed = || activation::composed(x.clone(), kind);
        check(what, &inputs, || kernel(x.clone()), composed);
        check_slope(what, normal([50]), kernel);
    }
}

fn block(width: usize, inner: usize, weighted: bool) -> SwiGluBlock {
    let scaled = |shape: [usize; 2]| {
        let values = normal(shape).inner().div_scalar((shape[0] as f32).sqrt());
        Tensor::from_inner(values).require_grad()
    };
    SwiGluBlock {
        norm_weight: weighted.then(|| normal([width])),
        epsilon: 1e-6,
        gate: scaled([width, inner]),
        up: scaled([width, inner]),
        down: scaled([inner, width]),
    }
}

#[test]
fn swiglu_block_is_its_parts() {
    for (rows, width, inner) in [(3, 4, 6), (50, 24, 64)] {
        for (weighted, modulated) in [(false, false), (true, false), (false, true), (true, true)] {
            let what = format!("block, weight {weighted}, modulation {modulated}");
            let x = normal([rows, width]);
            let block = block(width, inner, weighted);
            let modulation = modulated.then(|| normal([rows, 3 * width]));
            let mut inputs = vec![
                Input::Matrix(x.clone()),
                Input::Matrix(block.gate.clone()),
                Input::Matrix(block.up.clone()),
                Input::Matrix(block.down.clone()),
            ];
            inputs.extend(block.norm_weight.clone().map(Input::Vector));
            inputs.extend(modulation.clone().map(Input::Matrix));
            check(
                &what,
                &inputs,
                || swiglu_block(x.clone(), &block, modulation.clone()),
                || swiglu::composed(x.clone(), &block, modulation.clone()),
            );
            check_slope(&what, x, |x| swiglu_block(x, &block, modulation.clone()));
        }
    }
}

#[test]
fn cross_entropy_is_the_logarithm_of_a_softmax() {
    for (rows, vocabulary) in [(1, 2), (5, 16), (33, 301)] {
        let logits = normal([rows, vocabulary]);
        let answers: Vec<i64> = (0..rows).map(|row| (row * 7 % vocabulary) as i64).collect();
        let answers = || Tensor::<1, Int>::from_ints(answers.as_slice(), &device());
        check(
            "cross entropy",
            &[Input::Matrix(logits.clone())],
            || cross_entropy(logits.clone(), answers()),
            || cross_entropy::composed(logits.clone(), answers()),
        );
        check_slope("cross entropy", logits, |x| cross_entropy(x, answers()));
    }
    // Logits whose exponential overflows.
    let logits = Tensor::<2>::from_floats([[1000.0, 0.0], [-1000.0, 0.0]], &device());
    let answers = Tensor::<1, Int>::from_ints([1, 0], &device());
    let found = values(cross_entropy(logits, answers));
    assert_eq!(found, [1000.0, 1000.0]);
}

#[test]
fn layer_norm_is_the_formula() {
    for width in [2, 5, 16, 67] {
        let x = normal([2, 3, width]);
        let (w, b) = (normal([width]), normal([width]));
        let inputs = [
            Input::Cube(x.clone()),
            Input::Vector(w.clone()),
            Input::Vector(b.clone()),
        ];
        let composed = || {
            let mean = x.clone().mean_dim(2);
            let centred = x.clone() - mean;
            let variance = centred.clone().square().mean_dim(2);
            centred / (variance + 1e-5).sqrt() * w.clone().unsqueeze() + b.clone().unsqueeze()
        };
        let kernel = || layer_norm(x.clone(), w.clone(), b.clone(), 1e-5);
        check("layer norm", &inputs, kernel, composed);
        check("layer norm of Burn's", &inputs, kernel, || {
            norm::layer_norm_composed(x.clone(), w.clone(), b.clone(), 1e-5)
        });
    }
    let (x, w, b) = (normal([4, 8]), normal([8]), normal([8]));
    let norm = |x: &Tensor<2>, w: &Tensor<1>, b: &Tensor<1>| {
        layer_norm(x.clone(), w.clone(), b.clone(), 1e-5)
    };
    check_slope("layer norm", x.clone(), |x| norm(&x, &w, &b));
    check_slope("layer norm's weight", w.clone(), |w| norm(&x, &w, &b));
    check_slope("layer norm's bias", b.clone(), |b| norm(&x, &w, &b));
}

/// In half precision a norm is computed in float32 and rounded once: the error is at most half a unit in the
/// last of bfloat16's 8 bits, and not that of several roundings.
#[test]
fn norms_in_half_precision_are_rounded_once() {
    let draw = |shape| draw::<2>(shape).inner();
    let half = |x: &Tensor<2>| x.clone().cast(DType::BF16);
    let (x, w, b) = (draw([16, 40]), draw([1, 40]), draw([1, 40]));
    let [x, w, b] = [&x, &w, &b].map(half);
    let exact = |x: &Tensor<2>| x.clone().cast(DType::F32);
    let row = |x: Tensor<2>| x.reshape([40]);
    let pairs = [
        (
            rms_norm(x.clone(), Some(row(w.clone())), 1e-6),
            rms_norm(exact(&x), Some(row(exact(&w))), 1e-6),
        ),
        (
            layer_norm(x.clone(), row(w.clone()), row(b.clone()), 1e-5),
            layer_norm(exact(&x), row(exact(&w)), row(exact(&b)), 1e-5),
        ),
    ];
    for (got, expected) in pairs {
        assert_eq!(got.dtype(), DType::BF16);
        let (got, expected) = (values(exact(&got)), values(expected));
        for (got, expected) in got.iter().zip(&expected) {
            // 2^-8 for the rounding, and 1e-5 for the difference of two float32 computations.
            let bound = expected.abs() / 256.0 + 1e-5;
            assert!((got - expected).abs() <= bound, "{got} for {expected}");
        }
    }
}

#[test]
#[should_panic(expected = "answer -1 in a vocabulary of 4")]
fn a_negative_answer_is_refused() {
    let answers = Tensor::<1, Int>::from_ints([2, -1], &device());
    cross_entropy(normal([2, 4]), answers);
}

#[test]
#[should_panic(expected = "answer 4 in a vocabulary of 4")]
fn an_answer_beyond_the_vocabulary_is_refused() {
    let answers = Tensor::<1, Int>::from_ints([4], &device());
    cross_entropy(normal([1, 4]), answers);
}

/// Steps of the kernel against steps of the composition. Storage that another tensor shares keeps its numbers.
/// There are more numbers than in one task, so that several threads take part.
#[test]
fn adamw_is_its_formula() {
    let draw = |shape| draw::<2>(shape).inner();
    let start = draw([97, 131]);
    let before = values(start.clone());
    let mut kernel = optimizer::Trained {
        parameter: start.clone(),
        average: start.clone(),
        moments: [start.zeros_like(), start.zeros_like()],
    };
    let mut composed = kernel.clone();
    for time in 1..=5 {
        let gradient = draw([97, 131]);
        let step = crate::AdamWStep {
            learning_rate: 0.1,
            beta_1: 0.9,
            beta_2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.01,
            time,
            gradient_scale: 0.3,
            average_decay: 0.75,
        };
        kernel = crate::adamw(kernel, gradient.clone(), step);
        composed = optimizer::adamw_composed(composed, gradient, step);
        let parts = |trained: &optimizer::Trained<2>| {
            let [first, second] = trained.moments.clone();
            [
                trained.parameter.clone(),
                trained.average.clone(),
                first,
                second,
            ]
            .map(values)
        };
        for (got, expected) in parts(&kernel).iter().zip(&parts(&composed)) {
            assert_close("adamw", got, expected, 1e-5);
        }
    }
    assert_eq!(values(start), before);
}

/// Against the sum in double precision, with several tasks and a remainder smaller than a vector register.
#[test]
fn square_sum_adds_every_number() {
    let x = draw::<2>([131, 251]).inner();
    let expected: f64 = values(x.clone())
        .iter()
        .map(|x| f64::from(*x).powi(2))
        .sum();
    let got = f64::from(crate::square_sum(x).into_scalar::<f32>());
    assert!((got / expected - 1.0).abs() < 1e-6, "{got} for {expected}");
}

#[test]
fn blend_is_a_weighted_mean() {
    let device = Device::default();
    let average = Tensor::<1>::from_floats([1.0, 2.0, -3.0], &device);
    let live = Tensor::<1>::from_floats([5.0, 2.0, 1.0], &device);
    let got = values(crate::blend(average.clone(), live, 0.75));
    assert_eq!(got, [2.0, 2.0, -2.0]);
    assert_eq!(values(average), [1.0, 2.0, -3.0]);
}

/// A frozen weight gets no gradient, and the other inputs still get theirs.
#[test]
fn frozen_inputs_are_left_out() {
    let x = normal([3, 4]);
    let frozen =
        Param::initialized(ParamId::new(), normal([4, 2]).detach()).set_require_grad(false);
    let gradients = linear(x.clone(), frozen.val(), None).sum().backward();
    assert!(frozen.val().grad(&gradients).is_none());
    assert!(x.grad(&gradients).is_some());
}
