//! How close generated speech is to a reference, in sound and in words, on the host in float64.
//! Where a sample of the estimate counts and is not finite, the result is NaN.

mod edits;
mod mel;
mod stoi;

use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

pub use edits::{EditCount, characters, edit_rate, words};
pub use mel::mel_distance_db;
pub use stoi::stoi;

/// Scale-invariant signal-to-distortion ratio in decibels (Le Roux et al. 2019), both signals made
/// zero-mean: infinite for an exactly scaled copy, NaN where one of the two is silent.
///
/// # Panics
/// If the signals differ in length.
pub fn si_sdr_db(reference: &[f32], estimate: &[f32]) -> f64 {
    assert_same_length(reference, estimate);
    let (reference, estimate) = (zero_mean(reference), zero_mean(estimate));
    let scale = dot(&reference, &estimate) / dot(&reference, &reference);
    let target: Vec<f64> = reference.iter().map(|x| scale * x).collect();
    let distortion: Vec<f64> = estimate.iter().zip(&target).map(|(y, x)| y - x).collect();
    10.0 * (dot(&target, &target) / dot(&distortion, &distortion)).log10()
}

fn assert_same_length(reference: &[f32], estimate: &[f32]) {
    assert_eq!(
        reference.len(),
        estimate.len(),
        "the reference and the estimate differ in length"
    );
}

fn zero_mean(signal: &[f32]) -> Vec<f64> {
    let values = widened(signal);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.into_iter().map(|value| value - mean).collect()
}

fn widened(signal: &[f32]) -> Vec<f64> {
    signal.iter().map(|sample| f64::from(*sample)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// Power spectra of windowed frames.
pub(super) struct Spectrum {
    plan: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    frame: Vec<f64>,
    bins: Vec<Complex<f64>>,
}

impl Spectrum {
    /// Frames as long as `window`, with zeros behind them up to `n_fft`.
    pub(super) fn new(window: Vec<f64>, n_fft: usize) -> Self {
        let plan = RealFftPlanner::new().plan_fft_forward(n_fft);
        Self {
            frame: plan.make_input_vec(),
            bins: plan.make_output_vec(),
            plan,
            window,
        }
    }

    /// `|X|^2` of the frame that begins with `samples`, from 0 to half the sample rate.
    pub(super) fn power(&mut self, samples: &[f64]) -> Vec<f64> {
        self.frame.fill(0.0);
        let windowed = samples.iter().zip(&self.window).map(|(x, w)| x * w);
        for (slot, value) in self.frame.iter_mut().zip(windowed) {
            *slot = value;
        }
        self.plan
            .process(&mut self.frame, &mut self.bins)
            .expect("buffers that the plan made");
        self.bins.iter().map(Complex::norm_sqr).collect()
    }
}

#[cfg(test)]
mod tests;
