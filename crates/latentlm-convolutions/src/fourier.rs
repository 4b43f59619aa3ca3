//! Fourier transforms of real signals that lie side by side, and the transposed transform, which a gradient needs. A row
//! holds the same number of each signal, so that one vector instruction does a step for all of them and no numbers are
//! shuffled within a register.

use std::f64::consts::TAU;

use multiversion::multiversion;

/// Signals that are transformed together.
// As many as a register of 256 bits has lanes. With 16, spectra of 2048 samples and what is computed of them would take
// half a megabyte, which is all or half of a second-level cache, and short signals would leave more lanes unused.
pub(crate) const LANES: usize = 8;

/// One number of each signal.
pub(crate) type Sample = [f32; LANES];

/// One complex number of each signal: the real parts, then the imaginary parts.
pub(crate) type Bin = [Sample; 2];

/// A real and an imaginary part.
type Complex = [f32; 2];

/// Tables of the transform of signals of one length.
#[derive(Debug, Clone)]
pub(crate) struct Fourier {
    /// Samples of a signal.
    length: usize,
    /// `exp(-2 pi i k / length)` for each `k` below three quarters of the length.
    turns: Vec<Complex>,
    /// Where the steps leave each coefficient: at its own number with the bits in reverse.
    places: Vec<usize>,
}

impl Fourier {
    /// # Panics
    /// If the length is no power of two of 4 or more.
    pub(crate) fn new(length: usize) -> Self {
        assert!(
            length >= 4 && length.is_power_of_two(),
            "a signal of {length} samples is no power of two of 4 or more"
        );
        let turn = |k: usize| {
            let angle = -TAU * k as f64 / length as f64;
            [angle.cos() as f32, angle.sin() as f32]
        };
        let half = length / 2;
        let unused = usize::BITS - half.ilog2();
        Self {
            length,
            turns: (0..length / 4 * 3).map(turn).collect(),
            places: (0..half).map(|k| k.reverse_bits() >> unused).collect(),
        }
    }

    /// Bins of a spectrum, from frequency 0 to half the sample rate.
    pub(crate) fn bins(&self) -> usize {
        self.length / 2 + 1
    }

    fn check(&self, samples: &[Sample], bins: &[Bin]) {
        let (expected, got) = ([self.length, self.bins()], [samples.len(), bins.len()]);
        assert_eq!(got, expected, "rows of samples and of bins");
    }
}

/// The spectra `sum over n of x[n] exp(-2 pi i k n / length)`, for `k` from 0 to half the length. The samples are
/// overwritten.
// Even and odd samples are the real and imaginary parts of complex signals of half the length. Each step of those is
// one of decimation in frequency by 4, which is two steps by 2; a last step by 2 is left if the number of steps by 2 is
// odd. The spectra of the real signals then follow from the symmetry of those of even and odd samples.
#[multiversion(targets = "simd")]
pub(crate) fn forward(tables: &Fourier, samples: &mut [Sample], bins: &mut [Bin]) {
    tables.check(samples, bins);
    let rows = samples.as_chunks_mut::<2>().0;
    let mut length = rows.len();
    while length >= 4 {
        let step = tables.length / length;
        for block in rows.chunks_exact_mut(length) {
            let [first, second, third, fourth] = quarters(block);
            let (front, back) = (first.iter_mut().zip(second), third.iter_mut().zip(fourth));
            for (index, ((a, b), (c, d))) in front.zip(back).enumerate() {
                let found = four(&[*a, *b, *c, *d], powers(tables, index * step));
                [*a, *b, *c, *d] = found;
            }
        }
        length /= 4;
    }
    if length == 2 {
        in_pairs(rows);
    }
    let half = rows.len();
    [bins[0], bins[half]] = ends(&rows[0]);
    for k in 1..=half / 2 {
        let pair = [rows[tables.places[k]], rows[tables.places[half - k]]];
        [bins[k], bins[half - k]] = unfold(&pair, tables.turns[k]);
    }
}

/// The transpose of [`forward`]: `sum over k of re[k] cos(2 pi k n / length) - im[k] sin(2 pi k n / length)`. Of a
/// gradient of spectra it makes the gradient of the samples.
#[multiversion(targets = "simd")]
pub(crate) fn transposed(tables: &Fourier, bins: &[Bin], samples: &mut [Sample]) {
    tables.check(samples, bins);
    let rows = samples.as_chunks_mut::<2>().0;
    let half = rows.len();
    rows[0] = ends_back(&bins[0], &bins[half]);
    for k in 1..=half / 2 {
        let pair = [bins[k], bins[half - k]];
        let [low, high] = fold(&pair, tables.turns[k]);
        rows[tables.places[k]] = low;
        rows[tables.places[half - k]] = high;
    }
    // The steps of `forward` backwards.
    let mut length = 4;
    if !half.ilog2().is_multiple_of(2) {
        in_pairs(rows);
        length = 8;
    }
    while length <= half {
        let step = tables.length / length;
        for block in rows.chunks_exact_mut(length) {
            let [first, second, third, fourth] = quarters(block);
            let (front, back) = (first.iter_mut().zip(second), third.iter_mut().zip(fourth));
            for (index, ((a, b), (c, d))) in front.zip(back).enumerate() {
                let found = four_back(&[*a, *b, *c, *d], powers(tables, index * step));
                [*a, *b, *c, *d] = found;
            }
        }
        length *= 4;
    }
}

#[inline(always)]
fn quarters(block: &mut [Bin]) -> [&mut [Bin]; 4] {
    let quarter = block.len() / 4;
    let (first, rest) = block.split_at_mut(quarter);
    let (second, rest) = rest.split_at_mut(quarter);
    let (third, fourth) = rest.split_at_mut(quarter);
    [first, second, third, fourth]
}

/// The turn at an index, its square and its cube.
#[inline(always)]
fn powers(tables: &Fourier, index: usize) -> [Complex; 3] {
    let turns = &tables.turns;
    [turns[index], turns[2 * index], turns[3 * index]]
}

// In all functions below the loop over lanes stands innermost, reads rows and writes arrays of its own. Then the compiler
// knows that nothing overlaps and makes vector instructions of it.

/// A step by 4 on one row of each quarter.
#[inline(always)]
fn four(rows: &[Bin; 4], turns: [Complex; 3]) -> [Bin; 4] {
    let mut found = [[[0.0; LANES]; 2]; 4];
    for lane in 0..LANES {
        let (first, third) = (at(&rows[0], lane), at(&rows[2], lane));
        let (second, fourth) = (at(&rows[1], lane), at(&rows[3], lane));
        let (sum, difference) = (plus(first, third), minus(first, third));
        let (others, turned) = (plus(second, fourth), quarter_turn(minus(second, fourth)));
        put(&mut found[0], lane, plus(sum, others));
        put(&mut found[1], lane, times(minus(sum, others), turns[1]));
        put(
            &mut found[2],
            lane,
            times(minus(difference, turned), turns[0]),
        );
        put(
            &mut found[3],
            lane,
            times(plus(difference, turned), turns[2]),
        );
    }
    found
}

/// The transpose of [`four`].
#[inline(always)]
fn four_back(rows: &[Bin; 4], turns: [Complex; 3]) -> [Bin; 4] {
    let [one, two, three] = [
        conjugate(turns[0]),
        conjugate(turns[1]),
        conjugate(turns[2]),
    ];
    let mut found = [[[0.0; LANES]; 2]; 4];
    for lane in 0..LANES {
        let (first, second) = (at(&rows[0], lane), times(at(&rows[1], lane), two));
        let (third, fourth) = (
            times(at(&rows[2], lane), one),
            times(at(&rows[3], lane), three),
        );
        let (sum, difference) = (plus(first, second), minus(first, second));
        let (others, turned) = (plus(third, fourth), quarter_turn(minus(third, fourth)));
        put(&mut found[0], lane, plus(sum, others));
        put(&mut found[1], lane, plus(difference, turned));
        put(&mut found[2], lane, minus(sum, others));
        put(&mut found[3], lane, minus(difference, turned));
    }
    found
}

/// A step by 2 on rows that lie next to each other. It is its own transpose.
#[inline(always)]
fn in_pairs(rows: &mut [Bin]) {
    for pair in rows.as_chunks_mut::<2>().0 {
        let mut found = [[[0.0; LANES]; 2]; 2];
        for lane in 0..LANES {
            let (first, second) = (at(&pair[0], lane), at(&pair[1], lane));
            put(&mut found[0], lane, plus(first, second));
            put(&mut found[1], lane, minus(first, second));
        }
        *pair = found;
    }
}

/// The first and the last bin of the real signals, from the first of the complex ones. Both are real.
#[inline(always)]
fn ends(row: &Bin) -> [Bin; 2] {
    let mut found = [[[0.0; LANES]; 2]; 2];
    for lane in 0..LANES {
        let [re, im] = at(row, lane);
        put(&mut found[0], lane, [re + im, 0.0]);
        put(&mut found[1], lane, [re - im, 0.0]);
    }
    found
}

/// The transpose of [`ends`].
#[inline(always)]
fn ends_back(first: &Bin, last: &Bin) -> Bin {
    let mut found = [[0.0; LANES]; 2];
    for lane in 0..LANES {
        let ([first, _], [last, _]) = (at(first, lane), at(last, lane));
        put(&mut found, lane, [first + last, first - last]);
    }
    found
}

/// Bins `k` and `half - k` of the real signals, from those of the complex ones. `turn` is that of `k`.
#[inline(always)]
fn unfold(pair: &[Bin; 2], turn: Complex) -> [Bin; 2] {
    let mut found = [[[0.0; LANES]; 2]; 2];
    for lane in 0..LANES {
        let ([a, b], [c, d]) = (at(&pair[0], lane), at(&pair[1], lane));
        // The spectra of even and of odd samples.
        let even = [0.5 * (a + c), 0.5 * (b - d)];
        let odd = times([0.5 * (b + d), 0.5 * (c - a)], turn);
        put(&mut found[0], lane, plus(even, odd));
        put(&mut found[1], lane, conjugate(minus(even, odd)));
    }
    found
}

/// The transpose of [`unfold`].
#[inline(always)]
fn fold(pair: &[Bin; 2], turn: Complex) -> [Bin; 2] {
    let back = conjugate(turn);
    let mut found = [[[0.0; LANES]; 2]; 2];
    for lane in 0..LANES {
        let (low, high) = (at(&pair[0], lane), conjugate(at(&pair[1], lane)));
        let [a, b] = plus(low, high);
        let [c, d] = times(minus(low, high), back);
        put(&mut found[0], lane, [0.5 * (a - d), 0.5 * (b + c)]);
        put(&mut found[1], lane, [0.5 * (a + d), 0.5 * (c - b)]);
    }
    found
}

#[inline(always)]
fn at(bin: &Bin, lane: usize) -> Complex {
    [bin[0][lane], bin[1][lane]]
}

#[inline(always)]
fn put(bin: &mut Bin, lane: usize, [re, im]: Complex) {
    (bin[0][lane], bin[1][lane]) = (re, im);
}

#[inline(always)]
fn plus([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a + c, b + d]
}

#[inline(always)]
fn minus([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a - c, b - d]
}

#[inline(always)]
fn times([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a * c - b * d, a * d + b * c]
}

#[inline(always)]
fn conjugate([re, im]: Complex) -> Complex {
    [re, -im]
}

/// The number times `i`.
#[inline(always)]
fn quarter_turn([re, im]: Complex) -> Complex {
    [-im, re]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers between -1 and 1 without a pattern.
    fn noise(index: usize) -> f32 {
        let x = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let x = (x ^ (x >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((x ^ (x >> 32)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn samples(length: usize) -> Vec<Sample> {
        let row = |n: usize| std::array::from_fn(|lane| noise(n * LANES + lane));
        (0..length).map(row).collect()
    }

    /// Cosine and sine of `2 pi k n / length`, with the product reduced first so that the angle is exact.
    fn turn(k: usize, n: usize, length: usize) -> [f64; 2] {
        let angle = TAU * (k * n % length) as f64 / length as f64;
        [angle.cos(), angle.sin()]
    }

    /// Against the sums that define the transform. Lengths whose last step is by 2, by 4, or alone.
    #[test]
    fn spectra_are_sums_of_turned_samples() {
        for length in [4, 8, 16, 32, 64, 256, 1024] {
            let tables = Fourier::new(length);
            let x = samples(length);
            let mut bins = vec![[[0.0; LANES]; 2]; tables.bins()];
            forward(&tables, &mut x.clone(), &mut bins);
            for (k, bin) in bins.iter().enumerate() {
                for lane in 0..LANES {
                    let mut sum = [0.0; 2];
                    for (n, row) in x.iter().enumerate() {
                        let [cos, sin] = turn(k, n, length);
                        sum[0] += f64::from(row[lane]) * cos;
                        sum[1] -= f64::from(row[lane]) * sin;
                    }
                    // Errors are those of float32 in proportion to the root of the energy.
                    let bound = 1e-6 * (length as f64).sqrt();
                    for part in 0..2 {
                        let error = (f64::from(bin[part][lane]) - sum[part]).abs();
                        assert!(error < bound, "{length}: bin {k}, lane {lane}: {error:e}");
                    }
                }
            }
            assert_eq!(bins[0][1], [0.0; LANES]);
            assert_eq!(bins[length / 2][1], [0.0; LANES]);
        }
    }

    /// Against its definition, with parts of the first and last bin that do not count.
    #[test]
    fn the_transpose_is_the_gradient_of_the_samples() {
        for length in [4, 8, 16, 32, 64, 256] {
            let tables = Fourier::new(length);
            let numbers = samples(2 * tables.bins());
            let bins: Vec<Bin> = numbers.as_chunks::<2>().0.to_vec();
            let mut found = vec![[f32::NAN; LANES]; length];
            transposed(&tables, &bins, &mut found);
            for (n, row) in found.iter().enumerate() {
                for (lane, found) in row.iter().enumerate() {
                    let mut sum = 0.0;
                    for (k, bin) in bins.iter().enumerate() {
                        let [cos, sin] = turn(k, n, length);
                        sum += f64::from(bin[0][lane]) * cos;
                        // The sine is 0 at the first and last bin, but for rounding.
                        if k != 0 && k != length / 2 {
                            sum -= f64::from(bin[1][lane]) * sin;
                        }
                    }
                    let error = (f64::from(*found) - sum).abs();
                    let bound = 1e-6 * (length as f64).sqrt();
                    assert!(
                        error < bound,
                        "{length}: sample {n}, lane {lane}: {error:e}"
                    );
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a signal of 12 samples")]
    fn other_lengths_are_refused() {
        Fourier::new(12);
    }
}
