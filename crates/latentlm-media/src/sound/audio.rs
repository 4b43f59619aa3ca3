//! Mono sound, and its resampling.

use rubato::audioadapter_buffers::owned::InterleavedOwned;
use rubato::{Fft, FixedSync, Resampler};

/// Samples per block of the resampler, at the lower of both rates. A longer block loses a narrower band
/// below the new Nyquist frequency.
const BLOCK: usize = 1024;

/// Mono sound.
#[derive(Debug, Clone, PartialEq)]
pub struct Audio {
    /// Samples in `[-1, 1]`.
    pub samples: Vec<f32>,
    /// Samples per second.
    pub sample_rate_hz: u32,
}

impl Audio {
    /// Length in seconds.
    pub fn seconds(&self) -> f64 {
        self.samples.len() as f64 / f64::from(self.sample_rate_hz)
    }

    /// Resamples to another rate, band-limited and without delay.
    ///
    /// # Panics
    /// If a rate is 0.
    pub fn resampled(self, sample_rate_hz: u32) -> Self {
        if self.sample_rate_hz == sample_rate_hz || self.samples.is_empty() {
            return Self {
                sample_rate_hz,
                ..self
            };
        }
        let frames = self.samples.len();
        let [from, to] = [self.sample_rate_hz, sample_rate_hz].map(|rate| rate as usize);
        let block = block(from, to);
        // None of these fails: the rates are positive, and the buffer has `frames` samples.
        let resampler = Fft::<f32>::new(from, to, block, 1, FixedSync::Both);
        let mut resampler = resampler.expect("a resampler between positive rates");
        let input = InterleavedOwned::new_from(self.samples, 1, frames);
        let input = input.expect("a buffer of as many samples as there are");
        let resampled = resampler.process_all(&input, frames, None);
        let mut samples = resampled.expect("room for the output").take_data();
        let length = (frames as f64 * to as f64 / from as f64).round();
        samples.resize((length as usize).max(1), 0.0);
        Self {
            samples,
            sample_rate_hz,
        }
    }
}

/// Block size of the resampler, in samples of the input: about [`BLOCK`] at the lower rate, and an even
/// multiple of the smallest block that is a whole number of samples at both rates. With an odd multiple
/// the middle of the filter falls between two samples, and the output is late by a fraction of a sample
/// (0.18 from 44.1 to 16 kHz).
fn block(from: usize, to: usize) -> usize {
    let (mut divisor, mut rest) = (from, to);
    while rest > 0 {
        (divisor, rest) = (rest, divisor % rest);
    }
    let least = from / divisor.max(1);
    let wanted = BLOCK * from.div_ceil(to.max(1));
    least * wanted.div_ceil(least.max(1)).next_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(frequency_hz: f64, rate: u32, amplitude: f64) -> Audio {
        let turn = std::f64::consts::TAU * frequency_hz / f64::from(rate);
        Audio {
            samples: (0..rate)
                .map(|i| (amplitude * (turn * f64::from(i)).sin()) as f32)
                .collect(),
            sample_rate_hz: rate,
        }
    }

    /// A tone below both Nyquist frequencies stays the same, sample by sample. This checks frequency,
    /// amplitude and delay at once. The bound is the rounding error of `f32` transforms of this length.
    #[test]
    fn resampling_keeps_tones() {
        for (from, to) in [
            (44_100, 16_000),
            (48_000, 24_000),
            (192_000, 16_000),
            (16_000, 24_000),
            (8_000, 16_000),
            (22_050, 24_000),
        ] {
            let nyquist = f64::from(from.min(to)) / 2.0;
            for share in [0.05, 0.5, 0.9] {
                let got = tone(share * nyquist, from, 0.5).resampled(to);
                let expected = tone(share * nyquist, to, 0.5);
                assert_eq!(got.samples.len(), expected.samples.len());
                // Where the tone is switched on and off, it has other frequencies too.
                let inside = to as usize / 4..to as usize * 3 / 4;
                let pairs = got.samples[inside.clone()]
                    .iter()
                    .zip(&expected.samples[inside]);
                let error = pairs.fold(0.0_f32, |error, (a, b)| error.max((a - b).abs()));
                assert!(error < 1e-4, "{from} to {to}, {share}: {error}");
            }
        }
    }

    #[test]
    fn resampling_suppresses_what_does_not_fit() {
        for (from, to) in [(44_100, 16_000), (48_000, 24_000), (24_000, 16_000)] {
            for share in [1.05, 1.3] {
                let got = tone(share * f64::from(to) / 2.0, from, 0.5).resampled(to);
                let inside = &got.samples[to as usize / 4..to as usize * 3 / 4];
                let energy = inside.iter().map(|x| x * x).sum::<f32>() / inside.len() as f32;
                let below = 10.0 * (energy / 0.125).log10();
                assert!(below < -60.0, "{from} to {to}, {share}: {below} dB");
            }
        }
    }

    #[test]
    fn resampled_lengths_are_rounded() {
        for (frames, from, to, expected) in [
            (1, 44_100, 16_000, 1),
            (1000, 44_100, 16_000, 363),
            (1001, 48_000, 16_000, 334),
            (7, 16_000, 24_000, 11),
            (5, 16_000, 16_000, 5),
        ] {
            let audio = Audio {
                samples: vec![0.25; frames],
                sample_rate_hz: from,
            };
            let resampled = audio.clone().resampled(to);
            assert_eq!(resampled.samples.len(), expected, "{frames} {from} {to}");
            if from == to {
                assert_eq!(resampled, audio, "bit by bit");
            }
        }
    }
}
