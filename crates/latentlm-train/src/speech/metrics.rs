//! How close generated speech is to a reference, in sound and in words, on the host in float64.
//! Where a sample of the estimate counts and is not finite, the result is NaN.

use std::f64::consts::{PI, TAU};
use std::iter::Sum;
use std::ops::Range;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{RealFftPlanner, RealToComplex};

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
struct Spectrum {
    plan: Arc<dyn RealToComplex<f64>>,
    window: Vec<f64>,
    frame: Vec<f64>,
    bins: Vec<Complex<f64>>,
}

impl Spectrum {
    /// Frames as long as `window`, with zeros behind them up to `n_fft`.
    fn new(window: Vec<f64>, n_fft: usize) -> Self {
        let plan = RealFftPlanner::new().plan_fft_forward(n_fft);
        Self {
            frame: plan.make_input_vec(),
            bins: plan.make_output_vec(),
            plan,
            window,
        }
    }

    /// `|X|^2` of the frame that begins with `samples`, from 0 to half the sample rate.
    fn power(&mut self, samples: &[f64]) -> Vec<f64> {
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

// The constants of STOI are the paper's.
const STOI_RATE_HZ: u32 = 10_000;
const STOI_FRAME: usize = 256;
const STOI_HOP: usize = STOI_FRAME / 2;
const STOI_FFT: usize = 512;
const STOI_BANDS: usize = 15;
/// Middle of the lowest band.
const STOI_LOWEST_HZ: f64 = 150.0;
/// Frames of a segment: 384 ms.
const STOI_SEGMENT: usize = 30;
/// Lowest signal-to-distortion ratio that a band's frame counts with.
const STOI_CLIP_DB: f64 = -15.0;
/// Frames so far below the loudest are silent.
const STOI_RANGE_DB: f64 = 40.0;

/// Of one frame, band by band.
type Bands = [f64; STOI_BANDS];

/// Short-time objective intelligibility (Taal et al. 2011) of an estimate of the reference: 1 for
/// the reference itself, about 0 for what has nothing to do with it. None if less than 0.41 s (30
/// frames after joining) of the reference is not silent.
///
/// It is what `stoi(reference, estimate, sample_rate_hz)` of the Python package pystoi 0.4.1 says,
/// which says 1e-5 for None.
///
/// # Panics
/// If the signals differ in length or the rate is 0.
pub fn stoi(reference: &[f32], estimate: &[f32], sample_rate_hz: u32) -> Option<f64> {
    assert_same_length(reference, estimate);
    assert!(sample_rate_hz > 0, "0 samples a second");
    let [reference, estimate] = [reference, estimate]
        .map(|signal| resampled(&widened(signal), sample_rate_hz, STOI_RATE_HZ));
    let starts = audible_frames(&reference);
    let [reference, estimate] =
        [reference, estimate].map(|signal| third_octaves(&joined(&signal, &starts)));
    let segments = (reference.len() + 1).checked_sub(STOI_SEGMENT)?;
    if segments == 0 {
        return None;
    }
    let sum: f64 = (0..segments)
        .flat_map(|first| (0..STOI_BANDS).map(move |band| (first, band)))
        .map(|(first, band)| {
            let envelope = |bands: &[Bands]| -> [f64; STOI_SEGMENT] {
                std::array::from_fn(|frame| bands[first + frame][band])
            };
            intermediate(envelope(&reference), envelope(&estimate))
        })
        .sum();
    Some(sum / (segments * STOI_BANDS) as f64)
}

/// Symmetric Hann window without the zeros at its ends, `np.hanning(length + 2)[1:-1]`.
fn stoi_window() -> Vec<f64> {
    let turn = |i: usize| TAU * (i + 1) as f64 / (STOI_FRAME + 1) as f64;
    (0..STOI_FRAME).map(|i| 0.5 - 0.5 * turn(i).cos()).collect()
}

/// Where frames start.
// QUIRK(pystoi/utils.py:99,149): a last frame that ends with the signal is not taken.
fn stoi_starts(samples: usize) -> impl Iterator<Item = usize> {
    (0..samples.saturating_sub(STOI_FRAME)).step_by(STOI_HOP)
}

/// Where the reference's frames start that are not silent.
fn audible_frames(reference: &[f64]) -> Vec<usize> {
    let window = stoi_window();
    let level_db = |start: usize| {
        let windowed = window.iter().zip(&reference[start..]).map(|(w, x)| w * x);
        let energy: f64 = windowed.map(|value| value * value).sum();
        20.0 * (energy.sqrt() + f64::EPSILON).log10()
    };
    let levels: Vec<(usize, f64)> = stoi_starts(reference.len())
        .map(|start| (start, level_db(start)))
        .collect();
    let loudest = levels
        .iter()
        .fold(f64::NEG_INFINITY, |most, (_, level)| most.max(*level));
    levels
        .into_iter()
        .filter(|(_, level)| loudest - STOI_RANGE_DB < *level)
        .map(|(start, _)| start)
        .collect()
}

/// The windowed frames at `starts`, put together half over half.
fn joined(signal: &[f64], starts: &[usize]) -> Vec<f64> {
    let window = stoi_window();
    let mut out = vec![0.0; starts.len() * STOI_HOP + STOI_FRAME - STOI_HOP];
    for (place, start) in starts.iter().enumerate() {
        let slots = &mut out[place * STOI_HOP..];
        for ((slot, w), x) in slots.iter_mut().zip(&window).zip(&signal[*start..]) {
            *slot += w * x;
        }
    }
    out
}

/// Magnitudes of the third-octave bands, frame by frame.
fn third_octaves(signal: &[f64]) -> Vec<Bands> {
    let bin_hz = f64::from(STOI_RATE_HZ) / STOI_FFT as f64;
    let edge = |sixths: f64| (STOI_LOWEST_HZ * (sixths / 6.0).exp2() / bin_hz).round() as usize;
    let bounds: [_; STOI_BANDS] = std::array::from_fn(|band| {
        let middle = 2.0 * band as f64;
        edge(middle - 1.0)..edge(middle + 1.0)
    });
    let mut spectrum = Spectrum::new(stoi_window(), STOI_FFT);
    stoi_starts(signal.len())
        .map(|start| {
            let power = spectrum.power(&signal[start..]);
            let band = |bins: &Range<usize>| power[bins.clone()].iter().sum::<f64>();
            bounds.each_ref().map(|bins| band(bins).sqrt())
        })
        .collect()
}

/// The correlation of a band's envelopes in a segment, the estimate's brought to the reference's
/// level and clipped.
fn intermediate(x: [f64; STOI_SEGMENT], y: [f64; STOI_SEGMENT]) -> f64 {
    let scale = norm(&x) / (norm(&y) + f64::EPSILON);
    let most = 1.0 + 10f64.powf(-STOI_CLIP_DB / 20.0);
    let clipped = std::array::from_fn(|frame| {
        let (value, bound) = (y[frame] * scale, x[frame] * most);
        // `min` would take the bound for a NaN.
        if value > bound { bound } else { value }
    });
    dot(&standardized(clipped), &standardized(x))
}

fn norm(values: &[f64]) -> f64 {
    dot(values, values).sqrt()
}

fn standardized(envelope: [f64; STOI_SEGMENT]) -> [f64; STOI_SEGMENT] {
    let mean = envelope.iter().sum::<f64>() / STOI_SEGMENT as f64;
    let centred = envelope.map(|value| value - mean);
    let length = norm(&centred) + f64::EPSILON;
    centred.map(|value| value / length)
}

/// Octave's `resample`, as pystoi ports it: a windowed sinc with 60 dB of rejection.
fn resampled(signal: &[f64], from_hz: u32, to_hz: u32) -> Vec<f64> {
    if from_hz == to_hz {
        return signal.to_vec();
    }
    let divisor = greatest_common_divisor(from_hz, to_hz);
    let (up, down) = ((to_hz / divisor) as usize, (from_hz / divisor) as usize);
    let filter = low_pass(up.max(down));
    let reach = filter.len() / 2;
    let sample = |index: usize| -> f64 {
        // On a grid `up` times as fine, the filter's middle lies at `centre`, a sample every `up`.
        let centre = index * down;
        let first = centre.saturating_sub(reach).div_ceil(up);
        let last = ((centre + reach) / up).min(signal.len() - 1);
        let tap = |at: usize| filter[centre + reach - at * up];
        let taps = (first..=last).map(|at| signal[at] * tap(at));
        up as f64 * taps.sum::<f64>()
    };
    (0..(signal.len() * up).div_ceil(down))
        .map(sample)
        .collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    match b {
        0 => a,
        _ => greatest_common_divisor(b, a % b),
    }
}

/// Kaiser-windowed low-pass filter of sum 1 that cuts at a `ratio`-th of half the sample rate.
fn low_pass(ratio: usize) -> Vec<f64> {
    const REJECTION_DB: f64 = 60.0;
    let cutoff = 1.0 / (2.0 * ratio as f64);
    let roll_off = cutoff / 10.0;
    let reach = ((REJECTION_DB - 8.0) / (28.714 * roll_off)).ceil();
    let beta = 0.1102 * (REJECTION_DB - 8.7);
    let tap = |index: usize| {
        let t = index as f64 - reach;
        let angle = 2.0 * PI * cutoff * t;
        let sinc = if t == 0.0 { 1.0 } else { angle.sin() / angle };
        sinc * bessel_i0(beta * (1.0 - (t / reach).powi(2)).sqrt())
    };
    let taps: Vec<f64> = (0..=2 * reach as usize).map(tap).collect();
    let total: f64 = taps.iter().sum();
    taps.into_iter().map(|tap| tap / total).collect()
}

/// Modified Bessel function of the first kind and order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let (mut term, mut sum, mut k) = (1.0, 1.0, 1.0);
    while term > sum * f64::EPSILON {
        term *= (x / (2.0 * k)).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}

const MEL_FRAME: usize = 1024;
const MEL_HOP: usize = 256;
const MEL_BANDS: usize = 80;
/// Magnitudes below this count as this: -100 dB.
const MEL_FLOOR: f64 = 1e-5;

/// Mean absolute difference of two mel spectrograms in decibels, over frames and bands.
///
/// A frame is 1024 samples under a periodic Hann window; they start every 256 samples from the
/// first, without padding: a tail that fills no frame is left out (a signal shorter than a frame
/// gets silence behind it). The magnitudes `|X|` of the frame's spectrum, not normalized, are summed
/// over 80 triangles with peak 1 that are equally wide on the mel scale (HTK's
/// `2595 log10(1 + f / 700)`) from 0 to half the sample rate; a level is `20 log10(max(m, 1e-5))`.
/// Triangles so narrow that they hold no bin (the lowest, above 48 kHz) are left out.
///
/// A gain of g dB is a distance of |g| where no level lies below the floor.
///
/// # Panics
/// If the signals differ in length.
pub fn mel_distance_db(reference: &[f32], estimate: &[f32], sample_rate_hz: u32) -> f64 {
    assert_same_length(reference, estimate);
    let [reference, estimate] =
        [reference, estimate].map(|signal| mel_levels_db(signal, sample_rate_hz));
    let differences = reference.iter().zip(&estimate).map(|(x, y)| (x - y).abs());
    differences.sum::<f64>() / reference.len() as f64
}

/// Levels of all bands of all frames.
fn mel_levels_db(signal: &[f32], sample_rate_hz: u32) -> Vec<f64> {
    let mut samples = widened(signal);
    samples.resize(samples.len().max(MEL_FRAME), 0.0);
    let turn = |i: usize| TAU * i as f64 / MEL_FRAME as f64;
    let window = (0..MEL_FRAME).map(|i| 0.5 - 0.5 * turn(i).cos()).collect();
    let mut spectrum = Spectrum::new(window, MEL_FRAME);
    let bands = mel_bands(sample_rate_hz);
    let starts = (0..=samples.len() - MEL_FRAME).step_by(MEL_HOP);
    starts
        .flat_map(|start| {
            let power = spectrum.power(&samples[start..]);
            let magnitudes: Vec<f64> = power.into_iter().map(f64::sqrt).collect();
            let level = |band: &Vec<f64>| {
                let magnitude = dot(band, &magnitudes);
                // `max` would take the floor for a NaN.
                let floored = if magnitude < MEL_FLOOR {
                    MEL_FLOOR
                } else {
                    magnitude
                };
                20.0 * floored.log10()
            };
            bands.iter().map(level).collect::<Vec<f64>>()
        })
        .collect()
}

/// Weights of the bins, band by band.
fn mel_bands(sample_rate_hz: u32) -> Vec<Vec<f64>> {
    let nyquist = f64::from(sample_rate_hz) / 2.0;
    let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
    let hz = |mel: f64| 700.0 * (10f64.powf(mel / 2595.0) - 1.0);
    let edge = |index: usize| hz(mel(nyquist) * index as f64 / (MEL_BANDS + 1) as f64);
    let bins = MEL_FRAME / 2;
    let band = |band: usize| -> Vec<f64> {
        let [low, middle, high] = [band, band + 1, band + 2].map(edge);
        let weight = |bin: usize| {
            let frequency = nyquist * bin as f64 / bins as f64;
            let rise = (frequency - low) / (middle - low);
            let fall = (high - frequency) / (high - middle);
            rise.min(fall).max(0.0)
        };
        (0..=bins).map(weight).collect()
    };
    let holds_a_bin = |weights: &Vec<f64>| weights.iter().any(|weight| *weight > 0.0);
    (0..MEL_BANDS).map(band).filter(holds_a_bin).collect()
}

/// Edits between what was expected and what was got; the sum of several is that of a corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EditCount {
    /// Insertions, deletions and substitutions, as few as it takes.
    pub edits: usize,
    /// Words or characters that were expected.
    pub expected: usize,
}

impl EditCount {
    /// Edits for each that was expected: above 1 if more were got than expected, NaN for nothing of
    /// nothing.
    pub fn rate(&self) -> f64 {
        self.edits as f64 / self.expected as f64
    }
}

impl Sum for EditCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            edits: sum.edits + count.edits,
            expected: sum.expected + count.expected,
        })
    }
}

/// Counts edits (Levenshtein): of [`words`] for a word error rate, of [`characters`] for a character
/// error rate.
pub fn edit_rate<T: PartialEq>(expected: &[T], got: &[T]) -> EditCount {
    let [a, b] = [expected, got].map(|items| items.iter().collect::<Vec<&T>>());
    EditCount {
        edits: strsim::generic_levenshtein(&a, &b),
        expected: expected.len(),
    }
}

/// Words of a text as they are compared: in lower case, split at white space, dashes and slashes, of
/// letters, digits and the apostrophes between them alone.
pub fn words(text: &str) -> Vec<String> {
    let separates = |c: char| c.is_whitespace() || matches!(c, '-' | '/' | '\u{2010}'..='\u{2015}');
    text.split(separates)
        .map(|word| {
            let apostrophes = word.replace(['\u{2019}', '\u{2bc}'], "'").to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || *c == '\'';
            let kept: String = apostrophes.chars().filter(kept).collect();
            kept.trim_matches('\'').to_owned()
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// Characters of a text as they are compared: its [`words`] with one space between.
pub fn characters(text: &str) -> Vec<char> {
    words(text).join(" ").chars().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use std::path::Path;

    fn noise(samples: usize) -> Vec<f64> {
        let mut state = 1u32;
        let step = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state) / f64::from(1u32 << 31) - 1.0
        };
        (0..samples).map(step).collect()
    }

    fn narrowed(signal: impl IntoIterator<Item = f64>) -> Vec<f32> {
        signal.into_iter().map(|sample| sample as f32).collect()
    }

    fn wave(cycles: usize, samples: usize, phase: f64) -> Vec<f32> {
        let angle = |i: usize| TAU * (cycles * i) as f64 / samples as f64 + phase;
        narrowed((0..samples).map(|i| angle(i).sin()))
    }

    #[test]
    fn si_sdr_in_closed_form() {
        let reference = wave(10, 1000, 0.0);
        // Cosines of the same frequency and sines of others are orthogonal to it.
        for (other, gain) in [(wave(10, 1000, PI / 2.0), 0.1), (wave(37, 1000, 0.3), 0.5)] {
            let mixed = |scale: f32, offset: f32| -> Vec<f32> {
                let pairs = reference.iter().zip(&other);
                pairs
                    .map(|(x, n)| scale * (x + gain * n) + offset)
                    .collect()
            };
            let expected = -20.0 * f64::from(gain).log10();
            for estimate in [mixed(1.0, 0.0), mixed(-0.25, 0.0), mixed(3.0, 0.75)] {
                let got = si_sdr_db(&reference, &estimate);
                // Rounding to float32 is 130 dB below.
                assert!((got - expected).abs() < 1e-4, "{got} for {expected} dB");
            }
        }
    }

    #[test]
    fn si_sdr_at_its_ends() {
        let reference = wave(10, 1000, 0.0);
        let half: Vec<f32> = reference.iter().map(|x| x / 2.0).collect();
        let third: Vec<f32> = reference.iter().map(|x| x / 3.0).collect();
        // Halves are exact, thirds are rounded to 24 bits.
        assert!(si_sdr_db(&reference, &half) > 250.0);
        assert!(si_sdr_db(&reference, &third) > 130.0);
        assert!(si_sdr_db(&reference, &wave(10, 1000, PI / 2.0)) < -130.0);
        assert!(si_sdr_db(&reference, &[0.1; 1000]).is_nan());
        assert!(si_sdr_db(&[0.1; 1000], &reference).is_nan());
    }

    #[test]
    #[should_panic(expected = "differ in length")]
    fn lengths_must_agree() {
        stoi(&[0.0; 5000], &[0.0; 5001], 10_000);
    }

    /// The reference of `stoi.py`.
    fn modulated(fixture: &Value, rate_hz: u32, samples: usize) -> Vec<f64> {
        let numbers = |row: &Value| -> Vec<f64> {
            let row = row.as_array().unwrap();
            row.iter().map(|value| value.as_f64().unwrap()).collect()
        };
        let sines: Vec<Vec<f64>> = fixture["sines"]
            .as_array()
            .unwrap()
            .iter()
            .map(numbers)
            .collect();
        let mute = numbers(&fixture["mute"]);
        let sample = |i: usize| {
            let t = i as f64 / f64::from(rate_hz);
            let sum: f64 = sines
                .iter()
                .map(|sine| {
                    let amplitude = 0.5 + 0.5 * (TAU * sine[1] * t + sine[2]).sin();
                    sine[3] * amplitude * (TAU * sine[0] * t).sin()
                })
                .sum();
            sum * if t % mute[0] < mute[1] { mute[2] } else { 1.0 }
        };
        (0..samples).map(sample).collect()
    }

    #[test]
    fn stoi_agrees_with_pystoi() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
        let text = std::fs::read_to_string(folder.join("stoi.json")).unwrap();
        let fixture: Value = serde_json::from_str(&text).unwrap();
        let cases = fixture["cases"].as_array().unwrap();
        assert!(cases.len() > 10);
        for case in cases {
            let rate_hz = case["sample_rate_hz"].as_u64().unwrap() as u32;
            let samples = case["samples"].as_u64().unwrap() as usize;
            let peak = case["noise"].as_f64().unwrap();
            let reference = modulated(&fixture, rate_hz, samples);
            let noisy = reference.iter().zip(noise(samples));
            let estimate = narrowed(noisy.map(|(x, n)| x + peak * n));
            let got = stoi(&narrowed(reference), &estimate, rate_hz);
            match (got, case["stoi"].as_f64()) {
                // Both are float64; another libm's sine may round a sample otherwise.
                (Some(got), Some(expected)) => {
                    assert!((got - expected).abs() < 1e-8, "{case}: {got}");
                }
                (got, expected) => assert_eq!(got, expected, "{case}"),
            }
        }
    }

    #[test]
    fn stoi_of_little_is_none() {
        assert_eq!(stoi(&[], &[], 16_000), None);
        assert_eq!(stoi(&[0.1; 200], &[0.1; 200], 10_000), None);
        // 31 frames and the sample behind the last, one of which the joining costs.
        let fits = 30 * STOI_HOP + STOI_FRAME + 1;
        let sound = narrowed(noise(fits));
        assert!((stoi(&sound, &sound, 10_000).unwrap() - 1.0).abs() < 1e-9);
        assert_eq!(stoi(&sound[1..], &sound[1..], 10_000), None);
        assert_eq!(stoi(&vec![0.0; fits], &sound, 10_000), Some(0.0));
    }

    /// Resampled, a sine is the sine at the other rate, to the filter's 60 dB, away from the ends.
    #[test]
    fn resampling_keeps_a_sine() {
        for (from_hz, to_hz) in [(16_000, 10_000), (8_000, 10_000), (44_100, 10_000)] {
            let sine = |rate_hz: u32, samples: u32| -> Vec<f64> {
                let angle = |i: u32| TAU * 1000.0 * f64::from(i) / f64::from(rate_hz);
                (0..samples).map(|i| angle(i).sin()).collect()
            };
            let got = resampled(&sine(from_hz, from_hz / 10), from_hz, to_hz);
            assert_eq!(got.len(), to_hz as usize / 10);
            let expected = sine(to_hz, to_hz / 10);
            let inner = 100..got.len() - 100;
            for (x, y) in got[inner.clone()].iter().zip(&expected[inner]) {
                assert!((x - y).abs() < 1e-3, "{from_hz} Hz: {x}, not {y}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_is_not_good() {
        let reference = narrowed(noise(8000));
        let mut estimate = reference.clone();
        for broken in [f32::NAN, f32::INFINITY] {
            estimate[4000] = broken;
            assert!(si_sdr_db(&reference, &estimate).is_nan());
            assert!(stoi(&reference, &estimate, 10_000).unwrap().is_nan());
            assert!(stoi(&reference, &estimate, 16_000).unwrap().is_nan());
            assert!(mel_distance_db(&reference, &estimate, 10_000).is_nan());
        }
    }

    #[test]
    fn bessel_function_in_tables() {
        // Its first digits, as `scipy.special.i0` prints them.
        for (x, expected) in [(0.0, 1.0), (1.0, 1.266_065_878), (5.0, 27.239_871_824)] {
            assert!((bessel_i0(x) - expected).abs() < 1e-9 * expected);
        }
    }

    #[test]
    fn mel_distance_of_a_gain_is_the_gain() {
        let sound = narrowed(noise(5000));
        assert_eq!(mel_distance_db(&sound, &sound, 24_000), 0.0);
        for gain in [0.5f32, 4.0, -8.0] {
            let scaled: Vec<f32> = sound.iter().map(|x| gain * x).collect();
            let expected = (20.0 * f64::from(gain.abs()).log10()).abs();
            let got = mel_distance_db(&sound, &scaled, 24_000);
            assert!((got - expected).abs() < 1e-9, "{got} for {expected} dB");
        }
    }

    /// Against the sums that define it, and the floor of silence.
    #[test]
    fn mel_levels_by_definition() {
        let samples = noise(1024 + 256 + 255);
        let silence = vec![0.0f32; samples.len()];
        let rate_hz = 16_000.0;
        let mel = |hz: f64| 2595.0 * (1.0 + hz / 700.0).log10();
        let mut sum = 0.0;
        for start in [0, 256] {
            let mut bands = [0.0; 80];
            for bin in 0..513 {
                let (mut re, mut im) = (0.0, 0.0);
                for i in 0..1024 {
                    let turn = PI * i as f64 / 512.0;
                    let sample = f64::from(samples[start + i] as f32);
                    let windowed = sample * (turn / 2.0).sin().powi(2);
                    let angle = PI * ((i * bin) % 1024) as f64 / 512.0;
                    re += windowed * angle.cos();
                    im += windowed * angle.sin();
                }
                let hz = bin as f64 * rate_hz / 1024.0;
                for (index, band) in bands.iter_mut().enumerate() {
                    let edge = |at: f64| {
                        let mels = mel(rate_hz / 2.0) * (index as f64 + at) / 81.0;
                        700.0 * (10f64.powf(mels / 2595.0) - 1.0)
                    };
                    let (low, middle, high) = (edge(0.0), edge(1.0), edge(2.0));
                    let weight = match hz {
                        _ if hz < low || hz > high => 0.0,
                        _ if hz < middle => (hz - low) / (middle - low),
                        _ => (high - hz) / (high - middle),
                    };
                    *band += weight * f64::hypot(re, im);
                }
            }
            sum += bands.map(|m| 20.0 * m.log10() + 100.0).iter().sum::<f64>();
        }
        let got = mel_distance_db(&silence, &narrowed(samples), 16_000);
        assert!((got - sum / 160.0).abs() < 1e-9, "{got}");
    }

    #[test]
    fn mel_distance_of_little_sound() {
        assert_eq!(mel_distance_db(&[], &[], 24_000), 0.0);
        let click = [0.0, 0.0, 1.0];
        let louder = [0.0, 0.0, 2.0];
        let got = mel_distance_db(&click, &louder, 24_000);
        // Under the window's start a click is quiet: 20 log10(sin(2 pi / 1024)^2) = -88 dB.
        assert!((got - 20.0 * 2f64.log10()).abs() < 1e-9, "{got}");
        for (rate_hz, bands) in [(8_000, 80), (48_000, 80), (96_000, 79)] {
            assert_eq!(mel_bands(rate_hz).len(), bands, "{rate_hz}");
        }
    }

    #[test]
    fn edits_by_hand() {
        let count = |a: &str, b: &str| edit_rate(&words(a), &words(b));
        let of = |edits, expected| EditCount { edits, expected };
        assert_eq!(count("the cat sat", "the cat sat"), of(0, 3));
        assert_eq!(count("the cat sat", "a cat sat down"), of(2, 3));
        assert_eq!(count("the cat sat", ""), of(3, 3));
        assert_eq!(count("", "the cat"), of(2, 0));
        let got = edit_rate(&characters("Kitten!"), &characters("sitting"));
        assert_eq!(got, of(3, 6));
        let total: EditCount = [of(1, 3), of(2, 5)].into_iter().sum();
        assert_eq!(total, of(3, 8));
        assert_eq!(total.rate(), 0.375);
        assert!(of(0, 0).rate().is_nan());
    }

    #[test]
    fn words_are_normalized() {
        for (text, expected) in [
            ("  Hello,\tWORLD!\n", "hello world"),
            ("Don't \u{201c}stop\u{201d}.", "don't stop"),
            (
                "It\u{2019}s 'quoted' -- the dogs' $5.20",
                "it's quoted the dogs 520",
            ),
            (
                "well-known and/or one\u{2014}two",
                "well known and or one two",
            ),
            ("\u{c9}T\u{c9} Stra\u{df}e", "\u{e9}t\u{e9} stra\u{df}e"),
            (" ... ' - ", ""),
        ] {
            assert_eq!(words(text).join(" "), expected);
        }
        assert_eq!(characters("A  b!"), ['a', ' ', 'b']);
    }
}
