//! Products of many rows with quantized weights by the processor's [tiles](crate::amx): a block of weights is rounded to
//! bfloat16, and multiplied as one of [`Stored`](crate::Stored) is.
//!
//! Tiles of int8 numbers are no way for such weights, though an instruction multiplies twice as many. It adds up 64
//! products, and groups of 32 have scales of their own in both factors. So after each group the 256 sums of a tile would
//! leave it, become float32, and be multiplied and added: 64 instructions, which take twice as long as the tile of bfloat16
//! numbers that has the same products. Its sums stay where they are, and scales are part of its numbers. Rounding a weight
//! costs about as much as a product of one tile's rows with it, once for all rows. The other factor keeps eight bits of each
//! number, where int8 keeps those of the largest of 32.

use std::arch::x86_64::{
    __m128i, __m512bh, __m512i, _MM_HINT_T1, _mm_and_si128, _mm_loadu_si128, _mm_prefetch,
    _mm_set1_epi8, _mm_srli_epi16, _mm_sub_epi8, _mm256_set1_epi16, _mm512_cvtepi8_epi32,
    _mm512_cvtepi32_ps, _mm512_cvtne2ps_pbh, _mm512_cvtph_ps, _mm512_mul_ps, _mm512_storeu_si512,
};
use std::cell::RefCell;
use std::mem::transmute;
use std::ops::Range;

use half::bf16;

use crate::amx::{Columns, Lines, Sums, Tiles, WIDTH};
use crate::bits::{Bits, GROUP, SCALE_BYTES};
use crate::rows::Rows;
use crate::stored::tiles::{lay_out_panels, turn};
use crate::window::Window;

/// Outputs of a block are a multiple of this.
pub(super) const UNIT: usize = WIDTH;
/// Inputs of a block: a panel of the other factor has 32 KB for them, which stay in the first-level cache for all outputs.
const DEPTH: usize = 512;
/// Bytes of a row of weights that are laid out at once.
pub(super) const ROW_BYTES: usize = DEPTH * size_of::<bf16>();
/// Numbers from one laid out row to the next. No power of two: such rows would share few places of a cache.
const LINE: usize = DEPTH + GROUP;
/// Panels of rows that are multiplied with a block before the next: their sums stay below a megabyte. For more, weights are
/// rounded again.
const PANELS: usize = 32;

// Blocks and rows of them are whole groups, and those are whole tiles.
const _: () = assert!(DEPTH.is_multiple_of(GROUP) && GROUP == WIDTH);

thread_local! {
    /// Memory for a block of weights, and for sums. Asking the system for it anew would take longer than rounding a block.
    static MEMORY: RefCell<(Vec<bf16>, Vec<Sums>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// Rounds rows of `inputs` numbers and lays them out for [`multiply`].
pub(super) fn lay_out(out: &mut Vec<u32>, x: &[f32], inputs: usize, parallel: bool) {
    lay_out_panels(out, x, inputs, WIDTH, parallel);
}

/// Inner products of all rows of [`lay_out`] with the first of `weights`, as many as a row of `out` has numbers.
///
/// # Panics
/// If the processor has no tiles, or sizes do not fit.
pub(super) fn multiply(weights: Rows<'_>, x: &[u32], out: &mut [&mut [f32]]) {
    MEMORY.with_borrow_mut(|(block, sums)| multiply_in(block, sums, weights, x, out));
}

/// [`multiply`] in memory for a block of weights and for sums.
#[allow(unsafe_code)]
fn multiply_in(
    block: &mut Vec<bf16>,
    sums: &mut Vec<Sums>,
    weights: Rows<'_>,
    x: &[u32],
    out: &mut [&mut [f32]],
) {
    let outputs = out.first().map_or(0, |row| row.len());
    let (high, panel) = (outputs.div_ceil(WIDTH), weights.inputs / 2 * WIDTH);
    let tiles = Tiles::new();
    // Whatever lies in rows behind the last output is multiplied too, and the products are not written.
    if block.len() < high * WIDTH * LINE {
        block.resize(high * WIDTH * LINE, bf16::ZERO);
    }
    let passes = x.chunks(PANELS * panel).zip(out.chunks_mut(PANELS * WIDTH));
    for (x, out) in passes {
        let count = x.len() / panel * high;
        if sums.len() < count {
            sums.resize_with(count, Sums::new);
        }
        for first in (0..weights.inputs).step_by(DEPTH) {
            let end = weights.inputs.min(first + DEPTH);
            let (rows, groups) = (&mut block[..outputs * LINE], first / GROUP..end / GROUP);
            // SAFETY: the processor has the features: whatever has tiles has them, see `available`.
            unsafe {
                match weights.bits {
                    Bits::Eight => round::<false>(rows, weights, groups),
                    Bits::Four => round::<true>(rows, weights, groups),
                }
            }
            for (x, sums) in x.chunks_exact(panel).zip(sums.chunks_exact_mut(high)) {
                let right = Columns::panel(&x[first / 2 * WIDTH..end / 2 * WIDTH]);
                for (rows, sums) in block.chunks_exact(WIDTH * LINE).zip(sums) {
                    let out = Window::of(sums.0.as_flattened_mut(), WIDTH);
                    tiles.multiply(out, Lines::of_numbers(rows, LINE), right, first > 0);
                }
            }
        }
        for (sums, out) in sums.chunks_exact(high).zip(out.chunks_mut(WIDTH)) {
            for (index, sums) in sums.iter().enumerate() {
                // SAFETY: the processor has tiles, and whatever has them has AVX-512.
                unsafe { turn(sums, out, index * WIDTH) };
            }
        }
    }
}

/// Rounds some groups of the first rows of `weights` to bfloat16, as many rows as `out` has, [`LINE`] numbers from one to the
/// next.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
#[allow(unsafe_code)]
fn round<const FOUR: bool>(out: &mut [bf16], weights: Rows<'_>, groups: Range<usize>) {
    let group_bytes = if FOUR { GROUP / 2 } else { GROUP };
    let block_bytes = groups.len() * group_bytes;
    let numbers_at = groups.start * group_bytes;
    let scales_at = weights.bits.scales_at(weights.inputs) + groups.start * SCALE_BYTES;
    let rows = weights.bytes.chunks_exact(weights.line);
    for (row, out) in rows.zip(out.chunks_exact_mut(LINE)) {
        let numbers = row[numbers_at..][..block_bytes].chunks_exact(group_bytes);
        let scales = row[scales_at..][..groups.len() * SCALE_BYTES].chunks_exact(SCALE_BYTES);
        for ((numbers, scale), out) in numbers.zip(scales).zip(out.chunks_exact_mut(GROUP)) {
            let scale = i16::from_le_bytes([scale[0], scale[1]]);
            let scale = _mm512_cvtph_ps(_mm256_set1_epi16(scale));
            // The next block of the row is asked for while this one is multiplied.
            let next = numbers.as_ptr().wrapping_add(block_bytes);
            _mm_prefetch::<_MM_HINT_T1>(next.cast());
            // SAFETY: `numbers` are the bytes of a group.
            let [first, second] = unsafe { group::<FOUR>(numbers.as_ptr()) };
            let first = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(first));
            let second = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(second));
            // At most 8 bits of a number and 11 of a scale: the products are exact.
            let (first, second) = (_mm512_mul_ps(first, scale), _mm512_mul_ps(second, scale));
            let both = _mm512_cvtne2ps_pbh(second, first);
            // SAFETY: both are 64 bytes of which every pattern is a value; `out` has 32 numbers of two bytes.
            unsafe {
                let both = transmute::<__m512bh, __m512i>(both);
                _mm512_storeu_si512(out.as_mut_ptr().cast(), both);
            }
        }
    }
}

/// The first sixteen numbers of a group, and the others.
///
/// # Safety
/// `at` must point to the bytes of a group.
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
unsafe fn group<const FOUR: bool>(at: *const u8) -> [__m128i; 2] {
    // SAFETY: the caller's promise: a group has 16 bytes, or 32.
    let first = unsafe { _mm_loadu_si128(at.cast()) };
    if FOUR {
        let (mask, offset) = (_mm_set1_epi8(15), _mm_set1_epi8(8));
        let low = _mm_and_si128(first, mask);
        let high = _mm_and_si128(_mm_srli_epi16::<4>(first), mask);
        [_mm_sub_epi8(low, offset), _mm_sub_epi8(high, offset)]
    } else {
        // SAFETY: likewise.
        let second = unsafe { _mm_loadu_si128(at.add(GROUP / 2).cast()) };
        [first, second]
    }
}
