//! Attention of new positions over a KV cache.

use std::sync::OnceLock;

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::attention::Rotary;
use crate::cache::KeysValues;
use crate::types::PackedHeads;

/// Attention mask of new positions over a KV cache. It is causal and hides the padding in front of each
/// sequence.
#[derive(Debug, Clone, Default)]
pub struct CachedMask {
    /// Number of positions that are in the cache already.
    start: usize,
    /// Number of padding positions of each sequence, `[B]`; empty if there is no padding.
    padding: Vec<usize>,
    /// The mask of the padding as a tensor, made once for all layers. Only Burn's operations need it.
    hidden: OnceLock<Tensor<4, Bool>>,
}

impl CachedMask {
    /// The mask of new positions behind `start` cached ones. The first `padding[b]` positions of sequence
    /// `b` are hidden from all later ones; an empty `padding` means no padding. Padding still sees padding,
    /// because a softmax over no keys gives NaN.
    pub fn new(start: usize, padding: &[usize]) -> Self {
        Self {
            start,
            padding: padding.to_vec(),
            hidden: OnceLock::new(),
        }
    }

    /// A mask that is true where padding is hidden from a position, `[B, 1, T, S]`.
    fn hidden(&self, length: usize, device: &Device) -> Option<Tensor<4, Bool>> {
        if self.padding.is_empty() {
            return None;
        }
        let hidden = self.hidden.get_or_init(|| {
            let seen = self.start + length;
            let mut hidden = Vec::with_capacity(self.padding.len() * length * seen);
            for &padding in &self.padding {
                for position in self.start..seen {
                    hidden.extend((0..seen).map(|key| key < padding && position >= padding));
                }
            }
            let shape = [self.padding.len(), 1, length, seen];
            Tensor::from_data(TensorData::new(hidden, shape), device)
        });
        Some(hidden.clone())
    }
}

/// Attention of new positions over the cached positions and themselves. Queries and keys are rotated first.
/// The new keys and values are written into the cache behind the old ones, in place if the cache has no
/// other owner. The kernel runs only outside of an autodiff graph.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`; `cache`: `[B, G, capacity, E]` each, see [`KeysValues`]
/// - returns: `[B, T, H E]`, and the cache
///
/// # Panics
/// If the cache has no room for the new positions.
pub fn cached_attention(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    mask: &CachedMask,
    cache: KeysValues,
) -> (Tensor<3>, KeysValues) {
    let (length, capacity) = (packed.dims()[1], cache.dims()[2]);
    assert!(
        mask.start + length <= capacity,
        "{length} positions behind {} in a cache of {capacity}",
        mask.start
    );
    #[cfg(feature = "cpu")]
    if let Some(inputs) = cpu_inputs(&packed, heads, rotary, mask)
        && crate::cpu::covers_cache(&cache)
    {
        return crate::cpu::cached_attention(&inputs, cache);
    }
    composed(packed, heads, rotary, mask, cache)
}

/// Inputs of the kernel, or `None` if it does not support the tensors.
#[cfg(feature = "cpu")]
fn cpu_inputs<'a>(
    packed: &Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    mask: &'a CachedMask,
) -> Option<crate::cpu::CachedInputs<'a>> {
    let [cos, sin] = rotary.pairs.clone();
    Some(crate::cpu::CachedInputs {
        packed: crate::cpu::plain(packed.clone())?,
        cos: crate::cpu::plain(cos)?,
        sin: crate::cpu::plain(sin)?,
        interleaved: rotary.interleaved,
        heads,
        start: mask.start,
        padding: &mask.padding,
    })
}

/// This operation as a composition of Burn's operations.
pub(crate) fn composed(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    mask: &CachedMask,
    cache: KeysValues,
) -> (Tensor<3>, KeysValues) {
    let [batch, length, _] = packed.dims();
    let [q, k, v] = unpack(packed, heads, rotary);
    let dtype = q.dtype();
    let cache = cache.write(mask.start, [k, v]);
    let [k, v] = cache.exact(mask.start + length, dtype);
    let hidden = mask.hidden(length, &q.device());
    let mixed = if length == 1 {
        attend_last(q, k, v, hidden)
    } else {
        let [k, v] = [k, v].map(|x| repeat_heads(x, heads.heads));
        attend_causal(q, k, v, hidden)
    }; // [B, H, T, E]
    let width = mixed.dims()[3] * heads.heads;
    let mixed = mixed.swap_dims(1, 2).reshape([batch, length, width]);
    (mixed, cache)
}

/// Rotated queries `[B, H, T, E]`, rotated keys and plain values `[B, G, T, E]`.
fn unpack(packed: Tensor<3>, heads: PackedHeads, rotary: &Rotary) -> [Tensor<4>; 3] {
    let PackedHeads { heads, kv_heads } = heads;
    let [batch, length, width] = packed.dims();
    let all = heads + 2 * kv_heads;
    let packed = packed.reshape([batch, length, all, width / all]);
    // Queries and keys have the same rotation, so one operation turns both.
    let turned = heads + kv_heads;
    let qk = rotary
        .apply(packed.clone().narrow(2, 0, turned))
        .swap_dims(1, 2);
    let v = packed.narrow(2, turned, kv_heads).swap_dims(1, 2);
    let q = qk.clone().narrow(1, 0, heads);
    let k = qk.narrow(1, heads, kv_heads);
    [q, k, v]
}

/// Attention of a single new position. It sees all keys, so the query heads that share a key head can be
/// the rows of one product with it.
fn attend_last(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, _, width] = q.dims();
    let [_, kv_heads, seen, _] = k.dims();
    let group = heads / kv_heads;
    let q = q.reshape([batch, kv_heads, group, width]);
    let hidden = hidden.map(|hidden| hidden.expand([batch, kv_heads, group, seen]));
    let mixed = attention(q, k, v, hidden, None, AttentionModuleOptions::default());
    mixed.reshape([batch, heads, 1, width])
}

/// Repeats each key/value head for its `H / G` query heads: `[B, G, S, E]` to `[B, H, S, E]`.
fn repeat_heads(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, kv_heads, length, width] = x.dims();
    let group = heads / kv_heads;
    if group == 1 {
        return x;
    }
    x.unsqueeze_dim::<5>(2)
        .expand([batch, kv_heads, group, length, width])
        .reshape([batch, heads, length, width])
}

/// Causal attention of several new positions: query `i` of `T` sees the first `S - T + i + 1` keys, except
/// those in the mask `hidden`.
///
/// # Shapes
/// - `q`: `[B, H, T, E]`; `k`, `v`: `[B, H, S, E]`; `hidden`: `[B, 1, T, S]`
/// - returns: `[B, H, T, E]`
fn attend_causal(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
) -> Tensor<4> {
    let [batch, heads, length, _] = q.dims();
    let hidden = hidden.map(|hidden| hidden.expand([batch, heads, length, k.dims()[2]]));
    let options = AttentionModuleOptions {
        is_causal: true,
        ..AttentionModuleOptions::default()
    };
    attention(q, k, v, hidden, None, options)
}
