//! How factors of products lie for the processor's instructions: rounded, in pairs of numbers that are neighbors in a sum,
//! each pair in one `u32`.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_cvtne2ps_pbh, _mm512_loadu_si512, _mm512_mask_storeu_epi32,
    _mm512_maskz_loadu_ps, _mm512_permutexvar_epi16, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use crate::matrix::Matrix;

/// Numbers of a register.
pub(crate) const LANES: usize = 16;
/// Numbers that are rounded at once.
const STEP: usize = 2 * LANES;

/// A bit for each of the first `count` lanes, of all if there are more.
pub(crate) fn first_lanes(count: usize) -> u16 {
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

/// Rounds rows whose numbers are contiguous, each `line` pairs behind the last one. Zeros fill up the last [`LANES`] pairs
/// of a row.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
pub(crate) fn round_rows(out: &mut [u32], rows: Matrix<'_>, line: usize) {
    for (row, out) in (0..rows.rows).zip(out.chunks_exact_mut(line)) {
        let numbers = &rows.data[row * rows.row_stride..][..rows.columns];
        for (out, x) in out.chunks_exact_mut(LANES).zip(numbers.chunks(STEP)) {
            let (first, second) = x.split_at(x.len().min(LANES));
            // SAFETY: sixteen numbers of four bytes are 64 bytes.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), both_rounded(first, second)) };
        }
    }
}

/// The same for rows whose columns are contiguous, and not their numbers.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
pub(crate) fn round_columns(out: &mut [u32], rows: Matrix<'_>, line: usize) {
    let order = order();
    for (first, out) in (0..rows.rows)
        .step_by(LANES)
        .zip(out.chunks_mut(LANES * line))
    {
        let square_rows = rows.row_range(first..(first + LANES).min(rows.rows));
        for start in (0..rows.columns.div_ceil(2)).step_by(LANES) {
            let mut square = [_mm512_setzero_si512(); LANES];
            for (pair, square) in (start..).zip(&mut square) {
                let (even, odd) = (
                    column(square_rows, 2 * pair),
                    column(square_rows, 2 * pair + 1),
                );
                *square = _mm512_permutexvar_epi16(order, both_rounded(even, odd));
            }
            let lines = out.chunks_exact_mut(line).zip(transposed(square));
            for (out, pairs) in lines.take(square_rows.rows) {
                let out = &mut out[start..start + LANES];
                // SAFETY: sixteen numbers of four bytes are 64 bytes.
                unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), pairs) };
            }
        }
    }
}

/// A column of rows that is contiguous; empty behind the last one.
fn column(rows: Matrix<'_>, column: usize) -> &[f32] {
    if column < rows.columns {
        &rows.data[column * rows.column_stride..][..rows.rows]
    } else {
        &[]
    }
}

/// Makes pairs of two times sixteen numbers that lie behind each other.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
#[inline]
fn order() -> __m512i {
    let mut order = [0_u16; 2 * LANES];
    for (index, order) in order.iter_mut().enumerate() {
        *order = (index / 2 + index % 2 * LANES) as u16;
    }
    // SAFETY: 32 numbers of two bytes are 64 bytes.
    unsafe { _mm512_loadu_si512(order.as_ptr().cast()) }
}

/// Rounds the rows of a matrix into panels of `W` of them: `[panel, pair of columns, row]`, so many pairs. Zeros fill up the
/// last pairs and the last panel.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(crate) fn lay_out<const W: usize>(out: &mut [u32], matrix: Matrix<'_>, pairs: usize) {
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
    let order = order();
    for (pair, out) in panel.chunks_exact_mut(W).enumerate() {
        let (even, odd) = (column(rows, 2 * pair), column(rows, 2 * pair + 1));
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
            let start = index * STEP;
            let count = STEP.min(rows.columns - start);
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
pub(crate) fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
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
