//! Attention on packed queries, keys and values, with optional rotary position embedding.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::blockwise::{self, Limits};
use crate::gradient::is_recorded;
use crate::mask::Mask;
use crate::types::PackedHeads;

/// Cosines and sines of rotary position embedding, in two forms: one column for each pair of numbers for
/// the kernel, and one column for each number, signs included, for Burn's operations.
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
    /// Tables for `length` positions. `angles` holds a row of `E / 2` angles in radians for each position.
    /// Angle `i` turns the numbers `(2i, 2i + 1)` of a head if `interleaved`, else `(i, i + E / 2)`.
    pub fn new(angles: &[f64], length: usize, interleaved: bool, device: &Device) -> Self {
        let half = angles.len() / length;
        let (sin, cos): (Vec<f32>, Vec<f32>) = angles
            .iter()
            .map(|angle| {
                let (sin, cos) = angle.sin_cos();
                (sin as f32, cos as f32)
            })
            .unzip();
        let numbers = |pairs: &[f32], sign_of_first: f32| {
            let mut values: Vec<f32> = Vec::with_capacity(2 * pairs.len());
            for row in pairs.chunks_exact(half.max(1)) {
                for slot in 0..2 * half {
                    let (pair, first) = if interleaved {
                        (slot / 2, slot % 2 == 0)
                    } else {
                        (slot % half, slot < half)
                    };
                    let sign = if first { sign_of_first } else { 1.0 };
                    values.push(sign * row[pair]);
                }
            }
            Tensor::from_data(TensorData::new(values, [1, length, 1, 2 * half]), device)
        };
        let numbers = [numbers(&cos, 1.0), numbers(&sin, -1.0)];
        let pairs = [cos, sin]
            .map(|values| Tensor::from_data(TensorData::new(values, [length, half]), device));
        Self {
            pairs,
            numbers,
            interleaved,
        }
    }

    /// Rotates queries or keys: `x * cos + swap(x) * sin`, where `swap` exchanges the two numbers of
    /// each pair and the table of sines holds the signs.
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
            let second = x.clone().narrow(3, half, half);
            Tensor::cat(vec![second, x.clone().narrow(3, 0, half)], 3)
        };
        let [cos, sin] = self.numbers.clone().map(|table| table.cast(x.dtype()));
        x * cos + swapped * sin
    }
}

/// Causal scaled dot-product attention. Queries and keys are rotated first.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`
/// - returns: `[B, T, H E]`
pub fn causal_attention(packed: Tensor<3>, heads: PackedHeads, rotary: &Rotary) -> Tensor<3> {
    let whole = Mask::causal(packed.dims()[1]);
    attend(packed, heads, Some(rotary), &[whole])
}

/// Scaled dot-product attention in packed sequences of several documents. Queries and keys are rotated
/// first. No position sees another document: scores between documents are not computed, rather than
/// masked.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`; `documents`: masks whose lengths add up to `T`
/// - returns: `[B, T, H E]`
///
/// # Panics
/// If the lengths of the documents do not add up to that of the sequence.
pub fn document_attention(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    documents: &[Mask],
) -> Tensor<3> {
    let length = packed.dims()[1];
    let sum: usize = documents.iter().map(|document| document.length).sum();
    assert_eq!(
        sum, length,
        "documents of {sum} positions in a sequence of {length}"
    );
    attend(packed, heads, Some(rotary), documents)
}

/// Scaled dot-product attention of each position over all positions, without rotation.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`
/// - returns: `[B, T, H E]`
pub fn full_attention(packed: Tensor<3>, heads: PackedHeads) -> Tensor<3> {
    let whole = Mask::full(packed.dims()[1]);
    attend(packed, heads, None, &[whole])
}

fn attend(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    documents: &[Mask],
) -> Tensor<3> {
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&packed) {
        return on_cpu(packed, heads, rotary, documents);
    }
    if is_recorded(&packed) {
        return blockwise::attention(split(packed, heads, rotary), documents, Limits::USUAL);
    }
    composed(packed, heads, rotary, documents)
}

/// Rotated queries `[B, T, H, E]`, rotated keys and plain values `[B, T, G, E]`.
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

/// Attention as a composition of Burn's operations. Its graph keeps the scores of all pairs of positions.
pub(crate) fn composed(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    documents: &[Mask],
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
    let (mut start, mut mixed) = (0, Vec::with_capacity(documents.len()));
    for document in documents {
        let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(2, start, document.length));
        start += document.length;
        let options = AttentionModuleOptions {
            is_causal: document.is_causal(),
            ..AttentionModuleOptions::default()
        };
        let mask = (!document.is_causal() && !document.is_full())
            .then(|| hidden_keys(*document, batch, heads, &q.device()));
        mixed.push(attention(q, k, v, mask, None, options));
    }
    Tensor::cat(mixed, 2)
        .swap_dims(1, 2)
        .reshape([batch, length, heads * head_dim])
}

/// A mask that is true where a query (third axis) does not see a key (fourth axis), `[B, H, T, T]`.
fn hidden_keys(document: Mask, batch: usize, heads: usize, device: &Device) -> Tensor<4, Bool> {
    let length = document.length;
    let hidden: Vec<bool> = (0..length * length)
        .map(|at| at % length >= document.seen(at / length))
        .collect();
    let hidden = TensorData::new(hidden, [1, 1, length, length]);
    Tensor::<4, Bool>::from_data(hidden, device).expand([batch, heads, length, length])
}

#[cfg(feature = "cpu")]
fn on_cpu(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    documents: &[Mask],
) -> Tensor<3> {
    use crate::cpu::{CpuKernels, optional};
    use crate::types::HeadLayout;
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
