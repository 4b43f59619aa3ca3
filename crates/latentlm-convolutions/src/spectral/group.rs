//! A group of frames that lie side by side: from the samples of two signals to sums of distances, and back to the
//! gradient of the samples. All of it stays in the second-level cache.

use multiversion::multiversion;

use crate::fourier::{Bin, Fourier, LANES, Sample, forward, transposed};
use latentlm_products::math::ln;

/// Hops in a window, so that each sample lies in as many frames.
pub(super) const OVERLAP: usize = 4;

/// Hops that a group of frames covers.
const SPAN: usize = LANES + OVERLAP - 1;

/// What keeps losses and their gradients finite.
#[derive(Debug, Clone, Copy)]
pub struct Floors {
    /// Added to squared magnitudes, under the root.
    pub power: f32,
    /// Least level and least mel band before the logarithm.
    pub level: f32,
    /// Least sum of squared differences of levels, under the root.
    pub difference: f64,
    /// Added to the root of the sum of squared levels, which is a divisor.
    pub divisor: f64,
}

/// Tables of the spectra of one window length.
#[derive(Debug)]
pub struct Resolution {
    window: Vec<f32>,
    /// Factor from magnitudes to levels.
    scale: f32,
    bands: Vec<Band>,
    fourier: Fourier,
}

/// A mel band: the weights of consecutive bins.
// A band is a triangle over few of the bins. All others have weight 0 and are left out.
#[derive(Debug)]
struct Band {
    /// Bin of the first weight.
    first: usize,
    weights: Vec<f32>,
}

impl Band {
    fn new(weights: &[f32]) -> Self {
        let first = weights.iter().position(|weight| *weight != 0.0);
        let last = weights.iter().rposition(|weight| *weight != 0.0);
        let (first, end) = match (first, last) {
            (Some(first), Some(last)) => (first, last + 1),
            _ => (0, 0),
        };
        Self {
            first,
            weights: weights[first..end].to_vec(),
        }
    }

    /// The sum of weighted levels.
    #[inline(always)]
    fn sum(&self, levels: &[Sample]) -> Sample {
        let mut sum = [0.0; LANES];
        for (level, weight) in levels[self.first..].iter().zip(&self.weights) {
            for (sum, level) in sum.iter_mut().zip(level) {
                *sum += level * weight;
            }
        }
        sum
    }
}

/// Consecutive frames of two signals, at most [`LANES`].
#[derive(Clone, Copy)]
pub(super) struct Frames<'a> {
    pub(super) decoded: &'a [f32],
    pub(super) signal: &'a [f32],
    /// Number of the first frame.
    pub(super) first: usize,
    pub(super) count: usize,
}

/// Sums over bins or bands of frames.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    /// Distances of the logarithms of mel bands.
    pub(super) mel: f64,
    /// Distances of the logarithms of levels.
    pub(super) level: f64,
    /// Squared differences of levels.
    pub(super) difference: f64,
    /// Squared levels of the signal.
    pub(super) energy: f64,
}

/// What the gradient needs of a group.
#[derive(Debug)]
pub(super) struct Kept {
    /// Bins of the decoded signal.
    bins: Vec<Bin>,
    /// Levels of the signal.
    levels: Vec<Sample>,
    /// Derivatives of the distances of mel bands.
    slopes: Vec<Sample>,
}

/// Factors of the parts that a gradient is the sum of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    /// Factor of the derivatives of the distances of mel bands.
    pub(super) mel: f32,
    /// Factor of the derivatives of the distances of levels.
    pub(super) level: f32,
    /// Factor of the differences of levels.
    pub(super) difference: f32,
}

/// Memory for the numbers of a group.
pub(super) struct Scratch {
    /// Samples of a hop, each for all hops that the group covers.
    hops: Vec<[f32; SPAN]>,
    samples: Vec<Sample>,
    bins: Vec<Bin>,
    levels: Vec<Sample>,
}

impl Scratch {
    pub(super) fn new(resolution: &Resolution) -> Self {
        let bins = resolution.bins();
        Self {
            hops: vec![[0.0; SPAN]; resolution.hop()],
            samples: vec![[0.0; LANES]; resolution.window.len()],
            bins: vec![[[0.0; LANES]; 2]; bins],
            levels: vec![[0.0; LANES]; bins],
        }
    }
}

impl Resolution {
    /// Tables for frames under a window, one every quarter of its length. `scale` is the factor from magnitudes to levels.
    /// `bands` has the weight of each bin in each mel band, `[bins, bands]`; there is one bin more than half the window's
    /// length.
    ///
    /// # Panics
    /// If the window's length is no power of two of 4 or more, or `bands` has no whole row for each bin.
    pub fn new(window: Vec<f32>, scale: f32, bands: &[f32]) -> Self {
        let fourier = Fourier::new(window.len());
        let bins = fourier.bins();
        assert!(
            !bands.is_empty() && bands.len().is_multiple_of(bins),
            "{} weights of bands for {bins} bins",
            bands.len()
        );
        let count = bands.len() / bins;
        let weights = |band: usize| bands[band..].iter().copied().step_by(count);
        Self {
            bands: (0..count)
                .map(|band| Band::new(&weights(band).collect::<Vec<f32>>()))
                .collect(),
            window,
            scale,
            fourier,
        }
    }

    pub(super) fn hop(&self) -> usize {
        self.window.len() / OVERLAP
    }

    pub(super) fn bins(&self) -> usize {
        self.fourier.bins()
    }

    pub(super) fn bands(&self) -> usize {
        self.bands.len()
    }

    /// Frames of a signal. Silence before and after it fills them up, so that each sample lies in four.
    pub(super) fn frames(&self, samples: usize) -> usize {
        samples.div_ceil(self.hop()) + OVERLAP - 1
    }

    /// The distance of two signals in some frames.
    pub(super) fn compare(
        &self,
        frames: Frames<'_>,
        floors: Floors,
        scratch: &mut Scratch,
    ) -> (Sums, Kept) {
        let bins = self.bins();
        let mut kept = Kept {
            bins: vec![[[0.0; LANES]; 2]; bins],
            levels: vec![[0.0; LANES]; bins],
            slopes: vec![[0.0; LANES]; self.bands()],
        };
        take_frames(&self.window, frames.signal, frames.first, scratch);
        forward(&self.fourier, &mut scratch.samples, &mut scratch.bins);
        take_levels(&scratch.bins, self.scale, floors.power, &mut kept.levels);
        take_frames(&self.window, frames.decoded, frames.first, scratch);
        forward(&self.fourier, &mut scratch.samples, &mut kept.bins);
        take_levels(&kept.bins, self.scale, floors.power, &mut scratch.levels);
        let (decoded, signal) = (&scratch.levels, &kept.levels);
        let mel = mel_sums(&self.bands, decoded, signal, floors.level, &mut kept.slopes);
        let [level, difference, energy] = level_sums(decoded, signal, floors.level);
        // The last group of a signal has lanes without a frame. They are silent, and silence has energy.
        let sum = |lanes: [f64; LANES]| lanes[..frames.count].iter().sum::<f64>();
        let sums = Sums {
            mel: sum(mel),
            level: sum(level),
            difference: sum(difference),
            energy: sum(energy),
        };
        (sums, kept)
    }

    /// The gradient of the decoded signal from a group of frames: of all samples of the hops that the group covers.
    pub(super) fn gradient(
        &self,
        kept: &Kept,
        factors: Factors,
        floors: Floors,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        bin_gradients(self, kept, factors, floors, scratch);
        transposed(&self.fourier, &scratch.bins, &mut scratch.samples);
        add_frames(&self.window, scratch);
        let hop = self.hop();
        let mut samples = vec![0.0; SPAN * hop];
        for (index, samples) in samples.chunks_exact_mut(hop).enumerate() {
            for (sample, hops) in samples.iter_mut().zip(&scratch.hops) {
                *sample = hops[index];
            }
        }
        samples
    }

    /// Adds samples of [`Resolution::gradient`] to a signal. The first frame of their group had the number `first`.
    pub(super) fn add(&self, samples: &[f32], first: usize, signal: &mut [f32]) {
        let (start, silence) = (first * self.hop(), (OVERLAP - 1) * self.hop());
        let samples = &samples[silence.saturating_sub(start)..];
        add(&mut signal[start.saturating_sub(silence)..], samples);
    }
}

/// The samples of a hop. Hops count from the silence before the signal, and silence has no samples.
fn samples_of(signal: &[f32], hop: usize, index: usize) -> &[f32] {
    let Some(index) = index.checked_sub(OVERLAP - 1) else {
        return &[];
    };
    let start = (index * hop).min(signal.len());
    let end = (start + hop).min(signal.len());
    &signal[start..end]
}

// Frames overlap: each hop is read once, and turned so that the same sample of all hops lies side by side. A row of frames
// is then a part of a row of hops.
/// Frames from number `first` on, under the window.
#[multiversion(targets = "simd")]
fn take_frames(window: &[f32], signal: &[f32], first: usize, scratch: &mut Scratch) {
    let hop = window.len() / OVERLAP;
    for index in 0..SPAN {
        let samples = samples_of(signal, hop, first + index);
        let (heard, silent) = scratch.hops.split_at_mut(samples.len());
        for (hops, sample) in heard.iter_mut().zip(samples) {
            hops[index] = *sample;
        }
        for hops in silent {
            hops[index] = 0.0;
        }
    }
    for (shift, samples) in scratch.samples.chunks_exact_mut(hop).enumerate() {
        let window = &window[shift * hop..];
        for ((sample, hops), weight) in samples.iter_mut().zip(&scratch.hops).zip(window) {
            let mut own = [0.0; LANES];
            own.copy_from_slice(&hops[shift..shift + LANES]);
            for x in &mut own {
                *x *= weight;
            }
            *sample = own;
        }
    }
}

/// The transpose of [`take_frames`], as far as the hops.
#[multiversion(targets = "simd")]
fn add_frames(window: &[f32], scratch: &mut Scratch) {
    let hop = window.len() / OVERLAP;
    scratch.hops.fill([0.0; SPAN]);
    for (shift, samples) in scratch.samples.chunks_exact(hop).enumerate() {
        let window = &window[shift * hop..];
        for ((hops, sample), weight) in scratch.hops.iter_mut().zip(samples).zip(window) {
            let mut own = [0.0; LANES];
            own.copy_from_slice(&hops[shift..shift + LANES]);
            for (own, sample) in own.iter_mut().zip(sample) {
                *own += sample * weight;
            }
            hops[shift..shift + LANES].copy_from_slice(&own);
        }
    }
}

/// `sums += x`.
#[multiversion(targets = "simd")]
fn add(sums: &mut [f32], x: &[f32]) {
    for (sum, x) in sums.iter_mut().zip(x) {
        *sum += x;
    }
}

#[inline(always)]
fn magnitude(re: f32, im: f32, power: f32) -> f32 {
    (re * re + im * im + power).sqrt()
}

/// Levels of bins: their magnitudes times `scale`.
#[multiversion(targets = "simd")]
fn take_levels(bins: &[Bin], scale: f32, power: f32, levels: &mut [Sample]) {
    for (level, [re, im]) in levels.iter_mut().zip(bins) {
        let mut own = [0.0; LANES];
        for lane in 0..LANES {
            own[lane] = magnitude(re[lane], im[lane], power) * scale;
        }
        *level = own;
    }
}

/// The larger of two numbers. NaN stays.
#[inline(always)]
fn at_least(x: f32, least: f32) -> f32 {
    if x < least { least } else { x }
}

/// `|ln x - ln y|` of numbers that are raised to `least`.
#[inline(always)]
fn log_distance(x: f32, y: f32, least: f32) -> f32 {
    // One logarithm instead of two.
    ln(at_least(x, least) / at_least(y, least)).abs()
}

/// The derivative of [`log_distance`] along `x`.
#[inline(always)]
fn log_slope(x: f32, y: f32, least: f32) -> f32 {
    let (y, slope) = (at_least(y, least), 1.0 / x);
    if x > y {
        slope
    } else if x < y && x >= least {
        -slope
    } else {
        0.0
    }
}

// Sums of lanes are float64: a window may have a million bins.
/// Distances of the logarithms of levels, squared differences, and squared levels of the signal, each summed over the bins
/// of a frame.
#[multiversion(targets = "simd")]
fn level_sums(decoded: &[Sample], signal: &[Sample], least: f32) -> [[f64; LANES]; 3] {
    let (mut distances, mut differences, mut energies) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for (x, y) in decoded.iter().zip(signal) {
        for lane in 0..LANES {
            let (x, y) = (x[lane], y[lane]);
            distances[lane] += f64::from(log_distance(x, y, least));
            differences[lane] += f64::from((x - y) * (x - y));
            energies[lane] += f64::from(y * y);
        }
    }
    [distances, differences, energies]
}

/// Distances of the logarithms of mel bands, summed over the bands of a frame. Their derivatives become `slopes`.
#[multiversion(targets = "simd")]
fn mel_sums(
    bands: &[Band],
    decoded: &[Sample],
    signal: &[Sample],
    least: f32,
    slopes: &mut [Sample],
) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for (band, slope) in bands.iter().zip(slopes) {
        let (x, y) = (band.sum(decoded), band.sum(signal));
        let mut own = [0.0; LANES];
        for lane in 0..LANES {
            sums[lane] += f64::from(log_distance(x[lane], y[lane], least));
            own[lane] = log_slope(x[lane], y[lane], least);
        }
        *slope = own;
    }
    sums
}

/// The gradient of the bins of the decoded signal.
#[multiversion(targets = "simd")]
fn bin_gradients(
    resolution: &Resolution,
    kept: &Kept,
    factors: Factors,
    floors: Floors,
    scratch: &mut Scratch,
) {
    // The gradient of levels by way of mel bands. The gradient of bands is spread over the levels that each is a sum of.
    scratch.levels.fill([0.0; LANES]);
    for (band, slopes) in resolution.bands.iter().zip(&kept.slopes) {
        let levels = scratch.levels[band.first..].iter_mut();
        for (level, weight) in levels.zip(&band.weights) {
            let mut own = *level;
            for (own, slope) in own.iter_mut().zip(slopes) {
                *own += slope * weight;
            }
            *level = own;
        }
    }
    let (scale, least) = (resolution.scale, floors.level);
    let rows = kept.bins.iter().zip(&kept.levels).zip(&scratch.levels);
    for ((([re, im], signal), mel), bin) in rows.zip(&mut scratch.bins) {
        let mut own = [[0.0; LANES]; 2];
        for lane in 0..LANES {
            let magnitude = magnitude(re[lane], im[lane], floors.power);
            let level = magnitude * scale;
            let slope = factors.mel * mel[lane]
                + factors.level * log_slope(level, signal[lane], least)
                + factors.difference * (level - signal[lane]);
            let factor = slope * scale / magnitude;
            own[0][lane] = re[lane] * factor;
            own[1][lane] = im[lane] * factor;
        }
        *bin = own;
    }
}
