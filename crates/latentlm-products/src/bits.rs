//! How weights of 8 and 4 bits lie in memory, and how float32 becomes them.
//!
//! A matrix is stored as a row for each output: all numbers of the row, then all its scales, in float16, one for each
//! group of 32 inputs. Zeros fill up a last group that is alone to two groups, a step. An int8 number is its byte. An int4
//! number `q` in -8..=7 is stored as `q + 8`: of a group's 16 bytes, the lower halves are its first 16 numbers and the
//! upper halves the others. So a group has the numbers and the scale of GGUF's `Q8_0` and `Q4_0`.

use half::f16;
use multiversion::multiversion;
use rayon::prelude::*;

use crate::stored::{LANES, total};

/// Inputs that share a scale.
pub(crate) const GROUP: usize = 32;
/// Groups of a step: the numbers of an AVX-512 register.
pub(crate) const PAIR: usize = 2;
/// Numbers of a step.
pub(crate) const STEP: usize = PAIR * GROUP;
/// Bytes of a scale.
pub(crate) const SCALE_BYTES: usize = 2;
/// Largest scale that float16 has.
const MOST: f32 = 65_504.0;
/// Added to a small float32 number, it leaves the nearest whole number in the lowest bits.
const NEAREST: f32 = 12_582_912.0; // 1.5 * 2^23
/// Factors of the int4 scale that are tried. With 1, the number of the largest magnitude is exact; smaller ones cut it
/// off and suit the others better; larger ones leave room for one of nearly that magnitude and the other sign.
const FACTORS: [f32; 6] = [1.0, 0.93, 0.86, 0.8, 1.07, 1.14];

/// Bits of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bits {
    /// int8, -127 to 127.
    Eight,
    /// int4, -8 to 7.
    Four,
}

impl Bits {
    /// Whether rows of `inputs` numbers are whole groups, as quantized rows must be.
    #[inline]
    pub fn fit(inputs: usize) -> bool {
        inputs > 0 && inputs.is_multiple_of(GROUP)
    }

    /// Bytes of a group's numbers.
    pub(crate) fn group_bytes(self) -> usize {
        match self {
            Self::Eight => GROUP,
            Self::Four => GROUP / 2,
        }
    }

    /// Offset that is added to a number so that it is not negative.
    pub(crate) fn offset(self) -> i32 {
        match self {
            Self::Eight => 128,
            Self::Four => 8,
        }
    }

    /// Where the scales begin in a row, in bytes.
    pub(crate) fn scales_at(self, inputs: usize) -> usize {
        inputs.div_ceil(STEP) * PAIR * self.group_bytes()
    }

    /// Bytes of a row with its scales.
    ///
    /// # Panics
    /// If a row is not whole groups of inputs.
    #[inline]
    pub fn row_bytes(self, inputs: usize) -> usize {
        assert!(Self::fit(inputs), "{inputs} inputs are no whole groups");
        inputs.div_ceil(STEP) * PAIR * (self.group_bytes() + SCALE_BYTES)
    }

    /// Quantizes rows to the nearest numbers, on all threads. int8 keeps the largest magnitude of a group; of int4 scales
    /// the one with the least squared error is chosen.
    ///
    /// # Shapes
    /// - `rows`: `[O, I]`
    ///
    /// # Panics
    /// If a row is not whole groups of inputs, or rows are not whole.
    pub fn quantize(self, rows: &[f32], inputs: usize) -> Vec<u8> {
        let line = self.row_bytes(inputs);
        assert_eq!(rows.len() % inputs, 0, "rows of {inputs} numbers");
        let mut packed = vec![0; rows.len() / inputs * line];
        packed
            .par_chunks_exact_mut(line)
            .zip(rows.par_chunks_exact(inputs))
            .for_each(|(packed, row)| {
                let (numbers, scales) = packed.split_at_mut(self.scales_at(inputs));
                match self {
                    Self::Eight => quantize_eight(numbers, scales, row),
                    Self::Four => quantize_four(numbers, scales, row),
                }
            });
        packed
    }

    /// The rows in float32.
    ///
    /// # Shapes
    /// - result: `[O, I]`
    ///
    /// # Panics
    /// If a row is not whole groups of inputs, or rows are not whole.
    pub fn widen(self, packed: &[u8], inputs: usize) -> Vec<f32> {
        let line = self.row_bytes(inputs);
        assert_eq!(packed.len() % line, 0, "rows of {line} bytes");
        let mut rows = Vec::with_capacity(packed.len() / line * inputs);
        for packed in packed.chunks_exact(line) {
            for group in 0..inputs / GROUP {
                let (low, high, scale) = match self {
                    Self::Eight => widened_group::<false>(packed, inputs, group),
                    Self::Four => widened_group::<true>(packed, inputs, group),
                };
                rows.extend(low.iter().chain(&high).map(|number| number * scale));
            }
        }
        rows
    }

    /// Numbers and scales of rows, each without gaps, as a file has them.
    ///
    /// # Panics
    /// If a row is not whole groups of inputs, or rows are not whole.
    pub fn split(self, packed: &[u8], inputs: usize) -> (Vec<u8>, Vec<u8>) {
        let line = self.row_bytes(inputs);
        assert_eq!(packed.len() % line, 0, "rows of {line} bytes");
        let groups = inputs / GROUP;
        let (mut numbers, mut scales) = (Vec::new(), Vec::new());
        for packed in packed.chunks_exact(line) {
            let (own_numbers, own_scales) = packed.split_at(self.scales_at(inputs));
            numbers.extend_from_slice(&own_numbers[..groups * self.group_bytes()]);
            scales.extend_from_slice(&own_scales[..groups * SCALE_BYTES]);
        }
        (numbers, scales)
    }

    /// The way back from [`split`](Self::split).
    ///
    /// # Panics
    /// If a row is not whole groups of inputs, or the numbers of bytes do not fit.
    pub fn join(self, numbers: &[u8], scales: &[u8], inputs: usize) -> Vec<u8> {
        let line = self.row_bytes(inputs);
        let groups = inputs / GROUP;
        let (number_bytes, scale_bytes) = (groups * self.group_bytes(), groups * SCALE_BYTES);
        let outputs = numbers.len() / number_bytes;
        assert_eq!(numbers.len(), outputs * number_bytes, "rows of numbers");
        assert_eq!(scales.len(), outputs * scale_bytes, "rows of scales");
        let mut packed = vec![0; outputs * line];
        let parts = numbers
            .chunks_exact(number_bytes)
            .zip(scales.chunks_exact(scale_bytes));
        for (packed, (numbers, scales)) in packed.chunks_exact_mut(line).zip(parts) {
            packed[..number_bytes].copy_from_slice(numbers);
            packed[self.scales_at(inputs)..][..scale_bytes].copy_from_slice(scales);
        }
        packed
    }
}

/// The nearest whole number, ties to even, of one between -2^22 and 2^22.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    (x + NEAREST) - NEAREST
}

/// [`nearest`] of a number that then fits a byte, as that byte.
#[inline(always)]
pub(crate) fn nearest_byte(x: f32) -> u8 {
    (x + NEAREST).to_bits() as u8
}

/// Converts a float16 scale to float32. Scales are finite.
// Not `f16::to_f32`: without the processor's instruction it has branches, which keep loops from being vectorized.
#[inline(always)]
pub(crate) fn widened(scale: u16) -> f32 {
    // The exponent moves to its place in float32; 2^112 is between the two biases.
    let magnitude = f32::from_bits(u32::from(scale & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | (u32::from(scale & 0x8000) << 16))
}

/// A scale as float16, and what numbers are multiplied with to be divided by it: zero for a scale that is zero.
#[inline(always)]
fn rounded_scale(scale: f32) -> (u16, f32) {
    let bits = f16::from_f32(scale.clamp(-MOST, MOST)).to_bits();
    let scale = widened(bits);
    (bits, if scale == 0.0 { 0.0 } else { 1.0 / scale })
}

/// The largest magnitude of whole lanes of numbers, found in halves that can be compared at once.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    let mut most = [0.0_f32; LANES];
    for x in x.chunks_exact(LANES) {
        for (most, x) in most.iter_mut().zip(x) {
            *most = larger(*most, x.abs());
        }
    }
    let mut half = LANES / 2;
    while half > 0 {
        let (low, high) = most.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low = larger(*low, *high);
        }
        half /= 2;
    }
    most[0]
}

/// The larger number: one comparison, where `f32::max` cares for rubbish (NaN).
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

/// Fills a row's numbers and scales in int8.
#[multiversion(targets = "simd")]
fn quantize_eight(numbers: &mut [u8], scales: &mut [u8], row: &[f32]) {
    let groups = numbers
        .chunks_exact_mut(GROUP)
        .zip(scales.chunks_exact_mut(SCALE_BYTES));
    for (x, (numbers, out)) in row.chunks_exact(GROUP).zip(groups) {
        let (scale, inverse) = rounded_scale(largest(x) / 127.0);
        out.copy_from_slice(&scale.to_le_bytes());
        for (number, x) in numbers.iter_mut().zip(x) {
            *number = nearest_byte((x * inverse).clamp(-127.0, 127.0));
        }
    }
}

/// Fills a row's numbers and scales in int4.
#[multiversion(targets = "simd")]
fn quantize_four(numbers: &mut [u8], scales: &mut [u8], row: &[f32]) {
    let groups = numbers
        .chunks_exact_mut(GROUP / 2)
        .zip(scales.chunks_exact_mut(SCALE_BYTES));
    for (x, (numbers, out)) in row.chunks_exact(GROUP).zip(groups) {
        let most = x.iter().fold(
            0.0,
            |most: f32, x| {
                if x.abs() > most.abs() { *x } else { most }
            },
        );
        let mut best = rounded_scale(most / -8.0);
        let mut least = f32::INFINITY;
        for factor in FACTORS {
            let (scale, inverse) = rounded_scale(most / -8.0 * factor);
            let error = squared_error(x, scale, inverse);
            if error < least {
                (best, least) = ((scale, inverse), error);
            }
        }
        let (scale, inverse) = best;
        out.copy_from_slice(&scale.to_le_bytes());
        let (first, second) = x.split_at(GROUP / 2);
        for (number, (low, high)) in numbers.iter_mut().zip(first.iter().zip(second)) {
            let low = nearest_byte((low * inverse).clamp(-8.0, 7.0) + 8.0);
            let high = nearest_byte((high * inverse).clamp(-8.0, 7.0) + 8.0);
            *number = low | (high << 4);
        }
    }
}

/// Squared error of a group that is rounded to int4 with a scale.
#[inline(always)]
fn squared_error(x: &[f32], scale: u16, inverse: f32) -> f32 {
    let scale = widened(scale);
    let mut errors = [0.0_f32; LANES];
    for x in x.chunks_exact(LANES) {
        for (sum, x) in errors.iter_mut().zip(x) {
            let error = x - nearest((x * inverse).clamp(-8.0, 7.0)) * scale;
            *sum += error * error;
        }
    }
    total(errors)
}

/// A group of a row of weights: its first 16 numbers, the others, and its scale.
#[inline(always)]
pub(crate) fn widened_group<const FOUR: bool>(
    row: &[u8],
    inputs: usize,
    group: usize,
) -> ([f32; LANES], [f32; LANES], f32) {
    let bits = if FOUR { Bits::Four } else { Bits::Eight };
    let bytes = &row[group * bits.group_bytes()..][..bits.group_bytes()];
    let (mut low, mut high) = ([0.0; LANES], [0.0; LANES]);
    if FOUR {
        for ((low, high), byte) in low.iter_mut().zip(&mut high).zip(bytes) {
            *low = (i32::from(byte & 15) - 8) as f32;
            *high = (i32::from(byte >> 4) - 8) as f32;
        }
    } else {
        let (first, second) = bytes.split_at(LANES);
        for ((low, high), (a, b)) in low.iter_mut().zip(&mut high).zip(first.iter().zip(second)) {
            *low = f32::from(a.cast_signed());
            *high = f32::from(b.cast_signed());
        }
    }
    let scale = &row[bits.scales_at(inputs) + group * SCALE_BYTES..][..SCALE_BYTES];
    (low, high, widened(u16::from_le_bytes([scale[0], scale[1]])))
}
