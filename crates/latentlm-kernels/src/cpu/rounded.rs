//! Products with weights of bfloat16 and sums of float32, by the instruction that x86 processors with
//! AVX-512 BF16 have for it: it multiplies 32 pairs of numbers where float32's multiplies 16.

#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_mut))]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256bh, __m256i, __m512bh, __m512i, _mm512_cvtepu16_epi32, _mm512_cvtneps_pbh,
    _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_or_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32,
    _mm512_storeu_si512,
};

/// Columns of a panel: the sums of a row that one register holds.
const LANES: usize = 16;
/// Panels whose sums are in registers at once.
const PANELS: usize = 2;
/// Rows whose sums are: 12 rows of 2 panels leave 8 of the 32 registers for what is multiplied.
const ROWS: usize = 12;

/// Whether this processor has the instruction.
#[cfg(target_arch = "x86_64")]
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")
}

/// Whether this processor has the instruction.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn available() -> bool {
    false
}

/// A matrix rounded to bfloat16. The instruction sums over pairs of rows, so its numbers lie in panels
/// of 16 columns, in each of them pairs of rows, in each of these a pair of numbers a column.
pub(super) struct Rounded {
    panels: Vec<u32>,
    rows: usize,
    columns: usize,
}

impl Rounded {
    /// Rounds a matrix to the nearest, ties to even; a last row and last columns of zeros fill it up.
    ///
    /// # Panics
    /// If the processor lacks the instruction, or the numbers are not as many.
    #[allow(unsafe_code)]
    pub(super) fn new(numbers: &[f32], rows: usize, columns: usize) -> Self {
        assert_eq!(numbers.len(), rows * columns, "a {rows} x {columns} matrix");
        assert!(available(), "this processor has no products of bfloat16");
        let mut panels = vec![0; columns.div_ceil(LANES) * rows.div_ceil(2) * LANES];
        #[cfg(target_arch = "x86_64")]
        if columns > 0 {
            // SAFETY: the processor has both features.
            unsafe { lay_out(&mut panels, numbers, rows, columns) };
        }
        Self {
            panels,
            rows,
            columns,
        }
    }

    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// `out = x self` for rows `x`, which are rounded too; on this thread. `scratch` is memory for
    /// rounded rows.
    ///
    /// # Panics
    /// If the processor lacks the instruction, or sizes do not fit.
    #[allow(unsafe_code)]
    pub(super) fn product_over(&self, out: &mut [f32], x: &[f32], scratch: &mut Vec<u32>) {
        let count = out.len() / self.columns.max(1);
        assert_eq!(out.len(), count * self.columns, "the product's size");
        assert_eq!(x.len(), count * self.rows, "{count} rows of {}", self.rows);
        assert!(available(), "this processor has no products of bfloat16");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the processor has both features.
        unsafe {
            self.multiply(out, x, scratch);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = scratch;
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn multiply(&self, out: &mut [f32], x: &[f32], scratch: &mut Vec<u32>) {
        let pairs = self.rows.div_ceil(2);
        scratch.clear();
        scratch.resize(out.len() / self.columns.max(1) * pairs, 0);
        if pairs == 0 {
            return out.fill(0.0);
        }
        for (rounded, x) in scratch
            .chunks_exact_mut(pairs)
            .zip(x.chunks_exact(self.rows))
        {
            round(rounded, x);
        }
        let panels = self.panels.chunks(PANELS * pairs * LANES);
        for (index, panels) in panels.enumerate() {
            let column = index * PANELS * LANES;
            let rows = scratch.chunks(ROWS * pairs);
            for (x, out) in rows.zip(out.chunks_mut(ROWS * self.columns)) {
                let tile = Tile {
                    pairs,
                    panels,
                    column,
                    columns: self.columns,
                };
                match panels.len() == PANELS * pairs * LANES {
                    true => tile.rows::<PANELS>(x, out),
                    false => tile.rows::<1>(x, out),
                }
            }
        }
    }
}

/// Fills the panels of a [`Rounded`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(unsafe_code)]
fn lay_out(panels: &mut [u32], numbers: &[f32], rows: usize, columns: usize) {
    let pairs = rows.div_ceil(2);
    for (pair, both) in numbers.chunks(2 * columns).enumerate() {
        let (even, odd) = both.split_at(columns);
        for column in (0..columns).step_by(LANES) {
            let even = rounded(&even[column..]);
            let odd = rounded(odd.get(column..).unwrap_or_default());
            let both = _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd));
            let at = (column / LANES * pairs + pair) * LANES;
            let out = &mut panels[at..at + LANES];
            // SAFETY: sixteen numbers of four bytes are 64 bytes.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), both) };
        }
    }
}

/// The first sixteen of some numbers, or as many as there are and zeros, each rounded in the lower half
/// of four bytes.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(unsafe_code)]
fn rounded(x: &[f32]) -> __m512i {
    let mask = u32::MAX
        .checked_shr(32 - x.len().min(LANES) as u32)
        .unwrap_or(0) as u16;
    // SAFETY: the mask covers the numbers there are; sixteen of two bytes are 32 bytes.
    unsafe {
        let rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x.as_ptr()));
        _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(rounded))
    }
}

/// Rounds a row to pairs of bfloat16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(unsafe_code)]
fn round(out: &mut [u32], x: &[f32]) {
    for (out, x) in out.chunks_mut(LANES / 2).zip(x.chunks(LANES)) {
        let mask = u16::MAX >> (LANES - x.len());
        // SAFETY: the mask covers the numbers there are; sixteen of two bytes are eight of four.
        let pairs: [u32; LANES / 2] = unsafe {
            std::mem::transmute(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x.as_ptr())))
        };
        out.copy_from_slice(&pairs[..out.len()]);
    }
}

/// The same 64 bytes as 32 numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
#[allow(unsafe_code)]
fn pairs_of(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of which every pattern is a value.
    unsafe { std::mem::transmute(bits) }
}

/// Some columns of a product.
#[cfg(target_arch = "x86_64")]
struct Tile<'a> {
    /// Pairs of numbers a row.
    pairs: usize,
    panels: &'a [u32],
    /// The first of its columns among the product's.
    column: usize,
    columns: usize,
}

#[cfg(target_arch = "x86_64")]
impl Tile<'_> {
    /// At most [`ROWS`] rows of `P` panels.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn rows<const P: usize>(&self, x: &[u32], out: &mut [f32]) {
        match x.len() / self.pairs {
            12 => self.sums::<12, P>(x, out),
            8..12 => self.split::<8, P>(x, out),
            4..8 => self.split::<4, P>(x, out),
            3 => self.sums::<3, P>(x, out),
            2 => self.sums::<2, P>(x, out),
            1 => self.sums::<1, P>(x, out),
            rows => unreachable!("{rows} rows of at most {ROWS}"),
        }
    }

    /// `R` rows, and then the others.
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn split<const R: usize, const P: usize>(&self, x: &[u32], out: &mut [f32]) {
        let (first, rest) = x.split_at(R * self.pairs);
        let (out, rest_out) = out.split_at_mut(R * self.columns);
        self.sums::<R, P>(first, out);
        if !rest.is_empty() {
            self.rows::<P>(rest, rest_out);
        }
    }

    /// `R` rows of `P` panels, their sums in registers from beginning to end.
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[allow(unsafe_code)]
    fn sums<const R: usize, const P: usize>(&self, x: &[u32], out: &mut [f32]) {
        let pairs = self.pairs;
        assert!(x.len() == R * pairs && self.panels.len() == P * pairs * LANES);
        assert!(out.len() == R * self.columns && self.column < self.columns);
        let mut sums = [[_mm512_setzero_ps(); P]; R];
        for pair in 0..pairs {
            // SAFETY: `P` panels of `pairs` rows of sixteen lie in `panels`, `R` rows of `pairs` in
            // `x`: asserted.
            unsafe {
                let mut weights = [pairs_of(_mm512_setzero_si512()); P];
                for (panel, weights) in weights.iter_mut().enumerate() {
                    let at = self.panels.as_ptr().add((panel * pairs + pair) * LANES);
                    *weights = pairs_of(_mm512_loadu_si512(at.cast()));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let both = *x.get_unchecked(row * pairs + pair);
                    let both = pairs_of(_mm512_set1_epi32(both.cast_signed()));
                    for (sum, weights) in sums.iter_mut().zip(weights) {
                        *sum = _mm512_dpbf16_ps(*sum, both, weights);
                    }
                }
            }
        }
        for (out, sums) in out.chunks_exact_mut(self.columns).zip(sums) {
            let columns = out[self.column..].chunks_mut(LANES);
            for (out, sum) in columns.zip(sums) {
                let mask = u16::MAX >> (LANES - out.len());
                // SAFETY: the mask covers the columns there are.
                unsafe { _mm512_mask_storeu_ps(out.as_mut_ptr(), mask, sum) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::bf16;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    fn nearest(x: f32) -> f64 {
        bf16::from_f32(x).to_f64()
    }

    /// Every number of rows that tiles are made for, odd sizes, columns that fill no panel.
    #[test]
    fn products_are_those_of_rounded_numbers() {
        if !available() {
            return;
        }
        let mut scratch = vec![7; 3];
        let shapes = (1..=26).map(|rows| (rows, 6, 5));
        let more = [
            (13, 7, 48),
            (5, 33, 33),
            (48, 128, 320),
            (2, 1, 100),
            (3, 0, 4),
            (0, 4, 4),
        ];
        for (rows, inner, columns) in shapes.chain(more) {
            let (x, w) = (numbers(rows * inner, 0.7), numbers(inner * columns, 1.3));
            let mut got = vec![9.0; rows * columns];
            Rounded::new(&w, inner, columns).product_over(&mut got, &x, &mut scratch);
            for (index, got) in got.iter().enumerate() {
                let (row, column) = (index / columns, index % columns);
                let product = |k| nearest(x[row * inner + k]) * nearest(w[k * columns + column]);
                let expected: f64 = (0..inner).map(product).sum();
                // Sums of float32 of at most 128 products.
                let error = (f64::from(*got) - expected).abs();
                assert!(
                    error < 1e-5,
                    "{rows} x {inner} x {columns} at {index}: {got} for {expected}"
                );
            }
        }
    }
}
