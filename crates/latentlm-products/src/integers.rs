//! Products of quantized weights with rows that are rounded to int8, by instructions of x86 processors: AVX-512 VNNI
//! multiplies 64 numbers at once, AVX2 32. The sums of a group are whole numbers, so both get the same; only the sums of
//! groups are rounded, in another order.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, __m512, __m512i, _MM_HINT_T0, _MM_HINT_T1, _mm_add_ps, _mm_add_ss,
    _mm_and_si128, _mm_cvtsi32_si128, _mm_cvtss_f32, _mm_loadu_si128, _mm_movehl_ps, _mm_prefetch,
    _mm_set1_epi8, _mm_shuffle_ps, _mm_srli_epi16, _mm256_add_epi32, _mm256_castps256_ps128,
    _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_extractf128_ps, _mm256_fmadd_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_sub_epi16, _mm256_zextsi128_si256, _mm512_and_si512,
    _mm512_castsi256_si512, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mask_blend_ps, _mm512_mul_ps,
    _mm512_permutexvar_epi64, _mm512_permutexvar_ps, _mm512_set1_epi8, _mm512_set1_ps,
    _mm512_setr_epi32, _mm512_setr_epi64, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_srlv_epi16, _mm512_xor_si512,
};

use crate::bits::{Bits, GROUP, SCALE_BYTES, widened};
use crate::blocks::OUTPUTS;
use crate::rows::{RoundedRow, Rows};
use crate::stored::totals;

// The sums of 4 rows and 4 outputs take 16 of 32 registers, the numbers and scales of 4 outputs 8 more.
/// Rows whose sums AVX-512 keeps in registers at the same time.
const VNNI_ROWS: usize = 4;
/// Rows that AVX-512 multiplies with weights that it has unpacked once: they stay in the second-level cache.
const UNPACKED_ROWS: usize = 32;
// The sums of 2 rows and 4 outputs take 8 of 16 registers, the numbers of 2 rows 4 more.
/// Rows whose sums AVX2 keeps in registers at the same time.
const AVX2_ROWS: usize = 2;
/// Sums in a register of AVX-512, each of four products.
const LANES: usize = 16;
/// Bytes that the memory gives at once.
const CACHE_LINE: usize = 64;
/// Bytes of a row that move from the second-level cache to the first before they are multiplied.
const AHEAD: usize = 8 * CACHE_LINE;
/// Lanes of the second group of a step.
const SECOND_GROUP: u16 = 0xff00;
/// Moves halves of bytes down: four bits in each 16.
const HALVES: i64 = 0x0004_0004_0004_0004;

/// Whether this processor has AVX-512 VNNI.
pub(crate) fn has_vnni() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
}

/// Whether this processor has AVX2 and fused multiplications.
pub(crate) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// Inner products of rounded rows with the first rows of `weights`, as many as a row of `out` has numbers.
///
/// # Panics
/// If the processor has no VNNI, or sizes do not fit.
#[allow(unsafe_code)]
pub(crate) fn multiply_vnni(weights: Rows<'_>, x: &[u32], out: &mut [&mut [f32]]) {
    assert!(has_vnni(), "this processor has no AVX-512 VNNI");
    // SAFETY: the processor has all features that `has_vnni` asks for.
    unsafe {
        match weights.bits {
            Bits::Eight => vnni_tiles::<false>(weights, x, out),
            Bits::Four => vnni_tiles::<true>(weights, x, out),
        }
    }
}

/// [`multiply_vnni`], but by AVX2.
///
/// # Panics
/// If the processor has no AVX2, or sizes do not fit.
#[allow(unsafe_code)]
pub(crate) fn multiply_avx2(weights: Rows<'_>, x: &[u32], out: &mut [&mut [f32]]) {
    assert!(has_avx2(), "this processor has no AVX2");
    // SAFETY: the processor has all features that `has_avx2` asks for.
    unsafe {
        match weights.bits {
            Bits::Eight => avx2_tiles::<false>(weights, x, out),
            Bits::Four => avx2_tiles::<true>(weights, x, out),
        }
    }
}

/// Numbers and scales of two groups of an output, as products take them.
#[derive(Clone, Copy)]
struct Unpacked {
    numbers: __m512i,
    scales: __m512,
}

#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn vnni_tiles<const FOUR: bool>(weights: Rows<'_>, x: &[u32], out: &mut [&mut [f32]]) {
    let row = RoundedRow::of(weights.inputs);
    let mut unpacked = Vec::new();
    let rows = x.chunks(UNPACKED_ROWS * row.line);
    for (x, out) in rows.zip(out.chunks_mut(UNPACKED_ROWS)) {
        vnni_block::<FOUR>(weights, x, out, &mut unpacked);
    }
}

/// At most [`UNPACKED_ROWS`] rows.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
fn vnni_block<const FOUR: bool>(
    weights: Rows<'_>,
    x: &[u32],
    out: &mut [&mut [f32]],
    unpacked: &mut Vec<Unpacked>,
) {
    let row = RoundedRow::of(weights.inputs);
    let outputs = out.first().map_or(0, |row| row.len());
    let mut first = 0;
    while first < outputs {
        let weights = weights.without(first);
        let count = if outputs - first < OUTPUTS {
            1
        } else {
            OUTPUTS
        };
        unpacked.clear();
        // For four rows about a quarter of the instructions unpack weights. With more rows, unpack once for all.
        if out.len() > VNNI_ROWS {
            unpack::<FOUR>(unpacked, weights, count);
        }
        let rows = x.chunks(VNNI_ROWS * row.line);
        for (x, out) in rows.zip(out.chunks_mut(VNNI_ROWS)) {
            let tile = Tile {
                weights,
                unpacked: unpacked.as_slice(),
                x,
                row,
                first,
            };
            match (count, unpacked.is_empty()) {
                (OUTPUTS, true) => tile.vnni_rows::<FOUR, false, OUTPUTS>(out),
                (OUTPUTS, false) => tile.vnni_rows::<FOUR, true, OUTPUTS>(out),
                (_, true) => tile.vnni_rows::<FOUR, false, 1>(out),
                (_, false) => tile.vnni_rows::<FOUR, true, 1>(out),
            }
        }
        first += count;
    }
}

/// Unpacks the first `count` rows of weights: of each pair of groups those of all rows.
#[target_feature(enable = "avx512f,avx512bw")]
#[allow(unsafe_code)]
fn unpack<const FOUR: bool>(unpacked: &mut Vec<Unpacked>, weights: Rows<'_>, count: usize) {
    let Rows {
        bytes,
        bits,
        inputs,
        line,
    } = weights;
    assert!(line == bits.row_bytes(inputs) && bytes.len() >= count * line);
    let step_bytes = 2 * bits.group_bytes();
    let scales_at = bits.scales_at(inputs);
    for step in 0..scales_at / step_bytes {
        for output in 0..count {
            // SAFETY: `bytes` has `count` rows of `line` bytes, with so many times `step_bytes` of numbers and then as
            // many pairs of scales: asserted. A prefetch reads nothing, wherever it points.
            let (numbers, scales) = unsafe {
                let row = bytes.as_ptr().add(output * line);
                let at = row.add(step * step_bytes);
                _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(count * line).cast());
                if step * CACHE_LINE < line - scales_at {
                    let scales = scales_at + step * CACHE_LINE;
                    _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(count * line + scales).cast());
                }
                let scales = row.add(scales_at + step * 2 * SCALE_BYTES);
                (numbers::<FOUR>(at), scale_pair(scales))
            };
            unpacked.push(Unpacked { numbers, scales });
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn avx2_tiles<const FOUR: bool>(weights: Rows<'_>, x: &[u32], out: &mut [&mut [f32]]) {
    let row = RoundedRow::of(weights.inputs);
    let outputs = out.first().map_or(0, |row| row.len());
    let rows = x.chunks(AVX2_ROWS * row.line);
    for (x, out) in rows.zip(out.chunks_mut(AVX2_ROWS)) {
        let mut first = 0;
        while first < outputs {
            let tile = Tile {
                weights: weights.without(first),
                unpacked: &[],
                x,
                row,
                first,
            };
            if outputs - first >= OUTPUTS {
                tile.avx2_rows::<FOUR, OUTPUTS>(out);
                first += OUTPUTS;
            } else {
                tile.avx2_rows::<FOUR, 1>(out);
                first += 1;
            }
        }
    }
}

/// A few rows and at most [`OUTPUTS`] outputs of a product.
struct Tile<'a> {
    /// Rows of weights, from the tile's first output on.
    weights: Rows<'a>,
    /// These rows unpacked by [`unpack`]; empty if the instruction unpacks them itself.
    unpacked: &'a [Unpacked],
    /// The tile's rows of the left factor, rounded.
    x: &'a [u32],
    /// Places in one of them.
    row: RoundedRow,
    /// First output of the tile in a row of the product.
    first: usize,
}

impl Tile<'_> {
    /// Asserts that `R` rows of the left factor and `O` rows of weights are there.
    fn check<const R: usize, const O: usize>(&self, out: &[&mut [f32]]) {
        let Rows {
            bytes,
            bits,
            inputs,
            line,
        } = self.weights;
        assert!(line == bits.row_bytes(inputs) && bytes.len() >= O * line);
        assert!(self.x.len() == R * self.row.line && out.len() == R);
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn vnni_rows<const FOUR: bool, const READY: bool, const O: usize>(
        &self,
        out: &mut [&mut [f32]],
    ) {
        match out.len() {
            1 => self.vnni_sums::<FOUR, READY, 1, O>(out),
            2 => self.vnni_sums::<FOUR, READY, 2, O>(out),
            3 => self.vnni_sums::<FOUR, READY, 3, O>(out),
            4 => self.vnni_sums::<FOUR, READY, 4, O>(out),
            rows => unreachable!("{rows} rows of at most {VNNI_ROWS}"),
        }
    }

    #[target_feature(enable = "avx2,fma")]
    fn avx2_rows<const FOUR: bool, const O: usize>(&self, out: &mut [&mut [f32]]) {
        match out.len() {
            1 => self.avx2_sums::<FOUR, 1, O>(out),
            2 => self.avx2_sums::<FOUR, 2, O>(out),
            rows => unreachable!("{rows} rows of at most {AVX2_ROWS}"),
        }
    }

    /// `R` rows and `O` outputs, whose weights are unpacked if `READY`. All are constants, so that all sums stay in
    /// registers until the end. Each sum adds the same products in the same order, whatever they are.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[allow(unsafe_code)]
    fn vnni_sums<const FOUR: bool, const READY: bool, const R: usize, const O: usize>(
        &self,
        out: &mut [&mut [f32]],
    ) {
        self.check::<R, O>(out);
        let Rows {
            bytes,
            bits,
            inputs,
            line,
        } = self.weights;
        let step_bytes = 2 * bits.group_bytes();
        let scales_at = bits.scales_at(inputs);
        let steps = scales_at / step_bytes;
        assert!(!READY || self.unpacked.len() == steps * O);
        let mut sums = [[_mm512_setzero_ps(); O]; R];
        for step in 0..steps {
            // SAFETY: `bytes` has `O` rows of `line` bytes, with `steps` times `step_bytes` of numbers and then as many
            // pairs of scales; `unpacked` has `O` for each step if `READY`; `x` has `R` rows, with `steps` registers of
            // numbers, of corrections, and pairs of scales: all asserted. A prefetch reads nothing, wherever it points.
            unsafe {
                let mut weights = [(_mm512_setzero_si512(), _mm512_setzero_ps()); O];
                for (output, weights) in weights.iter_mut().enumerate() {
                    if READY {
                        let Unpacked { numbers, scales } =
                            *self.unpacked.get_unchecked(step * O + output);
                        *weights = (numbers, scales);
                        continue;
                    }
                    let row = bytes.as_ptr().add(output * line);
                    let at = row.add(step * step_bytes);
                    // The next tile's rows begin where these end: their memory is asked for while these are multiplied.
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(O * line).cast());
                    // Its scales lie behind its numbers, and the first step needs some already.
                    if step * CACHE_LINE < line - scales_at {
                        let scales = scales_at + step * CACHE_LINE;
                        _mm_prefetch::<_MM_HINT_T1>(row.wrapping_add(O * line + scales).cast());
                    }
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    let scales = row.add(scales_at + step * 2 * SCALE_BYTES);
                    *weights = (numbers::<FOUR>(at), scale_pair(scales));
                }
                for (row, sums) in sums.iter_mut().enumerate() {
                    let at = self.x.as_ptr().add(row * self.row.line);
                    let x = _mm512_loadu_si512(at.add(step * LANES).cast());
                    let correction = at.add(self.row.corrections + step * LANES);
                    let correction = _mm512_loadu_si512(correction.cast());
                    let scales = at.add(self.row.scales + 2 * step);
                    let x_scale = _mm512_mask_blend_ps(
                        SECOND_GROUP,
                        _mm512_set1_ps(f32::from_bits(*scales)),
                        _mm512_set1_ps(f32::from_bits(*scales.add(1))),
                    );
                    for (sum, (weights, scale)) in sums.iter_mut().zip(weights) {
                        let whole = _mm512_dpbusd_epi32(correction, weights, x);
                        let scale = _mm512_mul_ps(scale, x_scale);
                        *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), scale, *sum);
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

    /// `R` rows and `O` outputs by AVX2, a group at a time. Numbers become 16 bits wide, so that no sum of two products
    /// overflows.
    #[target_feature(enable = "avx2,fma")]
    #[allow(unsafe_code)]
    fn avx2_sums<const FOUR: bool, const R: usize, const O: usize>(&self, out: &mut [&mut [f32]]) {
        self.check::<R, O>(out);
        let Rows {
            bytes,
            bits,
            inputs,
            line,
        } = self.weights;
        let (group_bytes, scales_at) = (bits.group_bytes(), bits.scales_at(inputs));
        let mut sums = [[_mm256_setzero_ps(); O]; R];
        for group in 0..inputs / GROUP {
            let mut x = [([_mm256_setzero_si256(); 2], 0.0_f32); R];
            // SAFETY: `x` has `R` rows, with the numbers and scales of all groups: asserted.
            unsafe {
                for (row, x) in x.iter_mut().enumerate() {
                    let at = self.x.as_ptr().add(row * self.row.line);
                    let scale = f32::from_bits(*at.add(self.row.scales + group));
                    *x = (signed(at.cast::<u8>().add(group * GROUP)), scale);
                }
            }
            for output in 0..O {
                // SAFETY: `bytes` has `O` rows of `line` bytes, with the numbers of all groups: asserted. A prefetch
                // reads nothing, wherever it points.
                let [low, high] = unsafe {
                    let at = bytes.as_ptr().add(output * line + group * group_bytes);
                    _mm_prefetch::<_MM_HINT_T1>(at.wrapping_add(O * line).cast());
                    if FOUR { halves(at) } else { signed(at) }
                };
                let scale = &bytes[output * line + scales_at + group * SCALE_BYTES..];
                let scale = widened(u16::from_le_bytes([scale[0], scale[1]]));
                for (sums, ([x_low, x_high], x_scale)) in sums.iter_mut().zip(x) {
                    let low = _mm256_madd_epi16(low, x_low);
                    let whole = _mm256_add_epi32(low, _mm256_madd_epi16(high, x_high));
                    let scale = _mm256_set1_ps(scale * x_scale);
                    sums[output] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), scale, sums[output]);
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            for (out, sum) in out[self.first..].iter_mut().zip(sums) {
                *out = total(sum);
            }
        }
    }
}

/// The numbers of two groups with their offset, so that none is negative.
///
/// # Safety
/// `at` must point to the numbers of two groups.
#[target_feature(enable = "avx512f,avx512bw")]
#[allow(unsafe_code)]
unsafe fn numbers<const FOUR: bool>(at: *const u8) -> __m512i {
    if FOUR {
        // SAFETY: the caller's promise: two groups are 32 bytes.
        let both = unsafe { _mm256_loadu_si256(at.cast()) };
        // The bytes of each group twice: once for its first numbers, once for the others, whose halves move down.
        let twice = _mm512_setr_epi64(0, 1, 0, 1, 2, 3, 2, 3);
        let twice = _mm512_permutexvar_epi64(twice, _mm512_castsi256_si512(both));
        let down = _mm512_setr_epi64(0, 0, HALVES, HALVES, 0, 0, HALVES, HALVES);
        _mm512_and_si512(_mm512_srlv_epi16(twice, down), _mm512_set1_epi8(15))
    } else {
        // SAFETY: the caller's promise: two groups are 64 bytes.
        let both = unsafe { _mm512_loadu_si512(at.cast()) };
        // Changes the sign's bit, which adds 128.
        _mm512_xor_si512(both, _mm512_set1_epi8(-128))
    }
}

/// The scales of two groups, each in the lanes of its group.
///
/// # Safety
/// `at` must point to two scales.
#[target_feature(enable = "avx512f,avx512bw")]
#[allow(unsafe_code)]
unsafe fn scale_pair(at: *const u8) -> __m512 {
    // SAFETY: the caller's promise: two scales are four bytes.
    let both = _mm_cvtsi32_si128(unsafe { at.cast::<i32>().read_unaligned() });
    let both = _mm512_cvtph_ps(_mm256_zextsi128_si256(both));
    let groups = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
    _mm512_permutexvar_ps(groups, both)
}

/// The first sixteen numbers of a group of int8, and the others.
///
/// # Safety
/// `at` must point to the 32 bytes of a group.
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
unsafe fn signed(at: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    let both: [__m128i; 2] = unsafe {
        [
            _mm_loadu_si128(at.cast()),
            _mm_loadu_si128(at.add(GROUP / 2).cast()),
        ]
    };
    [_mm256_cvtepi8_epi16(both[0]), _mm256_cvtepi8_epi16(both[1])]
}

/// The first sixteen numbers of a group of int4, and the others.
///
/// # Safety
/// `at` must point to the 16 bytes of a group.
#[target_feature(enable = "avx2")]
#[allow(unsafe_code)]
unsafe fn halves(at: *const u8) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    let both = unsafe { _mm_loadu_si128(at.cast()) };
    let mask = _mm_set1_epi8(15);
    let offset = _mm256_set1_epi16(8);
    let low = _mm_and_si128(both, mask);
    let high = _mm_and_si128(_mm_srli_epi16::<4>(both), mask);
    // No number is negative before the offset is subtracted, so sign extension widens them.
    [
        _mm256_sub_epi16(_mm256_cvtepi8_epi16(low), offset),
        _mm256_sub_epi16(_mm256_cvtepi8_epi16(high), offset),
    ]
}

/// The sum of a register.
#[target_feature(enable = "avx2")]
fn total(sum: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
