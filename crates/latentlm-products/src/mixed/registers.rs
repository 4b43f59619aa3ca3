//! Blocks multiplied by the instruction of AVX-512 BF16, which adds the products of two pairs of numbers to each of 16
//! sums.

use std::arch::x86_64::{
    _MM_HINT_T1, _mm_prefetch, _mm512_add_ps, _mm512_dpbf16_ps, _mm512_loadu_si512,
    _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512,
};

use super::block::{Block, COLUMNS, LINE, ROWS};
use crate::layout::{LANES, first_lanes};
use crate::rounded::pairs_of;
use crate::window::Window;

/// Registers that hold the sums of a row of a tile.
const REGISTERS: usize = COLUMNS / LANES;
impl Block<'_> {
    /// Writes the product of the blocks to `out`. `BY_ROWS` says how the left one lies.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    pub(super) fn multiply<const BY_ROWS: bool>(&self, mut out: Window<'_>) {
        let panel_len = ROWS * if BY_ROWS { LINE } else { self.pairs };
        let [rows, columns] = [out.rows(), out.columns()];
        // One panel of the right factor stays in the cache for all rows.
        let panels = self.right.chunks_exact(self.pairs * COLUMNS);
        for (column, right) in (0..columns).step_by(COLUMNS).zip(panels) {
            let panels = self.left.chunks_exact(panel_len);
            for (row, left) in (0..rows).step_by(ROWS).zip(panels) {
                let tile = Tile {
                    left,
                    right,
                    pairs: self.pairs,
                    add: self.add,
                };
                let (row_end, end) = (rows.min(row + ROWS), columns.min(column + COLUMNS));
                let out = out.part(row..row_end, column..end);
                if out.columns() > LANES {
                    tile.rows::<REGISTERS, BY_ROWS>(out);
                } else {
                    tile.rows::<1, BY_ROWS>(out);
                }
            }
        }
    }
}

/// Panels of both factors.
#[derive(Clone, Copy)]
struct Tile<'a> {
    left: &'a [u32],
    right: &'a [u32],
    pairs: usize,
    add: bool,
}

impl Tile<'_> {
    /// The product of at most [`ROWS`] rows. Numbers of rows without a function of their own are split into larger and
    /// smaller ones that have one.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn rows<const P: usize, const BY_ROWS: bool>(self, out: Window<'_>) {
        match out.rows() {
            12.. => self.sums::<12, P, BY_ROWS>(out),
            8.. => self.split::<8, P, BY_ROWS>(out),
            4.. => self.split::<4, P, BY_ROWS>(out),
            3 => self.sums::<3, P, BY_ROWS>(out),
            2 => self.sums::<2, P, BY_ROWS>(out),
            1 => self.sums::<1, P, BY_ROWS>(out),
            0 => {}
        }
    }

    /// The first `R` rows, and then the others.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn split<const R: usize, const P: usize, const BY_ROWS: bool>(self, out: Window<'_>) {
        let (first, rest) = out.split_rows(R);
        self.sums::<R, P, BY_ROWS>(first);
        let left = &self.left[R * if BY_ROWS { LINE } else { 1 }..];
        Self { left, ..self }.rows::<P, BY_ROWS>(rest);
    }

    /// The product of `R` rows with `P` registers of columns. Both are constants, so that all sums stay in registers until
    /// the end.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[allow(unsafe_code)]
    fn sums<const R: usize, const P: usize, const BY_ROWS: bool>(self, mut out: Window<'_>) {
        let (row_step, pair_step) = if BY_ROWS { (LINE, 1) } else { (1, ROWS) };
        let pairs = self.pairs;
        let last = (R - 1) * row_step + pairs.saturating_sub(1) * pair_step;
        assert!(last < self.left.len() && self.right.len() == pairs * COLUMNS && P <= REGISTERS);
        // What is added to is far away if rows are long. It arrives while the sums are computed.
        if self.add {
            for row in 0..R {
                let at = out.row(row).as_ptr();
                for register in 0..P {
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(register * LANES).cast());
                }
            }
        }
        let mut sums = [[_mm512_setzero_ps(); P]; R];
        for pair in 0..pairs {
            // SAFETY: `pairs` lines of 32 numbers lie in `right`, and the last pair of the last row lies in `left`:
            // asserted.
            unsafe {
                let mut line = [pairs_of(_mm512_setzero_si512()); P];
                for (register, line) in line.iter_mut().enumerate() {
                    let at = self.right.as_ptr().add(pair * COLUMNS + register * LANES);
                    *line = pairs_of(_mm512_loadu_si512(at.cast()));
                }
                // Each pair of numbers of a row is copied to all lanes and multiplied with the pairs of all columns.
                for (row, sums) in sums.iter_mut().enumerate() {
                    let both = *self.left.get_unchecked(row * row_step + pair * pair_step);
                    let both = pairs_of(_mm512_set1_epi32(both.cast_signed()));
                    for (sum, line) in sums.iter_mut().zip(line) {
                        *sum = _mm512_dpbf16_ps(*sum, both, line);
                    }
                }
            }
        }
        for (row, sums) in sums.into_iter().enumerate() {
            for (out, mut sum) in out.row(row).chunks_mut(LANES).zip(sums) {
                let (at, mask) = (out.as_mut_ptr().cast::<f32>(), first_lanes(out.len()));
                // SAFETY: the mask covers the columns there are. They are read only if the caller has numbers there, or if
                // an earlier block has written them.
                unsafe {
                    if self.add {
                        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum);
                    }
                    _mm512_mask_storeu_ps(at, mask, sum);
                }
            }
        }
    }
}
