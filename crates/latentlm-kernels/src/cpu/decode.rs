//! Attention of new positions over a KV cache. Keys and values are written and read within the cache. (Burn's
//! attention copies the filled part of the cache, in each layer and for each position.) There is no gradient,
//! because no training goes through a cache.

use std::ops::Range;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Int, Tensor, bf16};
use latentlm_products::cached::{
    Cached, CachedGroup, CachedScratch, Int8Rows, attend, merge, part_len, round_row, widen,
};
use latentlm_products::rotary::{self, Rotation};
use latentlm_products::{Matrix, Output, product_into};
use rayon::prelude::*;

use super::attention::{Shape, TileMask, softmax, tiles};
use super::plain::wrapped;
use super::storage::{contiguous, numbers, owned, sizes, tensor};
use crate::cache::KeysValues;
use crate::fallback::kernels_allowed;
use crate::mask::Mask;
use crate::support::is_plain;
use crate::types::PackedHeads;

/// Smallest number of multiplications for which a step is worth all threads.
const PARALLEL: usize = 512 * 1024;

/// Cached positions that one thread takes at a time when a single position attends to them. It does not depend on the
/// number of threads, so that results don't.
const BLOCK: usize = 512;

/// Message of a broken promise of the caller.
const ON_CPU: &str = "the caller checks that the cache is on the CPU";

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
    let [batch, length, _] = sizes(&packed);
    let [cached, kv_heads, capacity, head_dim] = cache.dims();
    let mut buffers = Buffers::of(cache);
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
    let queries = step.write_cache(&mut buffers);
    let filled = Filled {
        step,
        queries: &queries,
        buffers: &buffers,
    };
    let mixed = if length == 1 {
        filled.attend_once()
    } else {
        filled.attend_many()
    };
    let mixed = tensor(mixed, [batch, length, step.shape.heads * head_dim]);
    (wrapped(mixed), buffers.into_cache())
}

/// Whether the kernel can work on a cache where it lies.
pub(crate) fn covers_cache(cache: &KeysValues) -> bool {
    let is_there = match cache {
        KeysValues::Float(both) => both
            .iter()
            .all(|x| is_plain(x) && matches!(x.dtype(), DType::F32 | DType::BF16)),
        KeysValues::Int8 { numbers, scales } => {
            numbers.iter().all(|x| x.dtype() == DType::I8) && scales.iter().all(is_plain)
        }
    };
    is_there && kernels_allowed()
}

/// Keys and values of a cache, each in memory of its own.
struct Buffers {
    /// float32, bfloat16 or int8, `[batch, kv_heads, capacity, head_dim]` each.
    numbers: [FlexTensor; 2],
    /// float32, `[batch, kv_heads, capacity, 1]` each, if the numbers are int8.
    scales: Option<[FlexTensor; 2]>,
}

impl Buffers {
    fn of(cache: KeysValues) -> Self {
        let float = |x: Tensor<4>| owned(x.try_into_primitive::<Flex>().expect(ON_CPU));
        match cache {
            KeysValues::Float(both) => Self {
                numbers: both.map(float),
                scales: None,
            },
            KeysValues::Int8 { numbers, scales } => Self {
                numbers: numbers.map(|x| owned(x.try_into_primitive::<Flex>().expect(ON_CPU))),
                scales: Some(scales.map(float)),
            },
        }
    }

    fn into_cache(self) -> KeysValues {
        match self.scales {
            None => KeysValues::Float(self.numbers.map(wrapped)),
            Some(scales) => KeysValues::Int8 {
                numbers: self.numbers.map(Tensor::<4, Int>::from_primitive::<Flex>),
                scales: scales.map(wrapped),
            },
        }
    }

    /// Writes a key and a value. Rows are counted over all heads of all sequences.
    fn write(&mut self, row: usize, both: [&[f32]; 2]) {
        for (index, (numbers, x)) in self.numbers.iter_mut().zip(both).enumerate() {
            let at = row * x.len()..(row + 1) * x.len();
            match (&mut self.scales, numbers.dtype()) {
                (Some(scales), _) => {
                    let numbers: &mut [i8] = numbers.storage_mut();
                    scales[index].storage_mut::<f32>()[row] = round_row(&mut numbers[at], x);
                }
                (None, DType::BF16) => {
                    let numbers: &mut [bf16] = numbers.storage_mut();
                    for (out, x) in numbers[at].iter_mut().zip(x) {
                        *out = bf16::from_f32(*x);
                    }
                }
                _ => numbers.storage_mut::<f32>()[at].copy_from_slice(x),
            }
        }
    }

    /// Keys and values of a key/value head. Heads are counted over all sequences.
    fn head(&self, head: usize) -> Cached<'_> {
        let [_, _, capacity, head_dim] = sizes(&self.numbers[0]);
        let rows = head * capacity..(head + 1) * capacity;
        let part = rows.start * head_dim..rows.end * head_dim;
        let both = self.numbers.each_ref();
        match &self.scales {
            Some(scales) => Cached::Int8([0, 1].map(|index| Int8Rows {
                numbers: &both[index].storage::<i8>()[part.clone()],
                scales: &scales[index].storage::<f32>()[rows.clone()],
            })),
            None if both[0].dtype() == DType::BF16 => {
                Cached::Bf16(both.map(|x| &x.storage::<bf16>()[part.clone()]))
            }
            None => Cached::F32(both.map(|x| &x.storage::<f32>()[part.clone()])),
        }
    }
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

    /// The cached positions that the one new position of a sequence sees.
    fn seen(&self, sequence: usize) -> Range<usize> {
        let padding = self.padding(sequence);
        // A query that is padding itself sees all: a softmax needs at least one key.
        let begin = if self.start < padding { 0 } else { padding };
        begin..self.start + 1
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
    fn write_cache(&self, buffers: &mut Buffers) -> Vec<f32> {
        let shape = self.shape;
        let width = shape.head_dim;
        let mut row = vec![0.0; (shape.heads + shape.kv_heads) * width];
        let rows = shape.batch * shape.length;
        let mut queries = Vec::with_capacity(rows * shape.heads * width);
        for (index, packed) in self.packed.chunks_exact(shape.packed()).enumerate() {
            let (sequence, position) = (index / shape.length, index % shape.length);
            let (turned, fresh) = packed.split_at(row.len());
            let rotation = self.rotation.from(position, width);
            rotary::turn_heads(&mut row, turned, rotation, width);
            let (q, k) = row.split_at(shape.heads * width);
            queries.extend_from_slice(q);
            let heads = k.chunks_exact(width).zip(fresh.chunks_exact(width));
            for (head, (key, value)) in heads.enumerate() {
                let slot = (sequence * shape.kv_heads + head) * self.capacity;
                buffers.write(slot + self.start + position, [key, value]);
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
    buffers: &'a Buffers,
}

impl Filled<'_> {
    /// Attention of one new position in each sequence.
    // A query is a single vector here. A matrix product with it does too little work for the copies that it begins
    // with; several positions, as in a prompt, are worth products.
    fn attend_once(&self) -> Vec<f32> {
        let step = self.step;
        let Shape {
            batch,
            kv_heads,
            head_dim,
            ..
        } = step.shape;
        // The query heads that share a key/value head are neighbors in queries and results.
        let width = step.group() * head_dim;
        let len = part_len(step.group(), head_dim);
        // As many blocks as the longest sequence has: those that a shorter one lacks stay zeros.
        let most = (0..batch).map(|sequence| step.seen(sequence).len()).max();
        let blocks = most.unwrap_or(0).div_ceil(BLOCK).max(1);
        let mut parts = vec![0.0; batch * kv_heads * blocks * len];
        let run = |scratch: &mut CachedScratch, (index, part): (usize, &mut [f32])| {
            let (head, block) = (index / blocks, index % blocks);
            let seen = step.seen(head / kv_heads);
            let start = seen.start + block * BLOCK;
            if start < seen.end {
                let group = CachedGroup {
                    queries: &self.queries[head * width..][..width],
                    cached: self.buffers.head(head),
                    start,
                    end: (start + BLOCK).min(seen.end),
                    head_dim,
                };
                attend(group, part, scratch);
            }
        };
        if step.is_large() {
            let parts = parts.par_chunks_mut(len).enumerate();
            parts.for_each_init(CachedScratch::default, run);
        } else {
            let mut scratch = CachedScratch::default();
            for part in parts.chunks_exact_mut(len).enumerate() {
                run(&mut scratch, part);
            }
        }
        let mut out = vec![0.0; self.queries.len()];
        let heads = out.chunks_exact_mut(width);
        for (out, parts) in heads.zip(parts.chunks_exact(blocks * len)) {
            merge(out, parts, head_dim);
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
        let end = (self.step.start + length) * head_dim;
        let widened = self.widened();
        let run = |scores: &mut Vec<f32>, (head, out): (usize, &mut [f32])| {
            let group = head / self.step.group();
            let both = match self.buffers.head(group) {
                Cached::F32(both) => both.map(|x| &x[..end]),
                _ => widened[group].each_ref().map(Vec::as_slice),
            };
            self.attend_head(head, both, scores, out);
        };
        if self.step.is_large() {
            let heads = mixed.par_chunks_mut(size).enumerate();
            heads.for_each_init(Vec::new, run);
        } else {
            let mut scores = Vec::new();
            for head in mixed.chunks_exact_mut(size).enumerate() {
                run(&mut scores, head);
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

    /// Keys and values of each key/value head in float32, up to the last new position; nothing if the cache is float32.
    // All at once, so that the query heads that share them find them ready.
    fn widened(&self) -> Vec<[Vec<f32>; 2]> {
        let step = self.step;
        if self.buffers.numbers[0].dtype() == DType::F32 {
            return Vec::new();
        }
        let end = step.start + step.shape.length;
        let widened = |head: usize| {
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            let cached = self.buffers.head(head);
            widen(cached, 0..end, step.shape.head_dim, &mut keys, &mut values);
            [keys, values]
        };
        let heads = 0..step.shape.batch * step.shape.kv_heads;
        if step.is_large() {
            heads.into_par_iter().map(widened).collect()
        } else {
            heads.map(widened).collect()
        }
    }

    /// Attention of one query head, counted over all sequences, to keys and values up to the last new position, into
    /// `out`, `[length, head_dim]`.
    fn attend_head(&self, head: usize, both: [&[f32]; 2], scores: &mut Vec<f32>, out: &mut [f32]) {
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
        let [keys, values] = both.map(|x| Matrix::new(x, end, head_dim));
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
