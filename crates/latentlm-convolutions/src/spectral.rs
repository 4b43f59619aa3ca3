//! Losses that compare spectra of two signals at several resolutions, and their gradient: distances of log10 mel bands and
//! of log magnitudes, and spectral convergence. Eight frames at a time go from their samples to sums without leaving the
//! cache. For the gradient are kept the bins of the one signal and the magnitudes of the other.
//!
//! `latentlm-codec-audio` has the same losses as a composition of tensor operations.

mod group;

use std::f64::consts::LOG10_E;
use std::fmt;

use rayon::prelude::*;

pub use group::{Floors, Resolution};

use crate::fourier::LANES;
use group::{Factors, Frames, Kept, Scratch, Sums};

/// Several resolutions at which signals are compared.
pub struct Spectra {
    resolutions: Vec<Resolution>,
    floors: Floors,
}

/// Two losses: the mean distance of log10 mel bands; spectral convergence plus the mean distance of the natural logarithms
/// of levels. Both are averaged over resolutions.
pub type Losses = [f32; 2];

/// Signals that were compared: the losses, and what their gradient needs.
#[derive(Debug)]
pub struct Compared {
    /// The losses.
    pub losses: Losses,
    /// Samples of a signal.
    samples: usize,
    distances: Vec<Distance>,
}

impl fmt::Debug for Spectra {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resolutions = self.resolutions.len();
        write!(formatter, "Spectra of {resolutions} resolutions")
    }
}

impl Spectra {
    /// Spectra that are compared at these resolutions.
    pub fn new(resolutions: Vec<Resolution>, floors: Floors) -> Self {
        Self {
            resolutions,
            floors,
        }
    }

    /// Whether there are no resolutions.
    pub fn is_empty(&self) -> bool {
        self.resolutions.is_empty()
    }

    /// Compares signals of `samples` samples each, one after the other: decoded ones with those that they should be. The
    /// losses do not depend on the number of threads. Without a resolution or without a signal they are NaN.
    ///
    /// # Panics
    /// If the two have different lengths, `samples` is 0, or the lengths are no multiple of it.
    pub fn compare(&self, decoded: &[f32], signal: &[f32], samples: usize) -> Compared {
        assert_eq!(decoded.len(), signal.len(), "samples of the signals");
        assert!(
            samples > 0 && decoded.len().is_multiple_of(samples),
            "{} samples of signals of {samples}",
            decoded.len()
        );
        let pair = Pair {
            decoded,
            signal,
            samples,
        };
        let (mut sums, mut distances) = ([0.0; 2], Vec::with_capacity(self.resolutions.len()));
        for resolution in &self.resolutions {
            let distance = pair.distance(resolution, self.floors);
            let losses = distance.losses(resolution, self.floors);
            for (sum, loss) in sums.iter_mut().zip(losses) {
                *sum += loss;
            }
            distances.push(distance);
        }
        let count = self.resolutions.len() as f64;
        Compared {
            losses: sums.map(|sum| (sum / count) as f32),
            samples,
            distances,
        }
    }

    /// The gradient of the decoded signals, from those of the losses. It does not depend on the number of threads.
    pub fn gradient(&self, compared: &Compared, dlosses: Losses) -> Vec<f32> {
        let samples = compared.samples;
        let dlosses = dlosses.map(|dloss| f64::from(dloss) / self.resolutions.len() as f64);
        let mut gradient = Vec::new();
        for (resolution, distance) in self.resolutions.iter().zip(&compared.distances) {
            let factors = distance.factors(resolution, self.floors, dlosses);
            let pieces: Vec<Vec<f32>> = distance
                .groups
                .par_iter()
                .map_init(
                    || Scratch::new(resolution),
                    |scratch, kept| resolution.gradient(kept, factors, self.floors, scratch),
                )
                .collect();
            // Groups overlap. Those of a signal are added in their order by one thread.
            let groups = resolution.frames(samples).div_ceil(LANES);
            gradient.resize(pieces.len() / groups * samples, 0.0);
            gradient
                .par_chunks_exact_mut(samples)
                .zip(pieces.par_chunks_exact(groups))
                .for_each(|(signal, pieces)| {
                    for (group, piece) in pieces.iter().enumerate() {
                        resolution.add(piece, group * LANES, signal);
                    }
                });
        }
        gradient
    }
}

/// Signals that are compared.
#[derive(Clone, Copy)]
struct Pair<'a> {
    decoded: &'a [f32],
    signal: &'a [f32],
    /// Samples of a signal.
    samples: usize,
}

impl Pair<'_> {
    fn distance(self, resolution: &Resolution, floors: Floors) -> Distance {
        let signals = self.decoded.len() / self.samples;
        let frames = resolution.frames(self.samples);
        let groups = frames.div_ceil(LANES);
        let run = |scratch: &mut Scratch, index: usize| {
            let (signal, first) = (index / groups, index % groups * LANES);
            let own = signal * self.samples..(signal + 1) * self.samples;
            let frames = Frames {
                decoded: &self.decoded[own.clone()],
                signal: &self.signal[own],
                first,
                count: LANES.min(frames - first),
            };
            resolution.compare(frames, floors, scratch)
        };
        let found: Vec<(Sums, Kept)> = (0..signals * groups)
            .into_par_iter()
            .map_init(|| Scratch::new(resolution), run)
            .collect();
        let mut distance = Distance {
            groups: Vec::with_capacity(found.len()),
            sums: Sums::default(),
            frames: (signals * frames) as f64,
        };
        // In the order of the groups, whichever was done first.
        for (own, kept) in found {
            let sums = &mut distance.sums;
            sums.mel += own.mel;
            sums.level += own.level;
            sums.difference += own.difference;
            sums.energy += own.energy;
            distance.groups.push(kept);
        }
        distance
    }
}

/// Signals compared at one resolution.
#[derive(Debug)]
struct Distance {
    /// Groups of frames, all of a signal before those of the next.
    groups: Vec<Kept>,
    sums: Sums,
    /// Number of frames.
    frames: f64,
}

impl Distance {
    /// Number of mel bands and of levels.
    fn counts(&self, resolution: &Resolution) -> [f64; 2] {
        let counts = [resolution.bands(), resolution.bins()];
        counts.map(|count| self.frames * count as f64)
    }

    /// Numerator and denominator of spectral convergence.
    fn roots(&self, floors: Floors) -> [f64; 2] {
        let squares = if self.is_equal(floors) {
            floors.difference
        } else {
            self.sums.difference
        };
        [squares.sqrt(), self.sums.energy.sqrt() + floors.divisor]
    }

    /// Whether the levels of both signals are the same. Then the root of squared differences has no derivative.
    fn is_equal(&self, floors: Floors) -> bool {
        self.sums.difference < floors.difference
    }

    fn losses(&self, resolution: &Resolution, floors: Floors) -> [f64; 2] {
        let [bands, levels] = self.counts(resolution);
        let [difference, energy] = self.roots(floors);
        [
            self.sums.mel * LOG10_E / bands,
            self.sums.level / levels + difference / energy,
        ]
    }

    /// Factors of the gradient, from the gradients of this resolution's losses.
    fn factors(&self, resolution: &Resolution, floors: Floors, dlosses: [f64; 2]) -> Factors {
        let [bands, levels] = self.counts(resolution);
        let [difference, energy] = self.roots(floors);
        let [mel, stft] = dlosses;
        let along_difference = if self.is_equal(floors) {
            0.0
        } else {
            stft / (difference * energy)
        };
        Factors {
            mel: (mel * LOG10_E / bands) as f32,
            level: (stft / levels) as f32,
            difference: along_difference as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    const FLOORS: Floors = Floors {
        power: 1e-10,
        level: 3e-3,
        difference: 1e-30,
        divisor: 1e-6,
    };
    const BANDS: usize = 3;

    /// Window and weights of bands.
    fn tables(length: usize) -> (Vec<f32>, Vec<f32>) {
        let hann = |i: usize| 0.5 - 0.5 * (TAU * i as f64 / length as f64).cos();
        let window = (0..length).map(|i| hann(i) as f32).collect();
        // Bands that overlap and end before the last bin; of the last, only one bin has a weight.
        let weight = |bin: usize, band: usize| match band {
            0 => [0.3, 0.9, 0.4].get(bin).copied().unwrap_or(0.0),
            1 if bin > 0 && bin < length / 2 => 1.0 / bin as f32,
            2 if bin == length / 4 => 0.7,
            _ => 0.0,
        };
        let weights = (0..(length / 2 + 1) * BANDS).map(|i| weight(i / BANDS, i % BANDS));
        (window, weights.collect())
    }

    /// Quiet numbers without a pattern, for levels to both sides of the floor. Were they loud, then bins next to 0 would
    /// make the gradient of logarithms as uncertain as float32 transforms are.
    fn signal(seed: u64, count: usize) -> Vec<f32> {
        let number = |index: u64| {
            let x = (index * 2 + seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            0.04 * (((x ^ (x >> 32)) >> 40) as f32 / (1 << 23) as f32 - 1.0)
        };
        (1..=count as u64).map(number).collect()
    }

    fn spectra(lengths: &[usize]) -> Spectra {
        let resolution = |length: &usize| {
            let (window, bands) = tables(*length);
            Resolution::new(window, 1.0 / (0.375 * *length as f32).sqrt(), &bands)
        };
        Spectra::new(lengths.iter().map(resolution).collect(), FLOORS)
    }

    /// Levels of all frames of one signal by the sums that define them, in float64.
    fn levels_by_definition(x: &[f64], window: &[f32]) -> Vec<Vec<f64>> {
        let length = window.len();
        let scale = 1.0 / (0.375 * length as f64).sqrt();
        let turns = (0..length).map(|i| (TAU * i as f64 / length as f64).sin_cos());
        let turns: Vec<(f64, f64)> = turns.collect();
        let mut frames = Vec::new();
        for frame in 0..x.len().div_ceil(length / 4) + 3 {
            let mut levels = Vec::new();
            for k in 0..=length / 2 {
                let (mut re, mut im) = (0.0, 0.0);
                for (n, weight) in window.iter().enumerate() {
                    let at = (frame * length / 4 + n).checked_sub(length / 4 * 3);
                    let sample = at.and_then(|at| x.get(at)).unwrap_or(&0.0);
                    let (sin, cos) = turns[k * n % length];
                    re += sample * f64::from(*weight) * cos;
                    im -= sample * f64::from(*weight) * sin;
                }
                levels.push((re * re + im * im + f64::from(FLOORS.power)).sqrt() * scale);
            }
            frames.push(levels);
        }
        frames
    }

    /// The losses by their definition, in float64.
    fn losses_by_definition(
        decoded: &[f64],
        signal: &[f64],
        samples: usize,
        lengths: &[usize],
    ) -> [f64; 2] {
        let log = |x: f64| x.max(f64::from(FLOORS.level)).ln();
        let mut losses = [0.0; 2];
        for length in lengths {
            let (window, bands) = tables(*length);
            let frames = |x: &[f64]| -> Vec<Vec<f64>> {
                let signals = x.chunks(samples);
                signals
                    .flat_map(|x| levels_by_definition(x, &window))
                    .collect()
            };
            let (x, y) = (frames(decoded), frames(signal));
            let (mut mel, mut level, mut difference, mut energy) = (0.0, 0.0, 0.0, 0.0);
            for (x, y) in x.iter().zip(&y) {
                for band in 0..BANDS {
                    let sum = |levels: &[f64]| {
                        let weights = bands[band..].iter().step_by(BANDS);
                        levels
                            .iter()
                            .zip(weights)
                            .map(|(x, w)| x * f64::from(*w))
                            .sum::<f64>()
                    };
                    mel += (log(sum(x)) - log(sum(y))).abs() * LOG10_E;
                }
                for (x, y) in x.iter().zip(y) {
                    level += (log(*x) - log(*y)).abs();
                    difference += (x - y) * (x - y);
                    energy += y * y;
                }
            }
            let frames = x.len() as f64;
            let count = lengths.len() as f64;
            losses[0] += mel / (frames * BANDS as f64) / count;
            let level = level / (frames * (length / 2 + 1) as f64);
            losses[1] += (level + difference.sqrt() / (energy.sqrt() + FLOORS.divisor)) / count;
        }
        losses
    }

    fn assert_relative(what: &str, got: &[f32], expected: &[f64]) {
        assert_eq!(got.len(), expected.len(), "{what}");
        let scale = expected.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
        for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
            let error = (f64::from(*got) - expected).abs();
            assert!(
                error <= 1e-5 * scale,
                "{what}: {got} for {expected} at {index}"
            );
        }
    }

    /// Signals shorter than a hop, of one group of frames and of several, of lengths that no hop divides. Transforms whose
    /// last step is by 2 and by 4.
    #[test]
    fn losses_and_gradients_are_those_of_their_definition() {
        let exact = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
        for (signals, samples) in [(1, 1), (1, 37), (3, 24), (2, 71)] {
            let lengths = [8, 16, 32];
            let spectra = spectra(&lengths);
            let (x, y) = (signal(0, signals * samples), signal(1, signals * samples));
            let what = format!("{signals} signals of {samples}");
            let found = spectra.compare(&x, &y, samples);
            let (mut moved, y) = (exact(&x), exact(&y));
            let losses = losses_by_definition(&moved, &y, samples, &lengths);
            for (got, expected) in found.losses.iter().zip(losses) {
                assert_relative(&what, &[*got], &[expected]);
            }
            let mut gradients = [Vec::new(), Vec::new()];
            for index in 0..moved.len() {
                // So small that hardly any bin crosses the floor or the other signal's within a step, and large beside the
                // rounding of float64.
                const STEP: f64 = 1e-8;
                let at = moved[index];
                moved[index] = at + STEP;
                let above = losses_by_definition(&moved, &y, samples, &lengths);
                moved[index] = at - STEP;
                let below = losses_by_definition(&moved, &y, samples, &lengths);
                moved[index] = at;
                for (which, gradient) in gradients.iter_mut().enumerate() {
                    gradient.push((above[which] - below[which]) / (2.0 * STEP));
                }
            }
            let [mel, stft] = &gradients;
            assert_relative(&what, &spectra.gradient(&found, [1.0, 0.0]), mel);
            assert_relative(&what, &spectra.gradient(&found, [0.0, 1.0]), stft);
        }
    }

    /// The same bits on any number of threads.
    #[test]
    fn nothing_depends_on_threads() {
        let spectra = spectra(&[16, 64]);
        let (x, y) = (signal(0, 4 * 333), signal(1, 4 * 333));
        let run = || {
            let found = spectra.compare(&x, &y, 333);
            (found.losses, spectra.gradient(&found, [15.0, 1.0]))
        };
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.unwrap().install(run)
        };
        let (losses, gradient) = on(1);
        assert!(losses.iter().all(|loss| *loss > 0.0));
        for threads in [2, 5] {
            assert_eq!(on(threads), (losses, gradient.clone()), "{threads} threads");
        }
    }

    /// Equal signals have distance 0 and no slope, although the root of squared differences has none there.
    #[test]
    fn equal_signals_have_no_gradient() {
        let spectra = spectra(&[16]);
        for x in [vec![0.0; 50], signal(0, 50)] {
            let found = spectra.compare(&x, &x, 50);
            assert_eq!(found.losses[0], 0.0);
            assert!(found.losses[1] < 1e-8);
            assert_eq!(spectra.gradient(&found, [1.0, 1.0]), vec![0.0; 50]);
        }
    }

    /// A number that is none shows in both losses.
    #[test]
    fn nan_stays_nan() {
        let spectra = spectra(&[16]);
        let (mut x, y) = (signal(0, 50), signal(1, 50));
        x[20] = f32::NAN;
        let found = spectra.compare(&x, &y, 50);
        assert!(found.losses.iter().all(|loss| loss.is_nan()));
    }
}
