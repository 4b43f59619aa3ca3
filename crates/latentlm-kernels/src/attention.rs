//! Attention on packed queries, keys and values, with rotary positions where wanted.

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor, TensorData};

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
    pub(crate) causal: bool,
    /// Lengths of the documents of every sequence.
    pub(crate) documents: Vec<usize>,
}

/// The rotation of some positions, in the two forms that are needed: a column a pair for the kernel,
/// and a column a number, signs included, for Burn's operations.
#[derive(Debug, Clone)]
pub struct Rotary {
    /// `[T, E / 2]`
    pairs: [Tensor<2>; 2],
    /// `[1, T, 1, E]`
    numbers: [Tensor<4>; 2],
    interleaved: bool,
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

    /// The rotation of the first positions alone.
    fn first(&self, length: usize) -> Self {
        Self {
            pairs: self.pairs.clone().map(|table| table.narrow(0, 0, length)),
            numbers: self.numbers.clone().map(|table| table.narrow(1, 0, length)),
            interleaved: self.interleaved,
        }
    }
}

/// Scaled dot-product attention of every position over itself and those before it, queries and keys
/// rotated first.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`
/// - returns: `[B, T, H E]`
pub fn causal_attention(packed: Tensor<3>, heads: PackedHeads, rotary: &Rotary) -> Tensor<3> {
    let whole = [packed.dims()[1]];
    attend(packed, heads, Some(rotary), Sight::Causal(&whole))
}

/// [`causal_attention`] in sequences that are several documents one after the other: no position
/// sees another document. Nothing is masked: what is not seen is not computed.
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
    documents: &[usize],
) -> Tensor<3> {
    let (length, sum) = (packed.dims()[1], documents.iter().sum::<usize>());
    assert_eq!(
        sum, length,
        "documents of {sum} positions in a sequence of {length}"
    );
    attend(packed, heads, Some(rotary), Sight::Causal(documents))
}

/// Scaled dot-product attention of every position over all.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`
/// - returns: `[B, T, H E]`
pub fn full_attention(packed: Tensor<3>, heads: PackedHeads) -> Tensor<3> {
    attend(packed, heads, None, Sight::Full)
}

/// Scaled dot-product attention, queries and keys rotated first, in sequences that begin with a prefix:
/// its positions see themselves and those before them, all others see the whole sequence. Two calls
/// without a mask: the prefix alone, and everything with everything, of which the prefix's part is
/// thrown away.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`; `prefix`: below `T`
/// - returns: `[B, T, H E]`
///
/// # Panics
/// If nothing follows the prefix.
pub fn prefix_attention(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    prefix: usize,
) -> Tensor<3> {
    let length = packed.dims()[1];
    assert!(
        prefix < length,
        "a prefix of {prefix} positions in a sequence of {length}"
    );
    let whole = attend(packed.clone(), heads, Some(rotary), Sight::Full);
    if prefix == 0 {
        return whole;
    }
    let before = causal_attention(packed.narrow(1, 0, prefix), heads, &rotary.first(prefix));
    Tensor::cat(vec![before, whole.narrow(1, prefix, length - prefix)], 1)
}

/// What a position sees.
#[derive(Clone, Copy)]
pub(crate) enum Sight<'a> {
    /// Its document, up to itself.
    Causal(&'a [usize]),
    /// Its whole sequence.
    Full,
}

fn attend(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    sight: Sight<'_>,
) -> Tensor<3> {
    #[cfg(feature = "cpu")]
    if crate::has_kernels(&packed) {
        return on_cpu(packed, heads, rotary, sight);
    }
    composed(packed, heads, rotary, sight)
}

/// The same of Burn's operations.
pub(crate) fn composed(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    sight: Sight<'_>,
) -> Tensor<3> {
    let PackedHeads { heads, kv_heads } = heads;
    let [batch, length, width] = packed.dims();
    let all = heads + 2 * kv_heads;
    let head_dim = width / all;
    let packed = packed.reshape([batch, length, all, head_dim]);
    let turned = heads + kv_heads;
    let qk = packed.clone().narrow(2, 0, turned);
    let qk = match rotary {
        Some(rotary) => rotary.apply(qk),
        None => qk,
    };
    let q = qk.clone().narrow(2, 0, heads).swap_dims(1, 2);
    let share = |x: Tensor<4>| {
        let group = heads / kv_heads;
        x.swap_dims(1, 2)
            .unsqueeze_dim::<5>(2)
            .expand([batch, kv_heads, group, length, head_dim])
            .reshape([batch, heads, length, head_dim])
    };
    let k = share(qk.narrow(2, heads, kv_heads));
    let v = share(packed.narrow(2, turned, kv_heads));
    let whole = [length];
    let (documents, is_causal) = match sight {
        Sight::Causal(documents) => (documents, true),
        Sight::Full => (&whole[..], false),
    };
    let mut start = 0;
    let mixed = documents.iter().map(|&length| {
        let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(2, start, length));
        start += length;
        let options = AttentionModuleOptions {
            is_causal,
            ..AttentionModuleOptions::default()
        };
        attention(q, k, v, None, None, options)
    });
    Tensor::cat(mixed.collect(), 2)
        .swap_dims(1, 2)
        .reshape([batch, length, heads * head_dim])
}

#[cfg(feature = "cpu")]
fn on_cpu(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: Option<&Rotary>,
    sight: Sight<'_>,
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
        causal: matches!(sight, Sight::Causal(_)),
        documents: match sight {
            Sight::Causal(documents) => documents.to_vec(),
            Sight::Full => vec![packed.dims()[1]],
        },
    };
    let out =
        Dispatch::kernel_attention(packed.into_dispatch(), optional(cos), optional(sin), layout);
    Tensor::from_dispatch(out)
}
