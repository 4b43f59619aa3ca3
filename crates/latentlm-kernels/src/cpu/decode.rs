//! Attention of new positions over a KV cache. Keys and values are written and read within the cache. (Burn's
//! attention copies the filled part of the cache, in each layer and for each position.) There is no gradient,
//! because no training goes through a cache.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use latentlm_products::{Matrix, Output, product_into};
use multiversion::multiversion;
use rayon::prelude::*;

use super::attention::{Rotation, Shape, TileMask, softmax, tiles, turn_heads};
use super::math::{self, sum_pairs};
use super::plain::{plain, wrapped};
use super::storage::{contiguous, numbers, owned, sizes, tensor};
use crate::mask::Mask;
use crate::types::{KeysValues, PackedHeads};

/// Smallest number of multiplications for which a step is worth all threads.
const PARALLEL: usize = 512 * 1024;

/// Value rows that are added in one pass over the sum, which is then read and written a quarter as often.
const AT_ONCE: usize = 4;

/// Inputs of a call beside the cache.
#[derive(Debug)]
pub(crate) struct CachedInputs<'a> {
    /// `[batch, length, (heads + 2 kv_heads) head_dim]`
    pub(crate) packed: FlexTensor,
    /// Cosines of the rotation, `[length, head_dim / 2]`.
    pub(crate) cos: FlexTensor,
    /// Sines of the rotation, `[length, head_dim / 2]`.
    pub(crate) sin: FlexTensor,
    /// Whether the rotation turns neighboring numbers, see [`Rotation`].
    pub(crate) interleaved: bool,
    pub(crate) heads: PackedHeads,
    /// Number of cached positions.
    pub(crate) start: usize,
    /// Number of padding positions of each sequence, `[batch]`; empty if there is no padding.
    pub(crate) padding: &'a [usize],
}

/// The result of attention, `[batch, length, heads * head_dim]`, and the cache with the new keys and values.
pub(crate) fn cached_attention(
    inputs: &CachedInputs<'_>,
    cache: KeysValues,
) -> (Tensor<3>, KeysValues) {
    let [packed, cos, sin] =
        [&inputs.packed, &inputs.cos, &inputs.sin].map(|x| contiguous(x.clone()));
    let [mut keys, mut values] = [cache.keys, cache.values]
        .map(|x| owned(plain(x).expect("the caller checks that the cache is on the CPU")));
    let [batch, length, _] = sizes(&packed);
    let [cached, kv_heads, capacity, head_dim] = sizes(&keys);
    assert_eq!(cached, batch, "sequences of the cache and of the step");
    let step = Step {
        packed: numbers(&packed),
        rotation: Rotation {
            cos: numbers(&cos),
            sin: numbers(&sin),
            interleaved: inputs.interleaved,
        },
        shape: Shape {
            batch,
            length,
            heads: inputs.heads.heads,
            kv_heads,
            head_dim,
        },
        start: inputs.start,
        capacity,
        padding: inputs.padding,
    };
    let queries = step.write_cache(keys.storage_mut(), values.storage_mut());
    let filled = Filled {
        step,
        queries: &queries,
        keys: keys.storage(),
        values: values.storage(),
    };
    let mixed = if length == 1 {
        filled.attend_once()
    } else {
        filled.attend_many()
    };
    let mixed = tensor(mixed, [batch, length, step.shape.heads * head_dim]);
    let cache = KeysValues {
        keys: wrapped(keys),
        values: wrapped(values),
    };
    (wrapped(mixed), cache)
}

/// [`CachedInputs`] as slices. The length in the shape is that of the new positions.
#[derive(Clone, Copy)]
struct Step<'a> {
    packed: &'a [f32],
    rotation: Rotation<'a>,
    shape: Shape,
    /// Number of cached positions.
    start: usize,
    /// Positions that the cache has room for.
    capacity: usize,
    padding: &'a [usize],
}

impl Step<'_> {
    /// Query heads that share a key/value head.
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Padding of a sequence.
    fn padding(&self, sequence: usize) -> usize {
        self.padding.get(sequence).copied().unwrap_or(0)
    }

    /// A range of positions of a key/value head in the cache. Heads are counted over all sequences.
    fn cached<'c>(&self, cache: &'c [f32], head: usize, positions: Range<usize>) -> &'c [f32] {
        let (first, width) = (head * self.capacity, self.shape.head_dim);
        &cache[(first + positions.start) * width..(first + positions.end) * width]
    }

    /// Whether the work on all new positions is worth several threads.
    fn is_large(&self) -> bool {
        let Shape {
            batch,
            length,
            heads,
            head_dim,
            ..
        } = self.shape;
        2 * batch * heads * length * (self.start + length) * head_dim >= PARALLEL
    }

    /// Rotates queries and keys and writes keys and values into the cache. Returns the rotated queries,
    /// `[batch, length, heads * head_dim]`.
    fn write_cache(&self, keys: &mut [f32], values: &mut [f32]) -> Vec<f32> {
        let shape = self.shape;
        let width = shape.head_dim;
        let mut row = vec![0.0; (shape.heads + shape.kv_heads) * width];
        let rows = shape.batch * shape.length;
        let mut queries = Vec::with_capacity(rows * shape.heads * width);
        for (index, packed) in self.packed.chunks_exact(shape.packed()).enumerate() {
            let (sequence, position) = (index / shape.length, index % shape.length);
            let (turned, fresh) = packed.split_at(row.len());
            row.copy_from_slice(turned);
            turn_heads(self.rotation.from(position, width), &mut row, width);
            let (q, k) = row.split_at(shape.heads * width);
            queries.extend_from_slice(q);
            let heads = k.chunks_exact(width).zip(fresh.chunks_exact(width));
            for (head, (key, value)) in heads.enumerate() {
                let slot = (sequence * shape.kv_heads + head) * self.capacity;
                let at = (slot + self.start + position) * width;
                keys[at..at + width].copy_from_slice(key);
                values[at..at + width].copy_from_slice(value);
            }
        }
        queries
    }
}

/// A step after its keys and values were written into the cache.
#[derive(Clone, Copy)]
struct Filled<'a> {
    step: Step<'a>,
    /// Rotated queries, `[batch, length, heads * head_dim]`.
    queries: &'a [f32],
    /// `[batch, kv_heads, capacity, head_dim]`
    keys: &'a [f32],
    /// `[batch, kv_heads, capacity, head_dim]`
    values: &'a [f32],
}

impl Filled<'_> {
    /// Attention of one new position in each sequence.
    // A query is a single vector here. A matrix product with it does too little work for the copies that it begins
    // with; several positions, as in a prompt, are worth products.
    fn attend_once(&self) -> Vec<f32> {
        let step = self.step;
        let Shape {
            kv_heads, head_dim, ..
        } = step.shape;
        let width = step.group() * head_dim;
        let mut out = vec![0.0; self.queries.len()];
        // The query heads that share a key/value head are neighbors in queries and results.
        let attend = |scores: &mut Vec<f32>, (head, out): (usize, &mut [f32])| {
            let padding = step.padding(head / kv_heads);
            // A query that is padding itself sees all: a softmax needs at least one key.
            let begin = if step.start < padding { 0 } else { padding };
            let seen = begin..step.start + 1;
            scores.resize(step.group() * seen.len(), 0.0);
            let group = Group {
                queries: &self.queries[head * width..][..width],
                keys: step.cached(self.keys, head, seen.clone()),
                values: step.cached(self.values, head, seen),
                head_dim,
            };
            attend_group(group, scores, out);
        };
        if step.is_large() {
            let heads = out.par_chunks_mut(width).enumerate();
            heads.for_each_init(Vec::new, attend);
        } else {
            let mut scores = Vec::new();
            for head in out.chunks_exact_mut(width).enumerate() {
                attend(&mut scores, head);
            }
        }
        out
    }

    /// Attention of several new positions. None of them sees the positions behind it.
    fn attend_many(&self) -> Vec<f32> {
        let Shape {
            batch,
            length,
            heads,
            head_dim,
            ..
        } = self.step.shape;
        // The result of a head is contiguous at first, so that each head can be a task of its own.
        let mut mixed = vec![0.0; self.queries.len()];
        let size = length * head_dim;
        let attend = |scores: &mut Vec<f32>, (head, out): (usize, &mut [f32])| {
            self.attend_head(head, scores, out);
        };
        if self.step.is_large() {
            let heads = mixed.par_chunks_mut(size).enumerate();
            heads.for_each_init(Vec::new, attend);
        } else {
            let mut scores = Vec::new();
            for head in mixed.chunks_exact_mut(size).enumerate() {
                attend(&mut scores, head);
            }
        }
        let mut out = Vec::with_capacity(mixed.len());
        for row in 0..batch * length {
            let (sequence, position) = (row / length, row % length);
            for head in 0..heads {
                let at = ((sequence * heads + head) * length + position) * head_dim;
                out.extend_from_slice(&mixed[at..at + head_dim]);
            }
        }
        out
    }

    /// Attention of one query head, counted over all sequences, into `out`, `[length, head_dim]`. `scores` is
    /// memory that is reused.
    fn attend_head(&self, head: usize, scores: &mut Vec<f32>, out: &mut [f32]) {
        let step = self.step;
        let Shape {
            length,
            heads,
            head_dim,
            ..
        } = step.shape;
        let (sequence, width) = (head / heads, heads * head_dim);
        let at = sequence * length * width + head % heads * head_dim;
        let queries = Matrix::strided(&self.queries[at..], length, head_dim, width);
        let end = step.start + length;
        let [keys, values] = [self.keys, self.values].map(|cache| {
            let rows = step.cached(cache, head / step.group(), 0..end);
            Matrix::new(rows, end, head_dim)
        });
        for tile in tiles(Mask::causal(length)) {
            let (rows, seen) = (tile.rows(), step.start + tile.width);
            scores.resize(rows * seen, 0.0);
            let queries = queries.row_range(tile.start..tile.end);
            let keys = keys.row_range(0..seen).transposed();
            let output = Output::replace(seen).scaled(step.shape.scale());
            product_into(scores, output, queries, keys);
            let mask = TileMask {
                first: step.start + tile.start,
                document: Mask::causal(end),
                padding: step.padding(sequence),
            };
            softmax(scores, seen, mask);
            let p = Matrix::new(scores, rows, seen);
            let out = &mut out[tile.start * head_dim..tile.end * head_dim];
            product_into(out, Output::replace(head_dim), p, values.row_range(0..seen));
        }
    }
}

/// The query heads that share a key/value head, at one position, with the keys and values that they see.
#[derive(Clone, Copy)]
struct Group<'a> {
    /// `[H / G, head_dim]`
    queries: &'a [f32],
    /// `[seen, head_dim]`
    keys: &'a [f32],
    /// `[seen, head_dim]`
    values: &'a [f32],
    head_dim: usize,
}

/// Attention of a group into `out`, `[H / G, head_dim]`. `scores` is memory for `[H / G, seen]` numbers.
///
/// Keys and values are read once for all heads, and directly from the cache. A matrix product would copy
/// all keys first, only to read the copy once.
#[multiversion(targets = "simd")]
fn attend_group(group: Group<'_>, scores: &mut [f32], out: &mut [f32]) {
    let Group {
        queries,
        keys,
        values,
        head_dim,
    } = group;
    let (seen, scale) = (keys.len() / head_dim, 1.0 / (head_dim as f32).sqrt());
    // Keys outside, heads inside: keys are read once, from all over the KV cache, while the few queries stay in
    // the first-level cache.
    for (at, key) in keys.chunks_exact(head_dim).enumerate() {
        for (head, query) in queries.chunks_exact(head_dim).enumerate() {
            scores[head * seen + at] = scale * sum_pairs(query, key, |q, k| q * k);
        }
    }
    for scores in scores.chunks_exact_mut(seen) {
        math::softmax(scores);
    }
    for (index, values) in values.chunks(AT_ONCE * head_dim).enumerate() {
        for (out, p) in out
            .chunks_exact_mut(head_dim)
            .zip(scores.chunks_exact(seen))
        {
            add_weighted(out, &p[index * AT_ONCE..], values);
        }
    }
}

/// `out += sum(p[i] * rows[i])` over at most [`AT_ONCE`] rows.
#[inline(always)]
fn add_weighted(out: &mut [f32], p: &[f32], rows: &[f32]) {
    let width = out.len();
    if rows.len() < AT_ONCE * width {
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
