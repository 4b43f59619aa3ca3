//! Short-time objective intelligibility.

use std::f64::consts::PI;
use std::ops::Range;

use nalgebra::SVector;

use super::signal::{dot, frames, hann, pair, power_spectra};

// The constants are the paper's.
const STOI_RATE_HZ: u32 = 10_000;
pub(super) const STOI_FRAME: usize = 256;
pub(super) const STOI_HOP: usize = STOI_FRAME / 2;
const STOI_FFT: usize = 512;
const STOI_BANDS: usize = 15;
/// Centre frequency of the lowest band.
const STOI_LOWEST_HZ: f64 = 150.0;
/// Frames in a segment: 384 ms.
const STOI_SEGMENT: usize = 30;
/// Lower bound of the signal-to-distortion ratio of a band in a frame.
const STOI_CLIP_DB: f64 = -15.0;
/// A frame that is this far below the loudest one is silent.
const STOI_RANGE_DB: f64 = 40.0;

/// Magnitudes of one frame in all bands.
type Bands = [f64; STOI_BANDS];
/// Magnitudes of one band in the frames of a segment.
type Envelope = SVector<f64, STOI_SEGMENT>;

/// Short-time objective intelligibility (Taal et al. 2011) of an estimate of the reference: 1 for the
/// reference itself, about 0 for an unrelated signal. `None` if less than 0.41 s of the reference (30
/// frames after silent ones are removed) is not silent.
///
/// It agrees with `stoi(reference, estimate, sample_rate_hz)` of the Python package pystoi 0.4.1,
/// which returns 1e-5 instead of `None`.
///
/// # Panics
/// If the signals differ in length or the rate is 0.
pub fn stoi(reference: &[f32], estimate: &[f32], sample_rate_hz: u32) -> Option<f64> {
    let signals = pair(reference, estimate);
    assert!(sample_rate_hz > 0, "0 samples a second");
    let frames =
        signals.map(|signal| stoi_frames(&resampled(&signal, sample_rate_hz, STOI_RATE_HZ)));
    let audible = audible_frames(&frames[0]);
    let [reference, estimate] = frames.map(|frames| third_octaves(&joined(&frames, &audible)));
    let segments = (reference.len() + 1).checked_sub(STOI_SEGMENT)?;
    if segments == 0 {
        return None;
    }
    let mut sum = 0.0;
    for first in 0..segments {
        for band in 0..STOI_BANDS {
            let [x, y] = [&reference, &estimate]
                .map(|bands: &Vec<Bands>| Envelope::from_fn(|frame, _| bands[first + frame][band]));
            sum += intermediate(x, y);
        }
    }
    Some(sum / (segments * STOI_BANDS) as f64)
}

/// Frames under a symmetric Hann window without the zeros at its two ends, `np.hanning(length + 2)[1:-1]`.
// QUIRK(pystoi/utils.py:99,149): a last frame that ends with the signal is not taken.
fn stoi_frames(signal: &[f64]) -> Vec<Vec<f64>> {
    let window = hann(1..STOI_FRAME + 1, STOI_FRAME + 1);
    let taken = &signal[..signal.len().saturating_sub(1)];
    frames(taken, &window, STOI_HOP).collect()
}

/// Indices of the reference's frames that are not silent.
fn audible_frames(frames: &[Vec<f64>]) -> Vec<usize> {
    let mut levels_db: Vec<f64> = Vec::new();
    for frame in frames {
        levels_db.push(20.0 * (dot(frame, frame).sqrt() + f64::EPSILON).log10());
    }
    let loudest_db = levels_db.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (0..frames.len())
        .filter(|index| loudest_db - STOI_RANGE_DB < levels_db[*index])
        .collect()
}

/// Overlap-add of some frames, each half over the next.
fn joined(frames: &[Vec<f64>], indices: &[usize]) -> Vec<f64> {
    let mut out = vec![0.0; indices.len() * STOI_HOP + STOI_FRAME - STOI_HOP];
    for (place, index) in indices.iter().enumerate() {
        let slots = &mut out[place * STOI_HOP..];
        for (slot, value) in slots.iter_mut().zip(&frames[*index]) {
            *slot += value;
        }
    }
    out
}

/// Magnitudes of the third-octave bands, frame by frame.
fn third_octaves(signal: &[f64]) -> Vec<Bands> {
    let bands: [Range<usize>; STOI_BANDS] = std::array::from_fn(bins_of_band);
    let mut frames = Vec::new();
    for power in power_spectra(stoi_frames(signal), STOI_FFT) {
        let bands = bands.each_ref();
        frames.push(bands.map(|bins| power[bins.clone()].iter().sum::<f64>().sqrt()));
    }
    frames
}

/// Bins of a third-octave band, from a sixth of an octave below its centre to a sixth above.
fn bins_of_band(band: usize) -> Range<usize> {
    let centre = 2.0 * band as f64;
    edge_bin(centre - 1.0)..edge_bin(centre + 1.0)
}

/// Bin nearest to the frequency that is `sixths / 6` octaves above the lowest centre.
fn edge_bin(sixths: f64) -> usize {
    let bin_hz = f64::from(STOI_RATE_HZ) / STOI_FFT as f64;
    (STOI_LOWEST_HZ * (sixths / 6.0).exp2() / bin_hz).round() as usize
}

/// Correlation of two envelopes of a band in a segment, after the estimate `y` is scaled to the level
/// of the reference `x` and clipped.
fn intermediate(x: Envelope, y: Envelope) -> f64 {
    let scale = x.norm() / (y.norm() + f64::EPSILON);
    let most = 1.0 + 10f64.powf(-STOI_CLIP_DB / 20.0);
    // `min` would turn a NaN into the bound.
    let clip = |value: f64, bound: f64| if value > bound { bound } else { value };
    let clipped = (y * scale).zip_map(&(x * most), clip);
    standardized(clipped).dot(&standardized(x))
}

/// The envelope with mean 0 and norm 1.
fn standardized(envelope: Envelope) -> Envelope {
    let centred = envelope.add_scalar(-envelope.mean());
    centred / (centred.norm() + f64::EPSILON)
}

/// Octave's `resample`, as in pystoi: a windowed sinc with 60 dB of rejection.
pub(super) fn resampled(signal: &[f64], from_hz: u32, to_hz: u32) -> Vec<f64> {
    if from_hz == to_hz {
        return signal.to_vec();
    }
    let divisor = greatest_common_divisor(from_hz, to_hz);
    let (up, down) = ((to_hz / divisor) as usize, (from_hz / divisor) as usize);
    let filter = low_pass(up.max(down));
    let reach = filter.len() / 2;
    let length = (signal.len() * up).div_ceil(down);
    let mut out = Vec::with_capacity(length);
    for index in 0..length {
        // Positions on a grid that is `up` times as fine: the filter's middle is at `centre`, and
        // samples are `up` apart.
        let centre = index * down;
        let first = centre.saturating_sub(reach).div_ceil(up);
        let last = ((centre + reach) / up).min(signal.len() - 1);
        let sum: f64 = (first..=last)
            .map(|at| signal[at] * filter[centre + reach - at * up])
            .sum();
        out.push(up as f64 * sum);
    }
    out
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Kaiser-windowed low-pass filter with sum 1. It cuts off at half the sample rate divided by
/// `ratio`.
fn low_pass(ratio: usize) -> Vec<f64> {
    const REJECTION_DB: f64 = 60.0;
    let cutoff = 1.0 / (2.0 * ratio as f64);
    let roll_off = cutoff / 10.0;
    let reach = ((REJECTION_DB - 8.0) / (28.714 * roll_off)).ceil();
    let beta = 0.1102 * (REJECTION_DB - 8.7);
    let mut taps: Vec<f64> = Vec::new();
    for index in 0..=2 * reach as usize {
        let t = index as f64 - reach;
        let angle = 2.0 * PI * cutoff * t;
        let sinc = if t == 0.0 { 1.0 } else { angle.sin() / angle };
        taps.push(sinc * bessel_i0(beta * (1.0 - (t / reach).powi(2)).sqrt()));
    }
    let total: f64 = taps.iter().sum();
    taps.into_iter().map(|tap| tap / total).collect()
}

/// Modified Bessel function of the first kind and order 0, by its power series.
pub(super) fn bessel_i0(x: f64) -> f64 {
    let (mut term, mut sum, mut k) = (1.0, 1.0, 1.0);
    while term > sum * f64::EPSILON {
        term *= (x / (2.0 * k)).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}
