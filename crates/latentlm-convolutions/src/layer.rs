//! The residual layer of a causal convolutional codec: `x += gamma * filter(norm(x))`, then
//! `x += ffn_gamma * down(gelu(up(ffn_norm(x))))`, where `filter` is a depthwise convolution (VibeVoice's
//! `VibeVoiceAcousticTokenizerConvNext1dLayer`).
//!
//! A block of rows passes the whole layer while it is in a core's cache: only the input, the result and what a gradient
//! needs are read from memory or written to it. Where rows are few or weights large, all threads share each product instead.

use multiversion::multiversion;
use rayon::prelude::*;

use super::signals::Signals;
use latentlm_products::Factor;
use latentlm_products::math::{gelu, inverse_rms};
use latentlm_products::tasks::rows_a_task;

/// Most numbers between the projections of a block: a quarter of a megabyte of the second-level cache.
pub(super) const NUMBERS_A_BLOCK: usize = 1 << 16;
/// Fewest rows that a block is planned with: a product lays out the weight for each, which takes as long as a few rows.
pub(super) const LEAST_ROWS: usize = 64;
/// Numbers of the largest weight that every block reads for itself: 4 MB.
pub(super) const LARGEST_WEIGHT: usize = 1 << 20;
/// Most rows whose products all threads share: it bounds the memory between them.
pub(super) const MOST_ROWS: usize = 512;
/// The number of blocks is a multiple of this one, so that each of a few threads gets as many as the others.
const BLOCKS: usize = 4;

/// The small parameters of a layer.
#[derive(Debug, Clone, Copy)]
pub struct LayerVectors<'a> {
    /// Weight of the first norm, `[width]`.
    pub norm: &'a [f32],
    /// Epsilon of the first norm.
    pub epsilon: f32,
    /// Filter of each channel, `[width, taps]`, oldest frame first.
    pub filter: &'a [f32],
    /// `[width]`
    pub filter_bias: &'a [f32],
    /// Scale of what the filters add, `[width]`.
    pub gamma: &'a [f32],
    /// Weight of the second norm, `[width]`.
    pub ffn_norm: &'a [f32],
    /// Epsilon of the second norm.
    pub ffn_epsilon: f32,
    /// `[inner]`
    pub up_bias: &'a [f32],
    /// `[width]`
    pub down_bias: &'a [f32],
    /// Scale of what the projections add, `[width]`.
    pub ffn_gamma: &'a [f32],
}

/// A residual layer and its input.
#[derive(Debug, Clone, Copy)]
pub struct ConvLayer<'a> {
    /// The input, and the input before it. All taps but the newest reach back.
    pub signals: Signals<'a>,
    /// The small parameters.
    pub vectors: LayerVectors<'a>,
    /// `[width, inner]`
    pub up: Factor<'a>,
    /// `[inner, width]`
    pub down: Factor<'a>,
}

/// Results of the forward pass. The backward pass needs all but `out`, and computes everything else again: that takes no
/// product.
#[derive(Debug)]
pub struct LayerFound {
    /// Result of the layer, `[batch, frames, width]`.
    pub out: Vec<f32>,
    /// The sum behind the filters, `[batch, frames, width]`.
    pub mixed: Vec<f32>,
    /// Inputs of GELU, `[batch, frames, inner]`.
    pub wide: Vec<f32>,
}

/// What all rows of a layer share.
pub(super) struct Shared {
    /// The filters times the weight of the norm, `[taps, width]`.
    filter: Vec<f32>,
    /// The factor of the first norm for each frame, `[batch, frames]`.
    inverses: Vec<f32>,
    /// That of each frame before, `[batch, reach]`, if there are any.
    past_inverses: Vec<f32>,
}

impl Shared {
    /// A frame of a signal, counted from the first of the past, and the factor of its norm; `None` if it is all zeros.
    #[inline(always)]
    pub(super) fn frame<'a>(
        &self,
        signals: Signals<'a>,
        signal: usize,
        index: usize,
    ) -> Option<(&'a [f32], f32)> {
        let x = signals.frame(signal, index)?;
        let inverse = if index < signals.reach {
            self.past_inverses[signal * signals.reach + index]
        } else {
            self.inverses[signal * signals.frames + index - signals.reach]
        };
        Some((x, inverse))
    }
}

/// How the rows of a layer are cut. It follows from sizes alone, so that results do not depend on the threads.
struct Plan {
    /// Rows of a block.
    step: usize,
    /// Whether a block passes the layer on one thread, or blocks follow each other and all threads share each.
    alone: bool,
}

/// A block of rows, and memory for what it becomes.
struct Block<'b> {
    /// First of the rows.
    first: usize,
    /// `[rows, width]`
    out: &'b mut [f32],
    /// See [`LayerFound`].
    mixed: &'b mut [f32],
    /// `[rows, inner]`
    wide: &'b mut [f32],
    /// What GELU makes of `wide`. Without it, it replaces `wide`.
    activated: Option<&'b mut [f32]>,
}

/// Memory that the blocks of a thread share.
#[derive(Default)]
struct Memory {
    narrow: Vec<f32>,
    wide: Vec<f32>,
    rounded: Vec<u32>,
}

/// The first `count` numbers of some memory, which grows if it is too small.
pub(super) fn room(memory: &mut Vec<f32>, count: usize) -> &mut [f32] {
    if memory.len() < count {
        memory.resize(count, 0.0);
    }
    &mut memory[..count]
}

impl ConvLayer<'_> {
    /// Rows of all signals.
    pub(super) fn rows(&self) -> usize {
        self.signals.batch * self.signals.frames
    }

    /// Numbers of a row between the projections.
    pub(super) fn inner(&self) -> usize {
        self.up.sizes()[1]
    }

    pub(super) fn taps(&self) -> usize {
        self.signals.reach + 1
    }

    /// The filters by tap, `[taps, width]`, each times the number of its channel in `scale`.
    // The channels of a frame lie side by side and each has weights of its own. In this order a vector instruction
    // multiplies as many channels as it has lanes.
    pub(super) fn filters_by_tap(&self, scale: &[f32]) -> Vec<f32> {
        let width = self.signals.width;
        let mut by_tap = vec![0.0; self.vectors.filter.len()];
        let filters = self.vectors.filter.chunks_exact(self.taps()).zip(scale);
        for (channel, (filter, scale)) in filters.enumerate() {
            for (tap, weight) in filter.iter().enumerate() {
                by_tap[tap * width + channel] = weight * scale;
            }
        }
        by_tap
    }

    pub(super) fn shared(&self) -> Shared {
        let Signals { x, past, width, .. } = self.signals;
        let epsilon = self.vectors.epsilon;
        Shared {
            filter: self.filters_by_tap(self.vectors.norm),
            inverses: inverses(x, width, epsilon),
            past_inverses: inverses(past.unwrap_or_default(), width, epsilon),
        }
    }

    /// Whether a core's cache holds no weight of this size beside a block.
    pub(super) fn is_large(&self) -> bool {
        self.signals.width * self.inner() > LARGEST_WEIGHT
    }

    fn plan(&self) -> Plan {
        let rows = self.rows();
        if rows < 2 * LEAST_ROWS || self.is_large() {
            return Plan {
                step: MOST_ROWS,
                alone: false,
            };
        }
        let most = (NUMBERS_A_BLOCK / self.inner()).max(LEAST_ROWS);
        let blocks = rows.div_ceil(most).next_multiple_of(BLOCKS);
        Plan {
            step: rows.div_ceil(blocks),
            alone: true,
        }
    }

    /// The result with what a gradient needs.
    pub fn forward(&self) -> LayerFound {
        let (rows, width, inner) = (self.rows(), self.signals.width, self.inner());
        let (shared, Plan { step, alone }) = (self.shared(), self.plan());
        let mut out = vec![0.0; rows * width];
        let mut mixed = vec![0.0; rows * width];
        let mut wide = vec![0.0; rows * inner];
        let blocks = out.par_chunks_mut(step * width);
        let blocks = blocks.zip(mixed.par_chunks_mut(step * width));
        let blocks = blocks.zip(wide.par_chunks_mut(step * inner)).enumerate();
        // Where threads share each block, the blocks follow each other.
        let at_once = if alone { 1 } else { usize::MAX };
        blocks.with_min_len(at_once).for_each_init(
            Memory::default,
            |memory, (index, ((out, mixed), wide))| {
                let Memory {
                    wide: activated,
                    rounded,
                    ..
                } = memory;
                let block = Block {
                    first: index * step,
                    out,
                    mixed,
                    activated: Some(room(activated, wide.len())),
                    wide,
                };
                self.run(&shared, block, rounded, alone);
            },
        );
        LayerFound { out, mixed, wide }
    }

    /// The result alone, `[batch, frames, width]`.
    pub fn infer(&self) -> Vec<f32> {
        let (rows, width, inner) = (self.rows(), self.signals.width, self.inner());
        let (shared, Plan { step, alone }) = (self.shared(), self.plan());
        let mut out = vec![0.0; rows * width];
        let blocks = out.par_chunks_mut(step * width).enumerate();
        let at_once = if alone { 1 } else { usize::MAX };
        blocks
            .with_min_len(at_once)
            .for_each_init(Memory::default, |memory, (index, out)| {
                let Memory {
                    narrow,
                    wide,
                    rounded,
                } = memory;
                let block = Block {
                    first: index * step,
                    mixed: room(narrow, out.len()),
                    wide: room(wide, out.len() / width * inner),
                    out,
                    activated: None,
                };
                self.run(&shared, block, rounded, alone);
            });
        out
    }

    /// All rows of a block through the layer: on this thread if `alone`, or else on all.
    fn run(&self, shared: &Shared, block: Block<'_>, rounded: &mut Vec<u32>, alone: bool) {
        let (width, inner, vectors) = (self.signals.width, self.inner(), self.vectors);
        let Block {
            first,
            out,
            mixed,
            wide,
            activated,
        } = block;
        // A single part is done at once, on this thread.
        let part = if alone {
            out.len() / width
        } else {
            rows_a_task(inner)
        };
        // `out` serves as memory for normalized rows.
        let parts = mixed.par_chunks_mut(part * width);
        let parts = parts.zip(out.par_chunks_mut(part * width)).enumerate();
        parts.for_each(|(index, (mixed, normed))| {
            mix(*self, shared, first + index * part, mixed, normed);
        });
        self.up.product_over(wide, out, rounded, alone);
        let rows = wide.par_chunks_mut(part * inner);
        match activated {
            Some(activated) => {
                let rows = rows.zip(activated.par_chunks_mut(part * inner));
                rows.for_each(|(wide, out)| activate_into(out, wide, vectors.up_bias));
                self.down.product_over(out, activated, rounded, alone);
            }
            None => {
                rows.for_each(|wide| activate(wide, vectors.up_bias));
                self.down.product_over(out, wide, rounded, alone);
            }
        }
        let parts = out.par_chunks_mut(part * width);
        parts
            .zip(mixed.par_chunks(part * width))
            .for_each(|(out, mixed)| add_residual(vectors, out, mixed));
    }
}

/// The factor of the norm of each row.
#[multiversion(targets = "simd")]
fn inverses(x: &[f32], width: usize, epsilon: f32) -> Vec<f32> {
    let mut out = vec![0.0; x.len() / width];
    let step = rows_a_task(width);
    out.par_chunks_mut(step)
        .zip(x.par_chunks(step * width))
        .for_each(|(out, x)| {
            for (out, x) in out.iter_mut().zip(x.chunks_exact(width)) {
                *out = inverse_rms(x, epsilon);
            }
        });
    out
}

/// The sums behind the filters for the rows from `first` on, and the same rows normalized.
#[multiversion(targets = "simd")]
fn mix(layer: ConvLayer<'_>, shared: &Shared, first: usize, mixed: &mut [f32], normed: &mut [f32]) {
    let ConvLayer {
        signals, vectors, ..
    } = layer;
    let Signals {
        x, frames, width, ..
    } = signals;
    let rows = mixed.chunks_exact_mut(width);
    for (index, (mixed, normed)) in rows.zip(normed.chunks_exact_mut(width)).enumerate() {
        let row = first + index;
        let (signal, frame) = (row / frames, row % frames);
        // Taps outside, channels inside: the sums of a frame stay in the first-level cache over all taps.
        mixed.copy_from_slice(vectors.filter_bias);
        for (tap, filter) in shared.filter.chunks_exact(width).enumerate() {
            if let Some((x, inverse)) = shared.frame(signals, signal, frame + tap) {
                for (mixed, (x, filter)) in mixed.iter_mut().zip(x.iter().zip(filter)) {
                    *mixed += x * inverse * filter;
                }
            }
        }
        let x = &x[row * width..][..width];
        for (mixed, (x, gamma)) in mixed.iter_mut().zip(x.iter().zip(vectors.gamma)) {
            *mixed = x + *mixed * gamma;
        }
        normalize(normed, mixed, vectors.ffn_norm, vectors.ffn_epsilon);
    }
}

/// Normalizes a row.
#[inline(always)]
pub(super) fn normalize(out: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32) {
    let inverse = inverse_rms(x, epsilon);
    for (out, (x, weight)) in out.iter_mut().zip(x.iter().zip(weight)) {
        *out = x * inverse * weight;
    }
}

/// `rows = gelu(rows + bias)`.
#[multiversion(targets = "simd")]
fn activate(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (x, bias) in row.iter_mut().zip(bias) {
            *x = gelu(*x + bias);
        }
    }
}

/// `rows += bias`, and `out = gelu(rows)`.
#[multiversion(targets = "simd")]
fn activate_into(out: &mut [f32], rows: &mut [f32], bias: &[f32]) {
    let width = bias.len();
    let rows = rows.chunks_exact_mut(width);
    for (out, row) in out.chunks_exact_mut(width).zip(rows) {
        for (out, (x, bias)) in out.iter_mut().zip(row.iter_mut().zip(bias)) {
            let sum = *x + bias;
            *x = sum;
            *out = gelu(sum);
        }
    }
}

/// `out = mixed + ffn_gamma * (out + down_bias)`.
#[multiversion(targets = "simd")]
fn add_residual(vectors: LayerVectors<'_>, out: &mut [f32], mixed: &[f32]) {
    let LayerVectors {
        down_bias,
        ffn_gamma,
        ..
    } = vectors;
    let width = ffn_gamma.len();
    let rows = mixed.chunks_exact(width);
    for (out, mixed) in out.chunks_exact_mut(width).zip(rows) {
        let affine = ffn_gamma.iter().zip(down_bias);
        for (out, (mixed, (gamma, bias))) in out.iter_mut().zip(mixed.iter().zip(affine)) {
            *out = mixed + (*out + bias) * gamma;
        }
    }
}
