//! Products with weights of 8 or 4 bits, see [`Bits`]: a number of the product is the inner product of two rows, as with
//! [`Stored`](crate::Stored).
//!
//! The inner products of one row do not depend on the other rows, nor on threads. Where the processor has tiles, those of a
//! position alone and of the same in a sequence or a batch of [`TILE_ROWS`] or more differ: the few are rounded to int8, the
//! many to bfloat16.

#![cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, unused_variables, reason = "one of four ways is left")
)]

use multiversion::multiversion;
use rayon::prelude::*;

#[cfg(target_arch = "x86_64")]
use crate::amx;
use crate::bits::{Bits, GROUP, largest, nearest_byte, widened_group};
use crate::blocks::{OUTPUTS, OutputRows, threads_for};
#[cfg(target_arch = "x86_64")]
use crate::integers;
use crate::rows::{RoundedRow, Rows};
use crate::stored::{LANES, total};

/// Groups of inputs that all have smaller magnitudes are rounded to zeros: their inverse scale would be infinite.
const LEAST: f32 = 1e-36;

/// Fewest rows for tiles, which round every weight to bfloat16 first. With half of a tile's rows, that and the product would
/// take about as long as VNNI.
const TILE_ROWS: usize = 16;

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Many rows by the processor's tiles, with both factors rounded to bfloat16; few as [`Self::Vnni`].
    Tiles,
    /// By AVX-512 VNNI, with the other factor rounded to int8, a scale for each group.
    Vnni,
    /// By AVX2, with the same sums.
    Avx2,
    /// In float32, on any processor.
    Portable,
}

impl Way {
    /// Whether this processor has the instructions.
    fn is_there(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles => amx::available() && integers::has_vnni(),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni => integers::has_vnni(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => integers::has_avx2(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Tiles | Self::Vnni | Self::Avx2 => false,
            Self::Portable => true,
        }
    }

    fn best() -> Self {
        let mut fast = [Self::Tiles, Self::Vnni, Self::Avx2].into_iter();
        fast.find(|way| way.is_there()).unwrap_or(Self::Portable)
    }
}

/// Name of the instructions that multiply many rows on this processor.
pub(crate) fn instructions() -> &'static str {
    match Way::best() {
        Way::Tiles => "AMX, rounded to bfloat16",
        Way::Vnni => "AVX-512 VNNI",
        Way::Avx2 => "AVX2",
        Way::Portable => "float32 instructions",
    }
}

/// A matrix `[inputs, outputs]` of quantized numbers, stored as `[outputs, inputs]`.
#[derive(Debug, Clone, Copy)]
pub struct Quantized<'a> {
    rows: Rows<'a>,
    outputs: usize,
    way: Way,
}

impl<'a> Quantized<'a> {
    /// Takes a matrix where it lies: rows as [`Bits::quantize`] makes them.
    ///
    /// # Panics
    /// If a row is not whole groups of inputs, or the number of bytes does not fit.
    pub fn new(packed: &'a [u8], bits: Bits, inputs: usize, outputs: usize) -> Self {
        let line = bits.row_bytes(inputs);
        assert_eq!(packed.len(), outputs * line, "a matrix's bytes");
        Self {
            rows: Rows {
                bytes: packed,
                bits,
                inputs,
                line,
            },
            outputs,
            way: Way::best(),
        }
    }

    /// Inputs and outputs: rows and columns of the matrix.
    #[inline]
    pub fn sizes(&self) -> [usize; 2] {
        [self.rows.inputs, self.outputs]
    }

    /// `out = x self` for rows `x`: on this thread if `alone`, or else on all if that pays. A processor with AVX-512 VNNI
    /// or AVX2 multiplies rows that are rounded to int8, one with AMX 16 rows or more with both factors rounded to bfloat16;
    /// `scratch` is memory for them. Others multiply in float32.
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
        let threads = threads_for(count * inputs * outputs, alone);
        let way = match self.way {
            Way::Tiles if count < TILE_ROWS => Way::Vnni,
            way => way,
        };
        let left = match way {
            #[cfg(target_arch = "x86_64")]
            Way::Tiles => {
                tiles::lay_out(scratch, x, inputs, threads > 1);
                Left::Tiles(scratch)
            }
            #[cfg(not(target_arch = "x86_64"))]
            Way::Tiles => unreachable!("another processor has no such instructions"),
            Way::Vnni | Way::Avx2 => {
                round(scratch, x, self.rows, threads > 1);
                Left::Rounded(scratch, way)
            }
            Way::Portable => Left::Exact(x),
        };
        let (row_bytes, unit) = match way {
            #[cfg(target_arch = "x86_64")]
            Way::Tiles => (tiles::ROW_BYTES, tiles::UNIT),
            _ => (self.rows.line, OUTPUTS),
        };
        let matrix = OutputRows {
            outputs,
            row_bytes,
            unit,
            threads,
        };
        matrix.each_block(out, |first, block| {
            left.multiply(self.rows.without(first), block);
        });
    }
}

/// Rows that are multiplied with the weights.
#[derive(Clone, Copy)]
enum Left<'a> {
    /// Rounded to bfloat16 and laid out, see [`tiles::lay_out`].
    #[cfg(target_arch = "x86_64")]
    Tiles(&'a [u32]),
    /// Rounded to int8, see [`round`].
    Rounded(&'a [u32], Way),
    /// float32, not rounded.
    Exact(&'a [f32]),
}

impl Left<'_> {
    /// Inner products of all rows with the first of `weights`, as many as a row of `out` has numbers.
    fn multiply(self, weights: Rows<'_>, out: &mut [&mut [f32]]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Tiles(x) => tiles::multiply(weights, x, out),
            #[cfg(target_arch = "x86_64")]
            Self::Rounded(x, Way::Vnni) => integers::multiply_vnni(weights, x, out),
            #[cfg(target_arch = "x86_64")]
            Self::Rounded(x, _) => integers::multiply_avx2(weights, x, out),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Rounded(..) => unreachable!("another processor has no such instructions"),
            Self::Exact(x) => multiply_portably(weights, x, out),
        }
    }
}

/// Rounds rows to int8, for products with such weights. Zeros fill each row up to whole steps.
fn round(out: &mut Vec<u32>, x: &[f32], weights: Rows<'_>, parallel: bool) {
    // Rows that one thread rounds at least.
    const ROWS_A_TASK: usize = 16;
    let row = RoundedRow::of(weights.inputs);
    let offset = weights.bits.offset();
    out.clear();
    out.resize(x.len() / weights.inputs * row.line, 0);
    let run = |(out, x): (&mut [u32], &[f32])| round_row(out, x, row, offset);
    if parallel {
        out.par_chunks_exact_mut(row.line)
            .zip(x.par_chunks_exact(weights.inputs))
            .with_min_len(ROWS_A_TASK)
            .for_each(run);
    } else {
        out.chunks_exact_mut(row.line)
            .zip(x.chunks_exact(weights.inputs))
            .for_each(run);
    }
}

/// Rounds a row.
#[multiversion(targets = "simd")]
fn round_row(out: &mut [u32], x: &[f32], row: RoundedRow, offset: i32) {
    const FOURS: usize = GROUP / 4;
    let (numbers, rest) = out.split_at_mut(row.corrections);
    let (corrections, scales) = rest.split_at_mut(row.scales - row.corrections);
    let groups = numbers
        .chunks_exact_mut(FOURS)
        .zip(corrections.chunks_exact_mut(FOURS))
        .zip(scales);
    for (x, ((numbers, corrections), scale)) in x.chunks_exact(GROUP).zip(groups) {
        let most = largest(x);
        let inverse = if most < LEAST { 0.0 } else { 127.0 / most };
        let mut bytes = [0_u8; GROUP];
        for (byte, x) in bytes.iter_mut().zip(x) {
            *byte = nearest_byte(x * inverse);
        }
        // Rubbish (NaN) in a group, or infinity, makes its scale rubbish and so the products.
        let rubbish = x.iter().fold(false, |found, x| found | !x.is_finite());
        let factor = if rubbish { f32::NAN } else { most / 127.0 };
        *scale = factor.to_bits();
        let fours = bytes.chunks_exact(4).zip(numbers).zip(corrections);
        for ((four, number), correction) in fours {
            let four = [four[0], four[1], four[2], four[3]];
            *number = u32::from_le_bytes(four);
            let sum: i32 = four.iter().map(|x| i32::from(x.cast_signed())).sum();
            *correction = (-offset * sum).cast_unsigned();
        }
    }
}

/// [`Left::multiply`] for exact rows, in tiles of two rows and two outputs: each number of a factor that is loaded
/// serves two products.
#[multiversion(targets = "simd")]
fn multiply_portably(weights: Rows<'_>, x: &[f32], out: &mut [&mut [f32]]) {
    match weights.bits {
        Bits::Eight => multiply_tiles::<false>(weights, x, out),
        Bits::Four => multiply_tiles::<true>(weights, x, out),
    }
}

#[inline(always)]
fn multiply_tiles<const FOUR: bool>(weights: Rows<'_>, x: &[f32], out: &mut [&mut [f32]]) {
    let outputs = out.first().map_or(0, |row| row.len());
    for (x, out) in x.chunks(2 * weights.inputs).zip(out.chunks_mut(2)) {
        for first in (0..outputs).step_by(2) {
            let weights = weights.without(first);
            match (out.len(), (outputs - first).min(2)) {
                (2, 2) => inner_products::<FOUR, 2, 2>(weights, x, out, first),
                (2, _) => inner_products::<FOUR, 2, 1>(weights, x, out, first),
                (_, 2) => inner_products::<FOUR, 1, 2>(weights, x, out, first),
                _ => inner_products::<FOUR, 1, 1>(weights, x, out, first),
            }
        }
    }
}

/// `R` rows of `x` with `O` rows of weights, from `first` on in `out`. Each sum adds the same products in the same
/// order, whatever `R` and `O` are.
#[inline(always)]
fn inner_products<const FOUR: bool, const R: usize, const O: usize>(
    weights: Rows<'_>,
    x: &[f32],
    out: &mut [&mut [f32]],
    first: usize,
) {
    let inputs = weights.inputs;
    let mut sums = [[[0.0_f32; LANES]; O]; R];
    for group in 0..inputs / GROUP {
        let mut exact = [([0.0_f32; LANES], [0.0_f32; LANES], 0.0_f32); O];
        for (output, exact) in exact.iter_mut().enumerate() {
            let row = &weights.bytes[output * weights.line..][..weights.line];
            *exact = widened_group::<FOUR>(row, inputs, group);
        }
        for (row, sums) in sums.iter_mut().enumerate() {
            let (x_low, x_high) = x[row * inputs + group * GROUP..][..GROUP].split_at(LANES);
            for (sums, (w_low, w_high, scale)) in sums.iter_mut().zip(&exact) {
                let low = x_low.iter().zip(w_low);
                let high = x_high.iter().zip(w_high);
                for (sum, ((x, w), (x_high, w_high))) in sums.iter_mut().zip(low.zip(high)) {
                    *sum += (x * w + x_high * w_high) * scale;
                }
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (output, sums) in sums.into_iter().enumerate() {
            out[first + output] = total(sums);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod tiles;

#[cfg(test)]
mod tests;
