//! Differentiable spectrograms, for the codec's losses and discriminators.

use burn::module::Module;
use burn::signal::{hann_window, rfft};
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_core::ops::mel_weights;

/// Added under the square root of a magnitude, because the gradient of a root at 0 is infinite.
pub(crate) const MAGNITUDE_EPSILON: f64 = 1e-10;

/// A short-time Fourier transform with a periodic Hann window and a hop of a quarter of the window.
#[derive(Module, Debug)]
pub struct Stft {
    window: Tensor<1>,
    n_fft: usize,
}

impl Stft {
    /// Number of hops in a window. The kernel of the codec's loss has the same number.
    const OVERLAP: usize = 4;

    /// A transform of windows of `n_fft` samples.
    ///
    /// # Panics
    /// If `n_fft` is no power of two of 8 or more.
    pub fn new(n_fft: usize, device: &Device) -> Self {
        assert!(
            n_fft >= 8 && n_fft.is_power_of_two(),
            "a window of {n_fft} samples is no power of two of 8 or more"
        );
        Self {
            window: hann_window(n_fft, true, device),
            n_fft,
        }
    }

    /// The window, `[n_fft]`.
    pub(crate) fn window(&self) -> Tensor<1> {
        self.window.clone()
    }

    /// Number of bins of a spectrum, from frequency 0 to half the sample rate.
    pub fn bins(&self) -> usize {
        self.n_fft / 2 + 1
    }

    /// Root mean square magnitude of white noise with standard deviation 1: the root of the window's energy.
    pub fn noise_gain(&self) -> f64 {
        // A periodic Hann window has a mean square of 3/8.
        (0.375 * self.n_fft as f64).sqrt()
    }

    /// Windowed frames. Both sides are padded with silence, so that each sample lies in four frames.
    ///
    /// # Shapes
    /// - `signal`: `[B, N]`
    /// - returns: `[B, F, n_fft]`
    fn frames(&self, signal: Tensor<2>) -> Tensor<3> {
        let [batch, samples] = signal.dims();
        let hop = self.n_fft / Self::OVERLAP;
        let margin = self.n_fft - hop;
        let tail = margin + samples.next_multiple_of(hop) - samples;
        let silence = |count| Tensor::zeros([batch, count], &signal.device());
        let padded = Tensor::cat(vec![silence(margin), signal.clone(), silence(tail)], 1);
        let hops = padded.dims()[1] / hop;
        let count = hops + 1 - Self::OVERLAP;
        // Four shifted views side by side: a gather whose gradient is four additions.
        let rows = padded.reshape([batch, hops, hop]);
        let parts = (0..Self::OVERLAP).map(|shift| rows.clone().narrow(1, shift, count));
        Tensor::cat(parts.collect(), 2) * self.window.clone().unsqueeze()
    }

    /// Real and imaginary parts of the spectra.
    ///
    /// # Shapes
    /// - `signal`: `[B, N]`
    /// - returns: `[B, F, bins]` each
    pub fn forward(&self, signal: Tensor<2>) -> [Tensor<3>; 2] {
        let frames = self.frames(signal);
        let [batch, count, _] = frames.dims();
        let rows = frames.reshape([batch * count, self.n_fft]);
        let (real, imaginary) = rfft(rows, 1, Some(self.n_fft));
        [real, imaginary].map(|part| part.reshape([batch, count, self.bins()]))
    }

    /// Magnitudes of the spectra.
    ///
    /// # Shapes
    /// - `signal`: `[B, N]`
    /// - returns: `[B, F, bins]`
    pub fn magnitude(&self, signal: Tensor<2>) -> Tensor<3> {
        let [real, imaginary] = self.forward(signal);
        (real.square() + imaginary.square() + MAGNITUDE_EPSILON).sqrt()
    }
}

/// The matrix of [`mel_weights`], which turns a spectrum into mel bands.
///
/// # Shapes
/// - returns: `[n_fft / 2 + 1, bands]`
pub fn mel_bands(n_fft: usize, bands: usize, sample_rate_hz: u32, device: &Device) -> Tensor<2> {
    let (bins, weights) = (n_fft / 2 + 1, mel_weights(n_fft, bands, sample_rate_hz));
    let mut values: Vec<f32> = Vec::with_capacity(bins * bands);
    for bin in 0..bins {
        values.extend(weights.iter().map(|band| band[bin] as f32));
    }
    Tensor::from_data(TensorData::new(values, [bins, bands]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::module::gradient_agrees_with_finite_differences;

    fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_to_vec().unwrap()
    }

    /// Against the sum that defines the transform.
    #[test]
    fn is_the_windowed_fourier_transform() {
        let device = Device::default();
        let stft = Stft::new(16, &device);
        let signal = RandomStream::new(1).normal([1, 22], &device);
        let x = values(signal.clone());
        let [real, imaginary] = stft.forward(signal).map(|part| (part.dims(), values(part)));
        assert_eq!(real.0, [1, 9, 9], "six hops, and three for the margins");
        for frame in 0..9 {
            for bin in 0..9 {
                let (mut re, mut im) = (0.0, 0.0);
                for i in 0..16 {
                    let at = (frame * 4 + i) as i64 - 12;
                    let sample = usize::try_from(at).ok().and_then(|at| x.get(at));
                    let turn = std::f64::consts::TAU * i as f64 / 16.0;
                    let windowed = f64::from(*sample.unwrap_or(&0.0)) * (0.5 - 0.5 * turn.cos());
                    re += windowed * (turn * bin as f64).cos();
                    im -= windowed * (turn * bin as f64).sin();
                }
                let at = frame * 9 + bin;
                assert!((f64::from(real.1[at]) - re).abs() < 1e-5, "{frame} {bin}");
                assert!(
                    (f64::from(imaginary.1[at]) - im).abs() < 1e-5,
                    "{frame} {bin}"
                );
            }
        }
    }

    #[test]
    fn magnitudes_have_their_gradient() {
        let device = Device::default().autodiff();
        let stft = Stft::new(16, &device);
        let signal = RandomStream::new(2).normal([2, 20], &device);
        let loss = |x: Tensor<2>| stft.magnitude(x).mean();
        gradient_agrees_with_finite_differences("magnitude", signal, loss);
    }

    #[test]
    fn white_noise_has_the_gain_that_is_said() {
        let device = Device::default();
        let stft = Stft::new(256, &device);
        let noise = RandomStream::new(4).normal([1, 64_000], &device);
        let square = stft.magnitude(noise).square().mean().into_scalar::<f32>();
        let expected = stft.noise_gain().powi(2) as f32;
        assert!(
            (square / expected - 1.0).abs() < 0.02,
            "{square} {expected}"
        );
    }

    /// Between the middle of the first band and that of the last, the weights of each bin add up to 1.
    #[test]
    fn bands_share_the_spectrum() {
        let bands = mel_bands(512, 20, 16_000, &Device::default());
        let sums = values(bands.clone().sum_dim(1));
        let peaks = values(bands.clone().max_dim(0));
        let first = values(bands.clone().narrow(1, 0, 1).argmax(0).float())[0] as usize;
        let last = values(bands.narrow(1, 19, 1).argmax(0).float())[0] as usize;
        assert!(first < last && last < 257);
        for sum in &sums[first + 1..last] {
            assert!((sum - 1.0).abs() < 1e-5, "{sum}");
        }
        assert!(peaks.iter().all(|peak| *peak > 0.2 && *peak <= 1.0));
    }
}
