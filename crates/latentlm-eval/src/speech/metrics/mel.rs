//! Distance of mel spectrograms.

use latentlm::core::ops::mel_weights;

use super::signal::{dot, frames, hann, pair, power_spectra};

const MEL_FRAME: usize = 1024;
const MEL_HOP: usize = 256;
const MEL_BANDS: usize = 80;
/// Lower bound of magnitudes: -100 dB.
const MEL_FLOOR: f64 = 1e-5;

/// Mean absolute difference of two mel spectrograms in decibels, over frames and bands.
///
/// A frame is 1024 samples under a periodic Hann window. Frames start every 256 samples, without
/// padding: samples after the last whole frame are ignored, and a signal shorter than a frame is
/// padded with silence to one. The magnitudes `|X|` of the spectrum, not normalized, are summed
/// over 80 triangular filters with peak 1 that are equally wide on the mel scale (HTK's
/// `2595 log10(1 + f / 700)`) from 0 to half the sample rate. A level is `20 log10(max(m, 1e-5))`.
/// Filters so narrow that they contain no bin (the lowest, above 48 kHz) are left out.
///
/// A gain of g dB gives a distance of |g| if no level is below the floor.
///
/// # Panics
/// If the signals differ in length.
pub fn mel_distance_db(reference: &[f32], estimate: &[f32], sample_rate_hz: u32) -> f64 {
    let [reference, estimate] =
        pair(reference, estimate).map(|signal| mel_levels_db(signal, sample_rate_hz));
    let differences = reference.iter().zip(&estimate).map(|(x, y)| (x - y).abs());
    differences.sum::<f64>() / reference.len() as f64
}

/// Levels in dB of all bands, frame by frame.
fn mel_levels_db(mut signal: Vec<f64>, sample_rate_hz: u32) -> Vec<f64> {
    signal.resize(signal.len().max(MEL_FRAME), 0.0);
    let window = hann(0..MEL_FRAME, MEL_FRAME);
    let bands = mel_bands(sample_rate_hz);
    let mut levels = Vec::new();
    for power in power_spectra(frames(&signal, &window, MEL_HOP), MEL_FRAME) {
        let magnitudes: Vec<f64> = power.into_iter().map(f64::sqrt).collect();
        for band in &bands {
            let mut magnitude = dot(band, &magnitudes);
            // `max` would turn a NaN into the floor.
            if magnitude < MEL_FLOOR {
                magnitude = MEL_FLOOR;
            }
            levels.push(20.0 * magnitude.log10());
        }
    }
    levels
}

/// Weights of the bins in each mel band that contains one.
pub(super) fn mel_bands(sample_rate_hz: u32) -> Vec<Vec<f64>> {
    let mut bands = mel_weights(MEL_FRAME, MEL_BANDS, sample_rate_hz);
    bands.retain(|weights| weights.iter().any(|weight| *weight > 0.0));
    bands
}
