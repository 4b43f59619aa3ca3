//! Attention of one position over the keys and values of a KV cache in float32, bfloat16 or int8, with float32 sums.
//! Threads may take blocks of cached positions by themselves; [`merge`] puts the blocks together, in order, so that
//! results do not depend on threads.
//!
//! Letters in shapes: `P` cached positions, `H` query heads that share a key/value head, `E` width of a head.

use std::ops::Range;

use half::bf16;
use multiversion::multiversion;

use crate::bits::nearest_byte;
use crate::math::{self, exp, sum_pairs};
use crate::stored::widened;

/// Value rows that are added in one pass over the sum, which is then read and written a quarter as often.
const AT_ONCE: usize = 4;

/// Rows whose magnitudes are all smaller are rounded to zeros: their inverse scale would be infinite.
const LEAST: f32 = 1e-36;

/// int8 rows with their scales.
#[derive(Debug, Clone, Copy)]
pub struct Int8Rows<'a> {
    /// `[P, E]`, -127 to 127.
    pub numbers: &'a [i8],
    /// Factor of each row's numbers, `[P]`.
    pub scales: &'a [f32],
}

/// Keys and values of one head.
#[derive(Debug, Clone, Copy)]
pub enum Cached<'a> {
    /// float32, `[P, E]` each.
    F32([&'a [f32]; 2]),
    /// bfloat16, `[P, E]` each.
    Bf16([&'a [bf16]; 2]),
    /// int8.
    Int8([Int8Rows<'a>; 2]),
}

/// Keys and values of some positions, with what attends to them.
#[derive(Debug, Clone, Copy)]
pub struct CachedGroup<'a> {
    /// Queries of the heads that share the key/value head, `[H, E]`.
    pub queries: &'a [f32],
    /// Keys and values of all positions of the cache.
    pub cached: Cached<'a>,
    /// First of the positions that are seen.
    pub start: usize,
    /// One behind the last of them.
    pub end: usize,
    /// `E`
    pub head_dim: usize,
}

/// Memory that [`attend`] reuses.
#[derive(Debug, Default)]
pub struct CachedScratch {
    scores: Vec<f32>,
    wide: Vec<f32>,
}

/// Numbers that [`attend`] writes for a block of positions.
#[inline]
pub fn part_len(heads: usize, head_dim: usize) -> usize {
    heads * (head_dim + 2)
}

/// Attention over these positions alone: for each query head the mixed values, then the largest score and the sum of
/// exponentials.
///
/// # Shapes
/// - `part`: [`part_len`] numbers
///
/// # Panics
/// If no position is seen, or sizes do not fit each other.
// Keys and values are read once for all heads, and directly from the cache. A matrix product would copy all keys first,
// only to read the copy once.
#[multiversion(targets = "simd")]
pub fn attend(group: CachedGroup<'_>, part: &mut [f32], scratch: &mut CachedScratch) {
    match group.cached {
        Cached::F32(both) => attend_rows(group, both, part, scratch),
        Cached::Bf16(both) => attend_rows(group, both, part, scratch),
        Cached::Int8(both) => attend_rows(group, both, part, scratch),
    }
}

/// Keys and values of a range of positions in float32, for products with many queries.
///
/// # Shapes
/// - `keys`, `values`: become `[positions, E]`
///
/// # Panics
/// If there are fewer positions.
pub fn widen(
    cached: Cached<'_>,
    positions: Range<usize>,
    head_dim: usize,
    keys: &mut Vec<f32>,
    values: &mut Vec<f32>,
) {
    widen_one(cached, 0, positions.clone(), head_dim, keys);
    widen_one(cached, 1, positions, head_dim, values);
}

/// Keys (0) or values (1) in float32.
#[multiversion(targets = "simd")]
fn widen_one(
    cached: Cached<'_>,
    which: usize,
    positions: Range<usize>,
    head_dim: usize,
    out: &mut Vec<f32>,
) {
    match cached {
        Cached::F32(both) => {
            out.clear();
            out.extend_from_slice(part_of(both[which], &positions, head_dim));
        }
        Cached::Bf16(both) => {
            both[which].exact(positions, head_dim, out);
        }
        Cached::Int8(both) => {
            both[which].exact(positions, head_dim, out);
        }
    }
}

/// Some rows of `[P, E]` numbers.
#[inline(always)]
fn part_of<'a, T>(rows: &'a [T], positions: &Range<usize>, head_dim: usize) -> &'a [T] {
    &rows[positions.start * head_dim..positions.end * head_dim]
}

/// Rows of a cache.
trait Rows: Copy {
    /// Rows of some positions in float32: where they lie, or else in `memory`.
    fn exact<'m>(
        &'m self,
        positions: Range<usize>,
        head_dim: usize,
        memory: &'m mut Vec<f32>,
    ) -> &'m [f32];
}

impl Rows for &[f32] {
    #[inline(always)]
    fn exact<'m>(
        &'m self,
        positions: Range<usize>,
        head_dim: usize,
        _memory: &'m mut Vec<f32>,
    ) -> &'m [f32] {
        part_of(self, &positions, head_dim)
    }
}

impl Rows for &[bf16] {
    #[inline(always)]
    fn exact<'m>(
        &'m self,
        positions: Range<usize>,
        head_dim: usize,
        memory: &'m mut Vec<f32>,
    ) -> &'m [f32] {
        memory.resize(positions.len() * head_dim, 0.0);
        for (out, x) in memory.iter_mut().zip(part_of(self, &positions, head_dim)) {
            *out = widened(*x);
        }
        memory
    }
}

impl Rows for Int8Rows<'_> {
    #[inline(always)]
    fn exact<'m>(
        &'m self,
        positions: Range<usize>,
        head_dim: usize,
        memory: &'m mut Vec<f32>,
    ) -> &'m [f32] {
        memory.resize(positions.len() * head_dim, 0.0);
        let rows = part_of(self.numbers, &positions, head_dim).chunks_exact(head_dim);
        let rows = rows.zip(&self.scales[positions]);
        for (out, (row, scale)) in memory.chunks_exact_mut(head_dim).zip(rows) {
            for (out, x) in out.iter_mut().zip(row) {
                *out = f32::from(*x) * scale;
            }
        }
        memory
    }
}

#[inline(always)]
fn attend_rows<R: Rows>(
    group: CachedGroup<'_>,
    both: [R; 2],
    part: &mut [f32],
    scratch: &mut CachedScratch,
) {
    let CachedGroup {
        queries,
        start,
        end,
        head_dim,
        ..
    } = group;
    let [keys, values] = both;
    let CachedScratch { scores, wide } = scratch;
    assert!(start < end, "no position from {start} to {end}");
    let (seen, heads) = (end - start, queries.len() / head_dim);
    assert_eq!(part.len(), part_len(heads, head_dim), "the part's size");
    let scale = 1.0 / (head_dim as f32).sqrt();
    scores.resize(heads * seen, 0.0);
    // Keys outside, heads inside: keys are read once, from all over the KV cache, while the few queries stay in
    // the first-level cache.
    for at in 0..seen {
        let position = start + at;
        let key = keys.exact(position..position + 1, head_dim, wide);
        for (head, query) in queries.chunks_exact(head_dim).enumerate() {
            scores[head * seen + at] = scale * sum_pairs(query, key, |q, k| q * k);
        }
    }
    let (mixed, sums) = part.split_at_mut(queries.len());
    for (scores, sums) in scores.chunks_exact_mut(seen).zip(sums.chunks_exact_mut(2)) {
        let found = math::softmax(scores);
        sums[0] = found.largest;
        sums[1] = found.sum;
    }
    mixed.fill(0.0);
    for first in (0..seen).step_by(AT_ONCE) {
        let last = (first + AT_ONCE).min(seen);
        let values = values.exact(start + first..start + last, head_dim, wide);
        let heads = mixed.chunks_exact_mut(head_dim);
        for (out, p) in heads.zip(scores.chunks_exact(seen)) {
            add_weighted(out, &p[first..last], values);
        }
    }
}

/// `out += sum(p[i] * rows[i])` over at most [`AT_ONCE`] rows.
#[inline(always)]
fn add_weighted(out: &mut [f32], p: &[f32], rows: &[f32]) {
    let width = out.len();
    if p.len() < AT_ONCE {
        for (row, p) in rows.chunks_exact(width).zip(p) {
            for (out, x) in out.iter_mut().zip(row) {
                *out += p * x;
            }
        }
        return;
    }
    let (first, second) = rows.split_at(2 * width);
    let ((a, b), (c, d)) = (first.split_at(width), second.split_at(width));
    let four = a.iter().zip(b).zip(c.iter().zip(d));
    for (out, ((a, b), (c, d))) in out.iter_mut().zip(four) {
        *out += (p[0] * a + p[1] * b) + (p[2] * c + p[3] * d);
    }
}

/// Attention over all positions from that over blocks of them: what [`attend`] wrote, one block after the other. A
/// block of zeros saw nothing.
///
/// # Shapes
/// - `out`: `[H, E]`; `parts`: [`part_len`] numbers for each block
#[multiversion(targets = "simd")]
pub fn merge(out: &mut [f32], parts: &[f32], head_dim: usize) {
    let heads = out.len() / head_dim;
    let len = part_len(heads, head_dim);
    let sums_at = heads * head_dim;
    for (head, out) in out.chunks_exact_mut(head_dim).enumerate() {
        let at = sums_at + 2 * head;
        let mut most = f32::NEG_INFINITY;
        for part in parts.chunks_exact(len) {
            if part[at + 1] != 0.0 {
                most = most.max(part[at]);
            }
        }
        let mut total = 0.0;
        for part in parts.chunks_exact(len) {
            total += part[at + 1] * exp(part[at] - most);
        }
        out.fill(0.0);
        for part in parts.chunks_exact(len) {
            if part[at + 1] == 0.0 {
                continue;
            }
            // 1 for the only block.
            let weight = part[at + 1] * exp(part[at] - most) / total;
            for (out, x) in out.iter_mut().zip(&part[head * head_dim..]) {
                *out += weight * x;
            }
        }
    }
}

/// Rounds a row to int8 and returns its scale. Rubbish (NaN) in a row, or infinity, makes its scale rubbish.
///
/// # Panics
/// If sizes differ.
pub fn round_row(out: &mut [i8], x: &[f32]) -> f32 {
    assert_eq!(out.len(), x.len(), "a row's size");
    let most = x.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    let inverse = if most < LEAST { 0.0 } else { 127.0 / most };
    for (out, x) in out.iter_mut().zip(x) {
        *out = nearest_byte(x * inverse).cast_signed();
    }
    if x.iter().all(|x| x.is_finite()) {
        most / 127.0
    } else {
        f32::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_DIM: usize = 20;
    const POSITIONS: usize = 43;
    const HEADS: usize = 3;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin() * 2.0).collect()
    }

    /// Attention over a range of positions by the plain formula.
    fn plain(queries: &[f32], keys: &[f32], values: &[f32], seen: Range<usize>) -> Vec<f64> {
        let mut all = Vec::new();
        for query in queries.chunks(HEAD_DIM) {
            let score = |position: usize| -> f64 {
                let key = &keys[position * HEAD_DIM..][..HEAD_DIM];
                let products = query.iter().zip(key).map(|(q, k)| f64::from(q * k));
                products.sum::<f64>() / (HEAD_DIM as f64).sqrt()
            };
            let weights: Vec<f64> = seen.clone().map(|at| score(at).exp()).collect();
            let sum: f64 = weights.iter().sum();
            for column in 0..HEAD_DIM {
                let value = |at: usize| f64::from(values[at * HEAD_DIM + column]);
                let products = weights
                    .iter()
                    .zip(seen.clone())
                    .map(|(w, at)| w * value(at));
                all.push(products.sum::<f64>() / sum);
            }
        }
        all
    }

    /// Attention in blocks of `step` positions, joined with two empty blocks.
    fn in_blocks(queries: &[f32], cached: Cached<'_>, seen: Range<usize>, step: usize) -> Vec<f32> {
        let len = part_len(HEADS, HEAD_DIM);
        let mut parts = vec![0.0; len];
        let mut scratch = CachedScratch::default();
        for start in seen.clone().step_by(step) {
            let group = CachedGroup {
                queries,
                cached,
                start,
                end: (start + step).min(seen.end),
                head_dim: HEAD_DIM,
            };
            let mut part = vec![7.0; len];
            attend(group, &mut part, &mut scratch);
            parts.extend(part);
        }
        parts.resize(parts.len() + len, 0.0);
        let mut out = vec![9.0; queries.len()];
        merge(&mut out, &parts, HEAD_DIM);
        out
    }

    /// Keys and values as int8, and what they are then.
    fn rounded(x: &[f32]) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
        let (mut bytes, mut scales, mut exact) = (vec![0; x.len()], Vec::new(), Vec::new());
        for (out, row) in bytes.chunks_mut(HEAD_DIM).zip(x.chunks(HEAD_DIM)) {
            let scale = round_row(out, row);
            for (byte, x) in out.iter().zip(row) {
                let got = f32::from(*byte) * scale;
                // Half a step, and what float32 leaves of 127 steps.
                assert!((got - x).abs() <= scale * 0.501, "{got} for {x}");
                exact.push(got);
            }
            scales.push(scale);
        }
        (bytes, scales, exact)
    }

    #[test]
    fn attention_is_the_formula_in_every_type_and_in_blocks() {
        let queries = numbers(HEADS * HEAD_DIM, 0.37);
        let [keys, values] = [0.7, 1.3].map(|seed| numbers(POSITIONS * HEAD_DIM, seed));
        let narrow = [&keys, &values]
            .map(|x| -> Vec<bf16> { x.iter().map(|x| bf16::from_f32(*x)).collect() });
        let narrow_exact = [&narrow[0], &narrow[1]]
            .map(|x| -> Vec<f32> { x.iter().map(|x| x.to_f32()).collect() });
        let bytes = [&keys, &values].map(|x| rounded(x));
        let int8 = [&bytes[0], &bytes[1]].map(|(numbers, scales, _)| Int8Rows { numbers, scales });
        let cases = [
            (Cached::F32([&keys, &values]), [&keys, &values]),
            (
                Cached::Bf16([&narrow[0], &narrow[1]]),
                [&narrow_exact[0], &narrow_exact[1]],
            ),
            (Cached::Int8(int8), [&bytes[0].2, &bytes[1].2]),
        ];
        for (cached, exact) in cases {
            for seen in [0..1, 0..POSITIONS, 5..POSITIONS, 7..12] {
                let expected = plain(&queries, exact[0], exact[1], seen.clone());
                for step in [POSITIONS, 8, 5, 1] {
                    let got = in_blocks(&queries, cached, seen.clone(), step);
                    for (got, expected) in got.iter().zip(&expected) {
                        // Values up to 2; float32 sums of 43 products, and of 20 in each score.
                        let error = (f64::from(*got) - expected).abs();
                        assert!(error < 1e-4, "{seen:?} by {step}: {got} for {expected}");
                    }
                }
            }
            let (mut wide_keys, mut wide_values) = (vec![5.0; 3], Vec::new());
            widen(cached, 4..9, HEAD_DIM, &mut wide_keys, &mut wide_values);
            assert_eq!(wide_keys, exact[0][4 * HEAD_DIM..9 * HEAD_DIM]);
            assert_eq!(wide_values, exact[1][4 * HEAD_DIM..9 * HEAD_DIM]);
        }
    }

    #[test]
    #[should_panic(expected = "no position from 5 to 5")]
    fn attention_to_nothing_says_so() {
        let group = CachedGroup {
            queries: &[0.0; HEAD_DIM],
            cached: Cached::F32([&[], &[]]),
            start: 5,
            end: 5,
            head_dim: HEAD_DIM,
        };
        let mut part = vec![0.0; part_len(1, HEAD_DIM)];
        attend(group, &mut part, &mut CachedScratch::default());
    }

    #[test]
    fn rubbish_shows_and_zeros_stay_zeros() {
        let mut out = [7; 4];
        assert_eq!(round_row(&mut out, &[0.0; 4]), 0.0);
        assert_eq!(out, [0; 4]);
        assert!(round_row(&mut out, &[1.0, f32::NAN, 0.0, 2.0]).is_nan());
        assert!(round_row(&mut out, &[1.0, f32::INFINITY, 0.0, 2.0]).is_nan());
        assert_eq!(round_row(&mut out, &[-63.5, 31.75, 0.0, 0.5]), 0.5);
        assert_eq!(out, [-127, 64, 0, 1]);
    }
}
