//! Attention on packed queries, keys and values, with rotary positions where wanted.

use std::ops::Range;

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::blockwise::{self, Limits};
use crate::gradient::is_recorded;

/// How the last axis is divided: `H` queries, `G` keys, `G` values of `E` numbers each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedHeads {
    /// Query heads.
    pub heads: usize,
    /// Key/value heads, each for `H / G` query heads.
    pub kv_heads: usize,
}

/// What the kernel is told beside its tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(not(feature = "cpu"), expect(dead_code, reason = "the kernel's form"))]
pub(crate) struct HeadLayout {
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) interleaved: bool,
    /// The documents of every sequence.
    pub(crate) documents: Vec<Sight>,
}

/// A document of a packed sequence and who sees whom in it: every position itself and those before
/// it, and some each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Positions of the document.
    pub length: usize,
    /// First of the positions that see each other.
    mutual_start: usize,
    /// End of the positions that see each other.
    mutual_end: usize,
}

impl Sight {
    /// No position sees what comes behind it.
    pub fn causal(length: usize) -> Self {
        Self::mutual(length, 0..0)
    }

    /// Every position sees all others.
    pub fn full(length: usize) -> Self {
        Self::mutual(length, 0..length)
    }

    /// The positions of `mutual` see each other (an image in Transfusion), the others what stands
    /// before them.
    ///
    /// # Panics
    /// If `mutual` goes beyond the document.
    pub fn mutual(length: usize, mutual: Range<usize>) -> Self {
        assert!(
            mutual.end <= length,
            "{mutual:?} in a document of {length} positions"
        );
        Self {
            length,
            mutual_start: mutual.start,
            mutual_end: mutual.end,
        }
    }

    /// How many of the document's first positions a position sees.
    #[inline(always)]
    pub(crate) fn seen(&self, position: usize) -> usize {
        match (self.mutual_start..self.mutual_end).contains(&position) {
            true => self.mutual_end,
            false => position + 1,
        }
    }

    fn is_causal(&self) -> bool {
        self.mutual_end - self.mutual_start < 2
    }

    fn is_full(&self) -> bool {
        self.mutual_start == 0 && self.mutual_end == self.length
    }
}

/// The rotation of some positions, in the two forms that are needed: a column a pair for the kernel,
/// and a column a number, signs included, for Burn's operations.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `[T, E / 2]`
    #[cfg_attr(not(feature = "cpu"), expect(dead_code, reason = "the kernel's form"))]
    pub(crate) pairs: [Tensor<2>; 2],
    /// `[1, T, 1, E]`
    numbers: [Tensor<4>; 2],
    pub(crate) interleaved: bool,
}

impl Rotary {
    /// Rotation of `length` positions by `angles`, a row of `E / 2` for each position. Pairs are
    /// `(2i, 2i + 1)` where `interleaved`, or else `(i, i + E / 2)`.
    pub fn new(angles: &[f64], length: usize, interleaved: bool, device: &Device) -> Self {
        let half = angles.len() / length;
        let pairs = |f: fn(f64) -> f64| {
            let values: Vec<f32> = angles.iter().map(|angle| f(*angle) as f32).collect();
            Tensor::from_data(TensorData::new(values, [length, half]), device)
        };
        let numbers = |f: fn(f64, bool) -> f64| {
            let number = |slot: usize| {
                let (position, slot) = (slot / (2 * half), slot % (2 * half));
                let (pair, first) = match interleaved {
                    true => (slot / 2, slot % 2 == 0),
                    false => (slot % half, slot < half),
                };
                f(angles[position * half + pair], first) as f32
            };
            let values: Vec<f32> = (0..length * 2 * half).map(number).collect();
            Tensor::from_data(TensorData::new(values, [1, length, 1, 2 * half]), device)
        };
        let signed = |angle: f64, first: bool| if first { -angle.sin() } else { angle.sin() };
        Self {
            pairs: [pairs(f64::cos), pairs(f64::sin)],
            numbers: [numbers(|angle, _| angle.cos()), numbers(signed)],
            interleaved,
        }
    }

    /// Rotates queries or keys: `x * cos + swap(x) * sin`, where `swap` exchanges the partners of
    /// each pair and `sin` carries the sign.
    ///
    /// # Shapes
    /// - `x`: `[B, T, H, E]`
    /// - returns: `[B, T, H, E]`
    pub fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, length, heads, width] = x.dims();
        let half = width / 2;
        let swapped = if self.interleaved {
            x.clone()
                .reshape([batch, length, heads * half, 2])
                .flip([3])
                .reshape([batch, length, heads, width])
        } else {
            let part = |start| x.clone().narrow(3, start, half);
            Tensor::cat(vec![part(half), part(0)], 3)
        };
        let [cos, sin] = self.numbers.clone().map(|table| table.cast(x.dtype()));
        x * cos + swapped * sin
    }
}

/// Scaled dot-product attention of every position over itself and those before it, queries and keys
/// rotated first.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`
/// - returns: `[B, T, H E]`
pub fn causal_attention(packed: Tensor<3>, heads: PackedHeads, rotary: &Rotary) -> Tensor<3> {
    let whole = Sight::causal(packed.dims()[1]);
    attend(packed, heads, Some(rotary), &[whole])
}

/// Scaled dot-product attention, queries and keys rotated first, in sequences that are several
/// documents one after the other: no position sees another document. Nothing is masked: what is not
/// seen is not computed.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`; `documents`: lengths that add up to `T`
/// - returns: `[B, T, H E]`
///
/// # Panics
/// If the documents' lengths do not add up to the sequence's.
pub fn document_attention(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    documents: &[Sight],
) -> Tensor<3> {
    let length = packed.dims()[1];
    let sum: usize = documents.iter().map(|document| document.length).sum();
    assert_eq!(
        sum, length,
        "documents of {sum} positions in a sequence of {length}"
    );
    attend(packed, heads, Some(rotary), documents)
}

/// Scaled dot-product attention of every position over all.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`
/// - returns: `[B, T, H E]`
pub fn full_attention(packed: Tensor<3>, heads: PackedHeads) -> Tensor<3> {
    let whole = Sight::full(packed.dims()[1]);
    attend(packed, heads, None, &[whole])
}

fn attend(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    documents: &[Sight],
) -> Tensor<3> {
    #[cfg(feature = "cpu")]
    if crate::has_kernels(&packed) {
        return on_cpu(packed, heads, rotary, documents);
    }
    if is_recorded(&packed) {
        return blockwise::attention(split(packed, heads, rotary), documents, Limits::USUAL);
    }
    composed(packed, heads, rotary, documents)
}

/// Queries `[B, T, H, E]`, keys and values `[B, T, G, E]`, queries and keys rotated.
pub(crate) fn split(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
) -> [Tensor<4>; 3] {
    let PackedHeads { heads, kv_heads } = heads;
    let [batch, length, width] = packed.dims();
    let all = heads + 2 * kv_heads;
    let packed = packed.reshape([batch, length, all, width / all]);
    let turned = heads + kv_heads;
    let qk = packed.clone().narrow(2, 0, turned);
    let qk = match rotary {
        Some(rotary) => rotary.apply(qk),
        None => qk,
    };
    [
        qk.clone().narrow(2, 0, heads),
        qk.narrow(2, heads, kv_heads),
        packed.narrow(2, turned, kv_heads),
    ]
}

/// The same of Burn's operations, whose graph keeps scores of all positions with all.
pub(crate) fn composed(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    documents: &[Sight],
) -> Tensor<3> {
    let [q, k, v] = split(packed, heads, rotary);
    let PackedHeads { heads, kv_heads } = heads;
    let [batch, length, _, head_dim] = q.dims();
    let q = q.swap_dims(1, 2);
    let [k, v] = [k, v].map(|x| {
        let group = heads / kv_heads;
        x.swap_dims(1, 2)
            .unsqueeze_dim::<5>(2)
            .expand([batch, kv_heads, group, length, head_dim])
            .reshape([batch, heads, length, head_dim])
    });
    let mut start = 0;
    let mixed = documents.iter().map(|document| {
        let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(2, start, document.length));
        start += document.length;
        let options = AttentionModuleOptions {
            is_causal: document.is_causal(),
            ..AttentionModuleOptions::default()
        };
        let hidden = (!document.is_causal() && !document.is_full())
            .then(|| hidden(*document, [batch, heads], &q.device()));
        attention(q, k, v, hidden, None, options)
    });
    Tensor::cat(mixed.collect(), 2)
        .swap_dims(1, 2)
        .reshape([batch, length, heads * head_dim])
}

/// What no position of a document sees, `[B, H, T, T]`.
fn hidden(document: Sight, [batch, heads]: [usize; 2], device: &Device) -> Tensor<4, Bool> {
    let length = document.length;
    let hidden = (0..length * length).map(|at| at % length >= document.seen(at / length));
    let hidden = TensorData::new(hidden.collect::<Vec<bool>>(), [1, 1, length, length]);
    Tensor::<4, Bool>::from_data(hidden, device).expand([batch, heads, length, length])
}

#[cfg(feature = "cpu")]
fn on_cpu(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    documents: &[Sight],
) -> Tensor<3> {
    use crate::cpu::{CpuKernels, optional};
    use burn::backend::Dispatch;

    let [cos, sin] = match rotary {
        Some(rotary) => rotary.pairs.clone().map(Some),
        None => [None, None],
    };
    let layout = HeadLayout {
        heads: heads.heads,
        kv_heads: heads.kv_heads,
        interleaved: rotary.is_some_and(|rotary| rotary.interleaved),
        documents: documents.to_vec(),
    };
    let out =
        Dispatch::kernel_attention(packed.into_dispatch(), optional(cos), optional(sin), layout);
    Tensor::from_dispatch(out)
}
