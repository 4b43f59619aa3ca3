//! Power spectra of frames, in float64.

use std::f64::consts::TAU;
use std::ops::Range;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

/// Power spectra of windowed frames.
pub(crate) struct Spectrum {
    plan: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    /// Input buffer of the transform.
    frame: Vec<f64>,
    /// Output buffer of the transform.
    bins: Vec<Complex<f64>>,
}

/// Some samples of a Hann window, `0.5 - 0.5 cos(2 pi i / period)`.
pub(crate) fn hann(samples: Range<usize>, period: usize) -> Vec<f64> {
    samples
        .map(|i| 0.5 - 0.5 * (TAU * i as f64 / period as f64).cos())
        .collect()
}

impl Spectrum {
    /// Spectra of frames that are as long as `window` and padded with zeros to `n_fft`.
    pub(crate) fn new(window: Vec<f64>, n_fft: usize) -> Self {
        let plan = RealFftPlanner::new().plan_fft_forward(n_fft);
        Self {
            frame: plan.make_input_vec(),
            bins: plan.make_output_vec(),
            plan,
            window,
        }
    }

    /// `|X|^2` of the frame that begins with `samples`, from 0 to half the sample rate.
    pub(crate) fn power(&mut self, samples: &[f64]) -> Vec<f64> {
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
