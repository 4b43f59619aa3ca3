//! Cosines and sines of numbers.

use burn::tensor::{Device, Tensor};

use super::{device, values};
use crate::{sinusoid, without_kernels};

/// As many as do not fill registers.
fn frequencies() -> Vec<f32> {
    (0..37).map(|k| 0.8_f32.powi(k)).collect()
}

/// Numbers of timesteps and beyond, up to those that the vectorized functions are not meant for.
const NUMBERS: [f32; 8] = [0.0, 1.0, -3.5, 999.0, -1e4, 65_536.0, 65_600.0, 3e7];

#[test]
fn numbers_become_cosines_and_sines() {
    let frequencies = frequencies();
    for (device, in_graph) in [(Device::default(), false), (device(), true)] {
        let x = Tensor::<1>::from_floats(NUMBERS, &device);
        let run = || sinusoid(x.clone(), &frequencies);
        let (got, expected) = (run(), without_kernels(run));
        assert_eq!(got.is_autodiff(), in_graph);
        assert_eq!(got.dims(), [NUMBERS.len(), 2 * frequencies.len()]);
        let (got, expected) = (values(got), values(expected));
        for (row, x) in NUMBERS.into_iter().enumerate() {
            for (k, frequency) in frequencies.iter().enumerate() {
                // The angle itself is float32 on both sides.
                let (sine, cosine) = f64::from(x * frequency).sin_cos();
                for (at, exact) in [(k, cosine), (frequencies.len() + k, sine)] {
                    let at = row * 2 * frequencies.len() + at;
                    for number in [got[at], expected[at]] {
                        let error = (f64::from(number) - exact).abs();
                        assert!(error <= 1.2e-7, "{x} times {frequency}: {error:e}");
                    }
                }
            }
        }
    }
}

/// Whoever wants the gradient gets it from Burn's operations: the derivative of both by the number.
#[test]
fn a_gradient_is_not_lost() {
    let x = Tensor::<1>::from_floats([0.3, 2.0], &device()).require_grad();
    let gradients = sinusoid(x.clone(), &[1.0, 0.5]).sum().backward();
    let slopes = values(x.grad(&gradients).expect("a gradient"));
    for (slope, x) in slopes.into_iter().zip([0.3_f32, 2.0]) {
        let half = 0.5 * x;
        let expected = x.cos() - x.sin() + 0.5 * (half.cos() - half.sin());
        assert!((slope - expected).abs() < 1e-6, "{slope} for {expected}");
    }
}

#[test]
fn rubbish_shows() {
    let rubbish = Tensor::<1>::from_floats([f32::NAN, f32::INFINITY], &Device::default());
    let encoded = values(sinusoid(rubbish, &[1.0, 0.5]));
    assert!(encoded.iter().all(|x| x.is_nan()), "{encoded:?}");
}
