//! Attention of new positions over cached keys and values, which are written and read where they lie.
//! Without a gradient: nobody trains through a cache.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use multiversion::multiversion;
use rayon::prelude::*;

use super::attention::{Rotation, Shape, Window, softmax, tiles, turn_heads};
use super::backend::{contiguous, numbers, owned, sizes, tensor};
use super::math::{self, sum_pairs};
use super::matrix::{Matrix, product_into};
use super::plain::{plain, wrapped};
use crate::attention::{PackedHeads, Sight};

/// Multiplications from which on a step is worth all threads.
const PARALLEL: usize = 512 * 1024;

/// Values that are added up at once: so often fewer is the sum read and written.
const AT_ONCE: usize = 4;

/// What a call is given beside the cache.
#[derive(Debug)]
pub(crate) struct CachedInputs<'a> {
    /// `[batch, length, (heads + 2 kv_heads) head_dim]`
    pub(crate) packed: FlexTensor,
    /// `[length, head_dim / 2]`
    pub(crate) cos: FlexTensor,
    pub(crate) sin: FlexTensor,
    pub(crate) interleaved: bool,
    pub(crate) heads: PackedHeads,
    /// Positions that are cached.
    pub(crate) start: usize,
    /// Of each sequence; empty where there is none.
    pub(crate) padding: &'a [usize],
}

/// Mixed values `[batch, length, heads * head_dim]`, and the cache with the new keys and values.
pub(crate) fn cached_attention(
    inputs: &CachedInputs<'_>,
    cache: [Tensor<4>; 2],
) -> (Tensor<3>, [Tensor<4>; 2]) {
    let [packed, cos, sin] =
        [&inputs.packed, &inputs.cos, &inputs.sin].map(|x| contiguous(x.clone()));
    let [mut keys, mut values] =
        cache.map(|x| owned(plain(x).expect("the caller has looked where the cache lies")));
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
    let queries = step.enter([keys.storage_mut(), values.storage_mut()]);
    let cache = [keys.storage(), values.storage()];
    let mixed = match length {
        1 => step.attend_once(&queries, cache),
        _ => step.attend_many(&queries, cache),
    };
    let mixed = tensor(mixed, [batch, length, step.shape.heads * head_dim]);
    (wrapped(mixed), [keys, values].map(wrapped))
}

/// [`CachedInputs`] as numbers; the shape's length is that of the new positions.
#[derive(Clone, Copy)]
struct Step<'a> {
    packed: &'a [f32],
    rotation: Rotation<'a>,
    shape: Shape,
    start: usize,
    capacity: usize,
    padding: &'a [usize],
}

impl Step<'_> {
    /// Query heads of a key/value head.
    fn group(&self) -> usize {
        self.shape.heads / self.shape.kv_heads
    }

    /// Padding of a sequence.
    fn padding(&self, sequence: usize) -> usize {
        self.padding.get(sequence).copied().unwrap_or(0)
    }

    /// Some positions of a key/value head, counted over all sequences, in the cache.
    fn cached<'c>(&self, cache: &'c [f32], head: usize, [from, to]: [usize; 2]) -> &'c [f32] {
        let (first, width) = (head * self.capacity, self.shape.head_dim);
        &cache[(first + from) * width..(first + to) * width]
    }

    /// Whether several threads should share the work of all new positions.
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

    /// Rotated queries, `[batch, length, heads * head_dim]`; keys and values go into the cache.
    fn enter(&self, [keys, values]: [&mut [f32]; 2]) -> Vec<f32> {
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

    /// One new position a sequence.
    fn attend_once(&self, queries: &[f32], [keys, values]: [&[f32]; 2]) -> Vec<f32> {
        let width = self.group() * self.shape.head_dim;
        let mut out = vec![0.0; queries.len()];
        // Heads of all sequences: those of a group stand side by side in queries and results.
        let attend = |scores: &mut Vec<f32>, (head, out): (usize, &mut [f32])| {
            let padding = self.padding(head / self.shape.kv_heads);
            let begin = if self.start < padding { 0 } else { padding };
            let seen = [begin, self.start + 1];
            let cache = [keys, values].map(|cache| self.cached(cache, head, seen));
            let queries = &queries[head * width..][..width];
            scores.resize(self.group() * (seen[1] - begin), 0.0);
            attend_group(queries, cache, self.shape.head_dim, scores, out);
        };
        if self.is_large() {
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

    /// Several new positions, of which none sees those behind it.
    fn attend_many(&self, queries: &[f32], cache: [&[f32]; 2]) -> Vec<f32> {
        let Shape {
            batch,
            length,
            heads,
            head_dim,
            ..
        } = self.shape;
        // A head after the other first, so that each is a task of its own.
        let mut mixed = vec![0.0; queries.len()];
        let part = length * head_dim;
        let attend = |scores: &mut Vec<f32>, (head, out): (usize, &mut [f32])| {
            self.attend_head(queries, cache, head, (scores, out));
        };
        if self.is_large() {
            let heads = mixed.par_chunks_mut(part).enumerate();
            heads.for_each_init(Vec::new, attend);
        } else {
            let mut scores = Vec::new();
            for head in mixed.chunks_exact_mut(part).enumerate() {
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

    /// One head, counted over all sequences, into `[length, head_dim]`.
    fn attend_head(
        &self,
        queries: &[f32],
        cache: [&[f32]; 2],
        head: usize,
        (scores, out): (&mut Vec<f32>, &mut [f32]),
    ) {
        let Shape {
            length,
            heads,
            head_dim,
            ..
        } = self.shape;
        let (sequence, width) = (head / heads, heads * head_dim);
        let at = sequence * length * width + head % heads * head_dim;
        let queries = Matrix::strided(&queries[at..], length, head_dim, width);
        let end = self.start + length;
        let [keys, values] = cache.map(|cache| {
            let rows = self.cached(cache, head / self.group(), [0, end]);
            Matrix::new(rows, end, head_dim)
        });
        for tile in tiles(Sight::causal(length)) {
            let (rows, seen) = (tile.rows(), self.start + tile.width);
            scores.resize(rows * seen, 0.0);
            let queries = queries.part(tile.start..tile.end);
            let keys = keys.part(0..seen).transposed();
            product_into(scores, seen, false, self.shape.scale(), [queries, keys]);
            let window = Window {
                first: self.start + tile.start,
                sight: Sight::causal(end),
                padding: self.padding(sequence),
            };
            softmax(scores, seen, window);
            let p = Matrix::new(scores, rows, seen);
            let out = &mut out[tile.start * head_dim..tile.end * head_dim];
            product_into(out, head_dim, false, 1.0, [p, values.part(0..seen)]);
        }
    }
}

/// One query of each head of a group over the keys and values that it sees, `scores` being memory for
/// as many numbers. Both are read once for all heads, and where they lie: a matrix product would copy
/// all keys before it reads them once.
#[multiversion(targets = "simd")]
fn attend_group(
    queries: &[f32],
    [keys, values]: [&[f32]; 2],
    head_dim: usize,
    scores: &mut [f32],
    out: &mut [f32],
) {
    let (seen, scale) = (keys.len() / head_dim, 1.0 / (head_dim as f32).sqrt());
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
