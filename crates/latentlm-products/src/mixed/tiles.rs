//! The products of [`mixed`](crate::mixed) by the instruction of AVX-512 BF16, which adds the products of two pairs of
//! numbers to each of 16 sums.
//!
//! A block of the right factor is laid out in panels of [`COLUMNS`] columns: a panel has one line for each pair of rows,
//! and a line has each column's two numbers in one `u32`. A block of the left factor is laid out by rows if its rows are
//! contiguous, each pair of neighbors in one `u32`, and otherwise as the right one, in panels of [`ROWS`].

use std::arch::x86_64::{
    __m512bh, __m512i, _MM_HINT_T1, _mm_prefetch, _mm512_add_ps, _mm512_cvtne2ps_pbh,
    _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi32, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_set1_epi32, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32,
    _mm512_unpackhi_epi64, _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};
use std::cell::RefCell;
use std::mem::MaybeUninit;

use rayon::prelude::*;

use crate::blocks::column_blocks;
use crate::matrix::{Matrix, PARALLEL};
use crate::rounded::{available, pairs_of};

/// Numbers of a register.
const LANES: usize = 16;
/// Registers that hold the sums of a row of a tile.
const REGISTERS: usize = 2;
/// Columns of a tile.
const COLUMNS: usize = REGISTERS * LANES;
// The sums of 12 rows take 24 of the 32 registers. Each step loads 2 lines of the right factor and 12 pairs of the left
// one for 24 multiplications.
/// Rows of a tile.
const ROWS: usize = 12;
/// Most numbers of a sum that one block adds up: a tile's rows of the left factor are then 24 KB, which stay in the
/// first-level cache, and a panel of the right one 64 KB, which stays in the second. Blocks of half as many took up to
/// a sixth longer if rows of the product are long (2048 x 768 x 2048), since each adds to numbers that are in no cache.
const DEPTH: usize = 1024;
/// `u32`s from one row of the left factor to the next, if it lies by rows. No power of two: such rows would share few
/// places of a cache.
const LINE: usize = DEPTH / 2 + LANES;
/// Rows of a block of the left factor.
const BLOCK_ROWS: usize = 8 * ROWS;
/// Columns of a block of the right factor.
const BLOCK_COLUMNS: usize = 32 * COLUMNS;

/// `out = a b`, or `out += a b` if `add`. Every number of `out` is written.
///
/// # Panics
/// If sizes do not fit each other, one of them is 0, or the processor does not have the instruction.
pub(super) fn multiply(out: &mut [MaybeUninit<f32>], a: Matrix<'_>, b: Matrix<'_>, add: bool) {
    let [rows, inner, columns] = [a.rows, a.columns, b.columns];
    assert!(out.len() == rows * columns && b.rows == inner && inner * out.len() > 0);
    assert!(available(), "this processor has no products of bfloat16");
    let threads = if rows * inner * columns < PARALLEL {
        1
    } else {
        rayon::current_num_threads()
    };
    // Each thread lays out its rows of `a` and its columns of `b`: parts that are nearly square have the fewest.
    let across = (threads as f64 * rows as f64 / columns as f64).sqrt();
    let row_parts = (across.round() as usize).clamp(1, threads);
    let row_step = rows.div_ceil(row_parts).next_multiple_of(ROWS);
    let column_parts = threads.div_ceil(row_parts);
    let column_step = columns.div_ceil(column_parts).next_multiple_of(COLUMNS);
    let mut parts = Vec::with_capacity(row_parts * column_parts);
    for (index, out) in out.chunks_mut(row_step * columns).enumerate() {
        let first = index * row_step;
        let a = a.row_range(first..first + out.len() / columns);
        for (index, out) in column_blocks(out, columns, column_step)
            .into_iter()
            .enumerate()
        {
            let first = index * column_step;
            let width = out.first().map_or(0, |row| row.len());
            let b = b.transposed().row_range(first..first + width).transposed();
            parts.push(Part { out, a, b, add });
        }
    }
    if threads == 1 {
        parts.into_iter().for_each(Part::run);
    } else {
        parts.into_par_iter().for_each(Part::run);
    }
}

thread_local! {
    /// Memory for a block of each factor. Asking the system for it anew would be slower than laying out a block.
    static BLOCKS: RefCell<[Vec<u32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// A part of a product that one thread computes.
struct Part<'a, 'out> {
    /// The part's columns of each of its rows.
    out: Vec<&'out mut [MaybeUninit<f32>]>,
    a: Matrix<'a>,
    b: Matrix<'a>,
    /// Whether the product is added to the numbers that are there.
    add: bool,
}

impl Part<'_, '_> {
    fn run(mut self) {
        BLOCKS.with_borrow_mut(|[left, right]| self.blocks(left, right));
    }

    #[allow(unsafe_code)]
    fn blocks(&mut self, left: &mut Vec<u32>, right: &mut Vec<u32>) {
        let Self { out, a, b, add } = self;
        let inner = a.columns;
        // Blocks of about one size, so that no short one is left; pairs are whole but for the last one.
        let depth = inner.div_ceil(inner.div_ceil(DEPTH)).next_multiple_of(2);
        let left_len = if a.column_stride == 1 {
            BLOCK_ROWS * LINE
        } else {
            BLOCK_ROWS * depth / 2
        };
        grow(left, left_len);
        grow(
            right,
            b.columns.next_multiple_of(COLUMNS).min(BLOCK_COLUMNS) * depth / 2,
        );
        for column in (0..b.columns).step_by(BLOCK_COLUMNS) {
            let width = BLOCK_COLUMNS.min(b.columns - column);
            for start in (0..inner).step_by(depth) {
                let end = (start + depth).min(inner);
                let lines = b.row_range(start..end).transposed();
                let lines = lines.row_range(column..column + width);
                // SAFETY: the processor has the features, see `multiply`.
                unsafe { lay_out::<COLUMNS>(right, lines) };
                for (index, out) in out.chunks_mut(BLOCK_ROWS).enumerate() {
                    let first = index * BLOCK_ROWS;
                    let rows = a.row_range(first..first + out.len()).transposed();
                    let rows = rows.row_range(start..end).transposed();
                    let block = Block {
                        left,
                        right,
                        pairs: (end - start).div_ceil(2),
                        column,
                        end: column + width,
                        add: *add || start > 0,
                    };
                    // SAFETY: the processor has the features, see `multiply`.
                    unsafe {
                        if rows.column_stride == 1 {
                            round_rows(block.left, rows);
                            block.multiply::<true>(out);
                        } else {
                            lay_out::<ROWS>(block.left, rows);
                            block.multiply::<false>(out);
                        }
                    }
                }
            }
        }
    }
}

/// Makes room for `len` numbers.
fn grow(memory: &mut Vec<u32>, len: usize) {
    if memory.len() < len {
        memory.resize(len, 0);
    }
}

/// A bit for each of the first `count` lanes, of all if there are more.
fn first_lanes(count: usize) -> u16 {
    u16::MAX >> (LANES - count.min(LANES))
}

/// At most 16 numbers of `even` and of `odd`, rounded; zeros follow if there are fewer. The numbers of `even` come
/// first.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
#[inline]
fn both_rounded(even: &[f32], odd: &[f32]) -> __m512i {
    let [first, second] = [even, odd].map(|x| match x.len() {
        0 => _mm512_setzero_ps(),
        // SAFETY: the mask covers the numbers there are.
        count => unsafe { _mm512_maskz_loadu_ps(first_lanes(count), x.as_ptr()) },
    });
    // SAFETY: both are 64 bytes of which every pattern is a value.
    unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)) }
}

/// Rounds rows that are contiguous, each [`LINE`] `u32`s behind the last one.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
fn round_rows(out: &mut [u32], rows: Matrix<'_>) {
    for (row, out) in (0..rows.rows).zip(out.chunks_exact_mut(LINE)) {
        let numbers = &rows.data[row * rows.row_stride..][..rows.columns];
        for (out, x) in out.chunks_exact_mut(LANES).zip(numbers.chunks(COLUMNS)) {
            let (first, second) = x.split_at(x.len().min(LANES));
            // SAFETY: sixteen numbers of four bytes are 64 bytes.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), both_rounded(first, second)) };
        }
    }
}

/// Rounds the rows of a matrix into panels of `W` of them: `[panel, pair of columns, row]`. Zeros fill up the last pair and
/// the last panel.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn lay_out<const W: usize>(out: &mut [u32], matrix: Matrix<'_>) {
    let pairs = matrix.columns.div_ceil(2);
    let panels = out.chunks_exact_mut(pairs * W);
    for (first, panel) in (0..matrix.rows).step_by(W).zip(panels) {
        let rows = matrix.row_range(first..(first + W).min(matrix.rows));
        if rows.column_stride == 1 {
            turn::<W>(panel, rows);
        } else {
            interleave::<W>(panel, rows);
        }
    }
}

/// A panel of rows whose columns are contiguous.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
fn interleave<const W: usize>(panel: &mut [u32], rows: Matrix<'_>) {
    // The numbers of two columns behind each other become pairs.
    let mut order = [0_u16; 2 * LANES];
    for (index, order) in order.iter_mut().enumerate() {
        *order = (index / 2 + index % 2 * LANES) as u16;
    }
    // SAFETY: 32 numbers of two bytes are 64 bytes.
    let order = unsafe { _mm512_loadu_si512(order.as_ptr().cast()) };
    let line = |column: usize| -> &[f32] {
        if column < rows.columns {
            &rows.data[column * rows.column_stride..][..rows.rows]
        } else {
            &[]
        }
    };
    for (pair, out) in panel.chunks_exact_mut(W).enumerate() {
        let (even, odd) = (line(2 * pair), line(2 * pair + 1));
        for (index, out) in out.chunks_mut(LANES).enumerate() {
            let at = index * LANES;
            let even = even.get(at..).unwrap_or_default();
            let odd = odd.get(at..).unwrap_or_default();
            let both = _mm512_permutexvar_epi16(order, both_rounded(even, odd));
            // SAFETY: the mask covers the numbers there are.
            unsafe {
                _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), first_lanes(out.len()), both);
            }
        }
    }
}

/// A panel of rows that are contiguous.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
fn turn<const W: usize>(panel: &mut [u32], rows: Matrix<'_>) {
    for first in (0..W).step_by(LANES) {
        let width = LANES.min(W - first);
        for (index, lines) in panel.chunks_mut(LANES * W).enumerate() {
            let start = index * COLUMNS;
            let count = COLUMNS.min(rows.columns - start);
            let mut square = [_mm512_setzero_si512(); LANES];
            for (row, square) in (first..rows.rows).zip(&mut square) {
                let x = &rows.data[row * rows.row_stride + start..][..count];
                let (first, second) = x.split_at(count.min(LANES));
                *square = both_rounded(first, second);
            }
            for (out, line) in lines.chunks_exact_mut(W).zip(transposed(square)) {
                let out = &mut out[first..first + width];
                // SAFETY: the mask covers the numbers there are.
                unsafe {
                    _mm512_mask_storeu_epi32(out.as_mut_ptr().cast(), first_lanes(width), line);
                }
            }
        }
    }
}

/// A square of 16 x 16 numbers, transposed: first within parts of four numbers, then the parts.
#[target_feature(enable = "avx512f")]
#[inline]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let (mut pairs, mut fours, mut all) = (rows, rows, rows);
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Afterwards, part `p` of `fours[at + j]` has column `4 p + j` of four rows.
    for at in (0..LANES).step_by(4) {
        fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    for at in 0..4 {
        let [a, b, c, d] = [fours[at], fours[at + 4], fours[at + 8], fours[at + 12]];
        // Parts 0 and 2 of both, then 1 and 3.
        let even = [
            _mm512_shuffle_i32x4::<0x88>(a, b),
            _mm512_shuffle_i32x4::<0x88>(c, d),
        ];
        let odd = [
            _mm512_shuffle_i32x4::<0xdd>(a, b),
            _mm512_shuffle_i32x4::<0xdd>(c, d),
        ];
        all[at] = _mm512_shuffle_i32x4::<0x88>(even[0], even[1]);
        all[at + 4] = _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]);
        all[at + 8] = _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]);
        all[at + 12] = _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]);
    }
    all
}

/// Blocks of both factors, laid out.
struct Block<'a> {
    left: &'a mut [u32],
    right: &'a [u32],
    /// Pairs of numbers that are added up.
    pairs: usize,
    /// First column of the block in the part.
    column: usize,
    /// One behind its last column.
    end: usize,
    /// Whether the product is added to the numbers that are there.
    add: bool,
}

impl Block<'_> {
    /// The product of the blocks. `BY_ROWS` says how the left one lies.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn multiply<const BY_ROWS: bool>(&self, out: &mut [&mut [MaybeUninit<f32>]]) {
        let panel_len = ROWS * if BY_ROWS { LINE } else { self.pairs };
        // One panel of the right factor stays in the cache for all rows.
        let panels = self.right.chunks_exact(self.pairs * COLUMNS);
        for (column, right) in (self.column..self.end).step_by(COLUMNS).zip(panels) {
            let panels = self.left.chunks_exact(panel_len);
            for (out, left) in out.chunks_mut(ROWS).zip(panels) {
                let tile = Tile {
                    left,
                    right,
                    pairs: self.pairs,
                    column,
                    add: self.add,
                };
                if self.end - column > LANES {
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
    /// First column of the tile in the part.
    column: usize,
    add: bool,
}

impl Tile<'_> {
    /// The product of at most [`ROWS`] rows. Numbers of rows without a function of their own are split into larger and
    /// smaller ones that have one.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn rows<const P: usize, const BY_ROWS: bool>(self, out: &mut [&mut [MaybeUninit<f32>]]) {
        match out.len() {
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
    fn split<const R: usize, const P: usize, const BY_ROWS: bool>(
        self,
        out: &mut [&mut [MaybeUninit<f32>]],
    ) {
        let (first, rest) = out.split_at_mut(R);
        self.sums::<R, P, BY_ROWS>(first);
        let left = &self.left[R * if BY_ROWS { LINE } else { 1 }..];
        Self { left, ..self }.rows::<P, BY_ROWS>(rest);
    }

    /// The product of `R` rows with `P` registers of columns. Both are constants, so that all sums stay in registers until
    /// the end.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[allow(unsafe_code)]
    fn sums<const R: usize, const P: usize, const BY_ROWS: bool>(
        self,
        out: &mut [&mut [MaybeUninit<f32>]],
    ) {
        let (row_step, pair_step) = if BY_ROWS { (LINE, 1) } else { (1, ROWS) };
        let pairs = self.pairs;
        let last = (R - 1) * row_step + pairs.saturating_sub(1) * pair_step;
        assert!(last < self.left.len() && self.right.len() == pairs * COLUMNS && P <= REGISTERS);
        // What is added to is far away if rows are long. It arrives while the sums are computed.
        if self.add {
            for out in out.iter() {
                let at = out.as_ptr().wrapping_add(self.column);
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
        for (out, sums) in out.iter_mut().zip(sums) {
            let columns = out[self.column..].chunks_mut(LANES);
            for (out, mut sum) in columns.zip(sums) {
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
