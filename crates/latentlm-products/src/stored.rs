//! Products with weights that stay in bfloat16 where a model's file was read to. A file stores a row of inputs for
//! each output, and so does [`Stored`]: a number of the product is the inner product of two contiguous rows.
//!
//! The inner products of one row do not depend on the other rows, nor on threads. Where the processor has tiles, their order
//! of sums is another one than that of a few rows: then a position gets the same numbers alone, in a batch and in a whole
//! sequence but for the rounding of float32 sums.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unused_variables, reason = "one of two ways is missing")
)]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m128, __m512, _MM_HINT_T1, _mm_add_ps, _mm_prefetch, _mm512_add_ps, _mm512_castpd_ps,
    _mm512_castps_pd, _mm512_dpbf16_ps, _mm512_extractf32x4_ps, _mm512_loadu_si512,
    _mm512_maskz_loadu_epi16, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_unpackhi_pd,
    _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use half::bf16;
use multiversion::multiversion;
#[cfg(target_arch = "x86_64")]
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::blocks::{OUTPUTS, OutputRows, threads_for};
use crate::processor::has_bf16_products;
#[cfg(target_arch = "x86_64")]
use crate::rounded;

/// Numbers of a row that one multiplication takes: bfloat16 numbers in a register.
const STEP: usize = 32;
/// Pairs of them.
const PAIRS: usize = STEP / 2;
// The sums of 6 rows and 4 outputs take 24 of 32 registers. A step loads 4 lines of weights and 6 of inputs for 24
// multiplications.
/// Rows whose sums are kept in registers at the same time.
const ROWS: usize = 6;
/// Fewest rows for tiles. With fewer, a product takes as long as reading the weights, and registers read them faster: 29 GB/s
/// on two cores, tiles 26.
const TILE_ROWS: usize = 4;
/// Independent sums of one inner product in the portable loops: those of an AVX-512 register.
pub(crate) const LANES: usize = 16;

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By the processor's tiles, which want the other factor rounded to bfloat16 too.
    Tiles,
    /// By the processor's bfloat16 instruction of AVX-512, which wants the same.
    Instruction,
    /// In float32, on any processor.
    Portable,
}

impl Way {
    /// The fastest for rows of so many inputs.
    fn best(inputs: usize) -> Self {
        if has_tiles(inputs) {
            Self::Tiles
        } else if has_bf16_products() {
            Self::Instruction
        } else {
            Self::Portable
        }
    }
}

/// Name of the instructions that multiply many rows on this processor.
pub(crate) fn instructions() -> &'static str {
    match Way::best(STEP) {
        Way::Tiles => "AMX",
        Way::Instruction => "AVX-512 BF16",
        Way::Portable => "float32 instructions",
    }
}

/// Whether this processor has tiles that a row of so many inputs fills.
fn has_tiles(inputs: usize) -> bool {
    #[cfg(target_arch = "x86_64")]
    return inputs > 0 && inputs.is_multiple_of(STEP) && amx::available();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// A matrix `[inputs, outputs]` of bfloat16 numbers, stored as `[outputs, inputs]`.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// `[outputs, inputs]`
    rows: &'a [bf16],
    inputs: usize,
    outputs: usize,
    way: Way,
}

impl<'a> Stored<'a> {
    /// Takes a matrix where it lies.
    ///
    /// # Shapes
    /// - `rows`: `[outputs, inputs]`
    ///
    /// # Panics
    /// If the number of numbers does not fit.
    pub fn new(rows: &'a [bf16], inputs: usize, outputs: usize) -> Self {
        assert_eq!(rows.len(), inputs * outputs, "a matrix's numbers");
        Self {
            rows,
            inputs,
            outputs,
            way: Way::best(inputs),
        }
    }

    /// Inputs and outputs: rows and columns of the matrix.
    #[inline]
    pub fn sizes(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// `out = x self` for rows `x`: on this thread if `alone`, or else on all if that pays. `scratch` is memory for
    /// rounded rows.
    ///
    /// # Shapes
    /// - `x`: `[N, I]`
    /// - `out`: `[N, O]`
    ///
    /// # Panics
    /// If sizes do not fit each other.
    pub fn product_over(&self, out: &mut [f32], x: &[f32], scratch: &mut Vec<u32>, alone: bool) {
        let [inputs, outputs] = self.sizes();
        let count = out.len() / outputs.max(1);
        assert_eq!(out.len(), count * outputs, "the product's size");
        if out.is_empty() {
            return;
        }
        assert_eq!(x.len(), count * inputs, "{count} rows of {inputs}");
        if inputs == 0 {
            return out.fill(0.0);
        }
        let threads = threads_for(count * inputs * outputs, alone);
        let way = match self.way {
            Way::Tiles if count < TILE_ROWS => Way::Instruction,
            way => way,
        };
        let left = match way {
            #[cfg(target_arch = "x86_64")]
            Way::Tiles => {
                tiles::lay_out(scratch, x, inputs, threads > 1);
                Left::Tiles(scratch)
            }
            #[cfg(target_arch = "x86_64")]
            Way::Instruction => {
                round(scratch, x, inputs, threads > 1);
                Left::Rounded(scratch)
            }
            #[cfg(not(target_arch = "x86_64"))]
            Way::Tiles | Way::Instruction => {
                unreachable!("another processor has no such instruction")
            }
            Way::Portable => Left::Exact(x),
        };
        let matrix = OutputRows {
            outputs,
            row_bytes: size_of::<bf16>() * inputs,
            unit: match way {
                #[cfg(target_arch = "x86_64")]
                Way::Tiles => amx::WIDTH,
                _ => OUTPUTS,
            },
            threads,
        };
        matrix.each_block(out, |first, block| {
            left.multiply(&self.rows[first * inputs..], inputs, block);
        });
    }
}

/// Rows that are multiplied with the weights.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// Rounded to bfloat16 and laid out, see [`tiles::lay_out`].
    #[cfg(target_arch = "x86_64")]
    Tiles(&'a [u32]),
    /// Rounded to bfloat16, see [`round`].
    #[cfg(target_arch = "x86_64")]
    Rounded(&'a [u32]),
    /// float32, not rounded.
    Exact(&'a [f32]),
}

impl Left<'_> {
    /// Inner products of all rows with the first rows of `weights`, as many as a row of `out` has numbers.
    #[allow(unsafe_code)]
    fn multiply(self, weights: &[bf16], inputs: usize, out: &mut [&mut [f32]]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(x) => tiles::multiply(weights, inputs, x, out),
            #[cfg(target_arch = "x86_64")]
            Self::Rounded(x) => {
                assert!(
                    has_bf16_products(),
                    "this processor has no products of bfloat16"
                );
                // SAFETY: the processor has all features that `available` asks for.
                unsafe { multiply(weights, inputs, x, out) }
            }
            Self::Exact(x) => multiply_portably(weights, inputs, x, out),
        }
    }
}

/// Rounds rows of `inputs` numbers to bfloat16, two numbers in each `u32`. Zeros fill each row up to whole steps.
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
fn round(out: &mut Vec<u32>, x: &[f32], inputs: usize, parallel: bool) {
    // Rows that one thread rounds at least.
    const ROWS_A_TASK: usize = 16;
    assert!(
        has_bf16_products(),
        "this processor has no products of bfloat16"
    );
    let line = inputs.div_ceil(STEP) * PAIRS;
    out.clear();
    out.resize(x.len() / inputs * line, 0);
    let round_row = |(out, x): (&mut [u32], &[f32])| {
        // SAFETY: the processor has all features that `available` asks for.
        unsafe { rounded::round(out, x) };
    };
    if parallel {
        out.par_chunks_exact_mut(line)
            .zip(x.par_chunks_exact(inputs))
            .with_min_len(ROWS_A_TASK)
            .for_each(round_row);
    } else {
        out.chunks_exact_mut(line)
            .zip(x.chunks_exact(inputs))
            .for_each(round_row);
    }
}

/// [`Left::multiply`] for rounded rows.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn multiply(weights: &[bf16], inputs: usize, x: &[u32], out: &mut [&mut [f32]]) {
    let line = inputs.div_ceil(STEP) * PAIRS;
    let outputs = out.first().map_or(0, |row| row.len());
    for (x, out) in x.chunks(ROWS * line).zip(out.chunks_mut(ROWS)) {
        let mut first = 0;
        while first < outputs {
            let tile = Tile {
                weights: &weights[first * inputs..],
                inputs,
                x,
                first,
            };
            if outputs - first >= OUTPUTS {
                tile.rows::<OUTPUTS>(out);
                first += OUTPUTS;
            } else {
                tile.rows::<1>(out);
                first += 1;
            }
        }
    }
}

/// At most [`ROWS`] rows and [`OUTPUTS`] outputs of a product.
#[cfg(target_arch = "x86_64")]
struct Tile<'a> {
    /// Rows of weights, from the tile's first output on.
    weights: &'a [bf16],
    /// Length of these rows.
    inputs: usize,
    /// The tile's rows of the left factor, rounded.
    x: &'a [u32],
    /// First output of the tile in a row of the product.
    first: usize,
}

#[cfg(target_arch = "x86_64")]
impl Tile<'_> {
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn rows<const O: usize>(&self, out: &mut [&mut [f32]]) {
        match out.len() {
            1 => self.sums::<1, O>(out),
            2 => self.sums::<2, O>(out),
            3 => self.sums::<3, O>(out),
            4 => self.sums::<4, O>(out),
            5 => self.sums::<5, O>(out),
            6 => self.sums::<6, O>(out),
            rows => unreachable!("{rows} rows of at most {ROWS}"),
        }
    }

    /// `R` rows and `O` outputs. Both are constants, so that all sums stay in registers until the end. Each sum adds
    /// the same products in the same order, whatever `R` and `O` are.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[allow(unsafe_code)]
    fn sums<const R: usize, const O: usize>(&self, out: &mut [&mut [f32]]) {
        let inputs = self.inputs;
        let steps = inputs.div_ceil(STEP);
        assert!(self.weights.len() >= O * inputs && out.len() == R);
        assert!(self.x.len() == R * steps * PAIRS && steps > 0);
        // The numbers of the last step.
        let last = u32::MAX >> (steps * STEP - inputs);
        let mut sums = [[_mm512_setzero_ps(); O]; R];
        for step in 0..steps {
            let mask = if step + 1 == steps { last } else { u32::MAX };
            // SAFETY: `weights` has `O` rows of `inputs` numbers, and the mask leaves out what lies behind the last
            // step of a row; `x` has `R` rows of `steps` registers: all asserted. A prefetch reads nothing, wherever
            // it points.
            unsafe {
                let mut weights = [rounded::pairs_of(_mm512_setzero_si512()); O];
                for (output, weights) in weights.iter_mut().enumerate() {
                    let at = self.weights.as_ptr().add(output * inputs + step * STEP);
                    // The next tile's rows begin where these end: their memory is asked for while these are
                    // multiplied.
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(O * inputs).cast());
                    *weights = rounded::pairs_of(_mm512_maskz_loadu_epi16(mask, at.cast()));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let at = self.x.as_ptr().add((row * steps + step) * PAIRS);
                    let x = rounded::pairs_of(_mm512_loadu_si512(at.cast()));
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = _mm512_dpbf16_ps(*sum, x, weights);
                    }
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            let mut all = [_mm512_setzero_ps(); OUTPUTS];
            all[..O].copy_from_slice(&sums);
            out[self.first..][..O].copy_from_slice(&totals(all)[..O]);
        }
    }
}

/// The sums of the sixteen numbers of each register. Together they take half the instructions that one after the
/// other takes, which counts where rows are short.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
pub(crate) fn totals([a, b, c, d]: [__m512; OUTPUTS]) -> [f32; OUTPUTS] {
    // In each quarter of a register: a0 + a2, b0 + b2, a1 + a3, b1 + b3.
    let ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    let cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    // In each quarter: one number of a, b, c and d.
    let evens = _mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd));
    let odds = _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd));
    let quarters = _mm512_add_ps(evens, odds);
    let first = _mm_add_ps(
        _mm512_extractf32x4_ps::<0>(quarters),
        _mm512_extractf32x4_ps::<1>(quarters),
    );
    let second = _mm_add_ps(
        _mm512_extractf32x4_ps::<2>(quarters),
        _mm512_extractf32x4_ps::<3>(quarters),
    );
    // SAFETY: both are four numbers of four bytes.
    unsafe { std::mem::transmute::<__m128, [f32; OUTPUTS]>(_mm_add_ps(first, second)) }
}

/// [`Left::multiply`] for exact rows, in tiles of two rows and two outputs: each number of a factor that is loaded
/// serves two products.
#[multiversion(targets = "simd")]
fn multiply_portably(weights: &[bf16], inputs: usize, x: &[f32], out: &mut [&mut [f32]]) {
    let outputs = out.first().map_or(0, |row| row.len());
    for (x, out) in x.chunks(2 * inputs).zip(out.chunks_mut(2)) {
        for first in (0..outputs).step_by(2) {
            let weights = &weights[first * inputs..];
            match (out.len(), (outputs - first).min(2)) {
                (2, 2) => inner_products::<2, 2>(weights, inputs, x, out, first),
                (2, _) => inner_products::<2, 1>(weights, inputs, x, out, first),
                (_, 2) => inner_products::<1, 2>(weights, inputs, x, out, first),
                _ => inner_products::<1, 1>(weights, inputs, x, out, first),
            }
        }
    }
}

/// `R` rows of `x` with `O` rows of weights, from `first` on in `out`. Each sum adds the same products in the same
/// order, whatever `R` and `O` are.
#[inline(always)]
fn inner_products<const R: usize, const O: usize>(
    weights: &[bf16],
    inputs: usize,
    x: &[f32],
    out: &mut [&mut [f32]],
    first: usize,
) {
    let whole = inputs - inputs % LANES;
    let mut sums = [[[0.0_f32; LANES]; O]; R];
    for at in (0..whole).step_by(LANES) {
        let mut exact = [[0.0_f32; LANES]; O];
        for (output, exact) in exact.iter_mut().enumerate() {
            let weights = &weights[output * inputs + at..][..LANES];
            for (exact, weight) in exact.iter_mut().zip(weights) {
                *exact = widened(*weight);
            }
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let x = &x[row * inputs + at..][..LANES];
            for (sums, weights) in sums.iter_mut().zip(&exact) {
                for ((sum, x), weight) in sums.iter_mut().zip(x).zip(weights) {
                    *sum += x * weight;
                }
            }
        }
    }
    for (row, (out, sums)) in out.iter_mut().zip(&sums).enumerate() {
        let x = &x[row * inputs + whole..][..inputs - whole];
        for (output, sums) in sums.iter().enumerate() {
            let weights = &weights[output * inputs + whole..][..inputs - whole];
            let mut sum = total(*sums);
            for (x, weight) in x.iter().zip(weights) {
                sum += x * widened(*weight);
            }
            out[first + output] = sum;
        }
    }
}

/// The sum of all lanes, in halves that can be added at once.
#[inline(always)]
pub(crate) fn total(mut sums: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = sums.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
        half /= 2;
    }
    sums[0]
}

/// Converts bfloat16 to float32, whose upper half it is.
// Not `bf16::to_f32`: its branch for NaN keeps loops from being vectorized.
#[inline(always)]
pub(crate) fn widened(x: bf16) -> f32 {
    f32::from_bits(u32::from(x.to_bits()) << 16)
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod tiles;

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::ThreadPoolBuilder;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    /// Weights `[outputs, inputs]`.
    fn weights(inputs: usize, outputs: usize) -> Vec<bf16> {
        let values = numbers(inputs * outputs, 1.3);
        values.into_iter().map(bf16::from_f32).collect()
    }

    /// The ways that this processor has for rows of so many inputs.
    fn ways(inputs: usize) -> Vec<Way> {
        let mut ways = vec![Way::Portable];
        if has_bf16_products() {
            ways.push(Way::Instruction);
        }
        if has_tiles(inputs) {
            ways.push(Way::Tiles);
        }
        ways
    }

    /// The matrix multiplied in each of the [`ways`].
    fn stored(rows: &[bf16], inputs: usize, outputs: usize) -> Vec<Stored<'_>> {
        let with = |way| Stored {
            way,
            ..Stored::new(rows, inputs, outputs)
        };
        ways(inputs).into_iter().map(with).collect()
    }

    fn product(weight: &Stored<'_>, x: &[f32], rows: usize, alone: bool) -> Vec<f32> {
        let mut out = vec![9.0; rows * weight.sizes()[1]];
        weight.product_over(&mut out, x, &mut vec![7; 3], alone);
        out
    }

    /// All numbers of rows and outputs that there are functions for, odd sizes, several blocks, nothing at all.
    const SHAPES: [[usize; 3]; 20] = [
        [1, 6, 5],
        [2, 31, 4],
        [3, 32, 1],
        [4, 33, 7],
        [5, 64, 8],
        [6, 97, 3],
        [7, 16, 9],
        [13, 40, 22],
        [1, 1000, 301],
        [25, 127, 130],
        [1, 64, 70],
        [16, 96, 32],
        [17, 32, 45],
        [33, 160, 64],
        [40, 64, 301],
        [70, 320, 31],
        [2, 1, 2],
        [0, 4, 4],
        [3, 0, 4],
        [3, 4, 0],
    ];

    #[test]
    fn products_are_those_of_exact_sums() {
        for [rows, inputs, outputs] in SHAPES {
            let w = weights(inputs, outputs);
            let x = numbers(rows * inputs, 0.7);
            for weight in stored(&w, inputs, outputs) {
                assert_eq!(weight.sizes(), [inputs, outputs]);
                let got = product(&weight, &x, rows, true);
                assert_eq!(product(&weight, &x, rows, false), got);
                let left = |k: usize| match weight.way {
                    Way::Tiles | Way::Instruction => bf16::from_f32(x[k]).to_f64(),
                    Way::Portable => f64::from(x[k]),
                };
                for (index, got) in got.iter().enumerate() {
                    let (row, output) = (index / outputs, index % outputs);
                    let products = (0..inputs)
                        .map(|k| left(row * inputs + k) * w[output * inputs + k].to_f64());
                    let size: f64 = products.clone().map(f64::abs).sum();
                    let expected: f64 = products.sum();
                    // In a float32 sum of n products, in any order, each product takes part in at most n + 1
                    // roundings of half a unit, 2^-24.
                    let bound = (inputs + 2) as f64 * size / f64::from(1 << 24);
                    let error = (f64::from(*got) - expected).abs();
                    let way = weight.way;
                    assert!(
                        error <= bound,
                        "{way:?}: {rows} x {inputs} x {outputs} at {index}: {got} for {expected}"
                    );
                }
            }
        }
    }

    /// A row alone or in a few, in every batch, on one thread and on several.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours_nor_on_threads() {
        for (rows, inputs, outputs) in [(14, 203, 259), (18, 192, 250)] {
            let x = numbers(rows * inputs, 0.7);
            for weight in stored(&weights(inputs, outputs), inputs, outputs) {
                let alone = x.chunks(inputs).flat_map(|x| product(&weight, x, 1, true));
                let alone: Vec<f32> = alone.collect();
                let together = product(&weight, &x, rows, true);
                for threads in [1, 2, 5] {
                    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
                    let pool = pool.expect("a few threads");
                    for count in 1..=rows {
                        let x = &x[..count * inputs];
                        let got = pool.install(|| product(&weight, x, count, false));
                        let way = weight.way;
                        let expected = if way == Way::Tiles && count >= TILE_ROWS {
                            &together
                        } else {
                            &alone
                        };
                        assert_eq!(got, expected[..count * outputs], "{way:?}, {count} rows");
                    }
                }
            }
        }
    }

    #[test]
    fn widened_numbers_are_the_same() {
        for x in [0.0, -1.5, 3.0e38, 1.0e-40, f32::INFINITY] {
            let x = bf16::from_f32(x);
            assert_eq!(widened(x), x.to_f32());
        }
    }
}
