//! What several measures share: signals in float64, their frames and power spectra.

use std::f64::consts::TAU;
use std::ops::Range;

use realfft::RealFftPlanner;
use realfft::num_complex::Complex;

/// Reference and estimate in float64.
///
/// # Panics
/// If they differ in length.
pub(super) fn pair(reference: &[f32], estimate: &[f32]) -> [Vec<f64>; 2] {
    assert_eq!(
        reference.len(),
        estimate.len(),
        "the reference and the estimate differ in length"
    );
    [reference, estimate].map(|signal| signal.iter().map(|x| f64::from(*x)).collect())
}

/// The signal without its mean.
pub(super) fn zero_mean(signal: Vec<f64>) -> Vec<f64> {
    let mean = signal.iter().sum::<f64>() / signal.len() as f64;
    signal.into_iter().map(|value| value - mean).collect()
}

/// Inner product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Some samples of a Hann window, `0.5 - 0.5 cos(2 pi i / period)`.
pub(crate) fn hann(samples: Range<usize>, period: usize) -> Vec<f64> {
    samples
        .map(|i| 0.5 - 0.5 * (TAU * i as f64 / period as f64).cos())
        .collect()
}

/// Frames of a signal under a window, one every `hop` samples. Samples after the last whole frame are left out.
pub(crate) fn frames(signal: &[f64], window: &[f64], hop: usize) -> impl Iterator<Item = Vec<f64>> {
    signal.windows(window.len()).step_by(hop).map(move |frame| {
        let windowed = frame.iter().zip(window).map(|(x, w)| x * w);
        windowed.collect::<Vec<f64>>()
    })
}

/// `|X|^2` of frames that are padded with zeros to `n_fft`, from 0 to half the sample rate.
pub(crate) fn power_spectra(
    frames: impl IntoIterator<Item = Vec<f64>>,
    n_fft: usize,
) -> impl Iterator<Item = Vec<f64>> {
    let plan = RealFftPlanner::<f64>::new().plan_fft_forward(n_fft);
    let mut bins = plan.make_output_vec();
    frames.into_iter().map(move |mut frame| {
        frame.resize(n_fft, 0.0);
        let transformed = plan.process(&mut frame, &mut bins);
        transformed.expect("buffers of the plan's lengths");
        bins.iter().map(Complex::norm_sqr).collect::<Vec<f64>>()
    })
}
