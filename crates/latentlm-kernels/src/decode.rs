//! Attention of new positions over a cache of keys and values.

use std::sync::OnceLock;

use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::attention::{PackedHeads, Rotary};

/// Whom some new positions see: themselves and all before them, but for padding in front of their
/// sequence.
#[derive(Debug, Clone, Default)]
pub struct CachedSight {
    start: usize,
    padding: Vec<usize>,
    /// What is not seen, made once for all layers, and only where an operation of Burn's wants it.
    hidden: OnceLock<Tensor<4, Bool>>,
}

impl CachedSight {
    /// Of the positions from `start` on. Nothing behind the first `padding[b]` positions of sequence
    /// `b` sees them; an empty `padding` is none. Padding sees padding: a softmax over nothing would
    /// be no number.
    pub fn new(start: usize, padding: &[usize]) -> Self {
        Self {
            start,
            padding: padding.to_vec(),
            hidden: OnceLock::new(),
        }
    }

    /// Earlier positions that are not seen, `[B, 1, T, S]`.
    fn hidden(&self, length: usize, device: &Device) -> Option<Tensor<4, Bool>> {
        if self.padding.is_empty() {
            return None;
        }
        let hidden = self.hidden.get_or_init(|| {
            let seen = self.start + length;
            let row = |padding: usize, position: usize| {
                (0..seen).map(move |key| key < padding && position >= padding)
            };
            let rows = self.padding.iter().flat_map(|&padding| {
                (self.start..seen).flat_map(move |position| row(padding, position))
            });
            let shape = [self.padding.len(), 1, length, seen];
            Tensor::from_data(TensorData::new(rows.collect::<Vec<bool>>(), shape), device)
        });
        Some(hidden.clone())
    }
}

/// Attention of new positions over themselves and those before them, of which `cache` holds keys and
/// values. Those of the new ones are written behind them: in place, where the cache has no other
/// owner. Queries and keys are rotated first. A kernel where no gradient is asked.
///
/// # Shapes
/// - `packed`: `[B, T, (H + 2 G) E]`; `cache`: keys and values, `[B, G, capacity, E]` each
/// - returns: `[B, T, H E]`, and the cache
///
/// # Panics
/// If the cache has no room.
pub fn cached_attention(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    sight: &CachedSight,
    cache: [Tensor<4>; 2],
) -> (Tensor<3>, [Tensor<4>; 2]) {
    let (length, capacity) = (packed.dims()[1], cache[0].dims()[2]);
    assert!(
        sight.start + length <= capacity,
        "{length} positions behind {} in a cache of {capacity}",
        sight.start
    );
    #[cfg(feature = "cpu")]
    if let Some(inputs) = cpu_inputs(&packed, heads, rotary, sight)
        && cache.iter().all(|x| crate::cpu::plain(x.clone()).is_some())
    {
        return crate::cpu::cached_attention(&inputs, cache);
    }
    composed(packed, heads, rotary, sight, cache)
}

/// What the kernel is given, if it can work there.
#[cfg(feature = "cpu")]
fn cpu_inputs<'a>(
    packed: &Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    sight: &'a CachedSight,
) -> Option<crate::cpu::CachedInputs<'a>> {
    let [cos, sin] = rotary.pairs.clone();
    Some(crate::cpu::CachedInputs {
        packed: crate::cpu::plain(packed.clone())?,
        cos: crate::cpu::plain(cos)?,
        sin: crate::cpu::plain(sin)?,
        interleaved: rotary.interleaved,
        heads,
        start: sight.start,
        padding: &sight.padding,
    })
}

/// The same of Burn's operations.
pub(crate) fn composed(
    packed: Tensor<3>,
    heads: PackedHeads,
    rotary: &Rotary,
    sight: &CachedSight,
    [keys, values]: [Tensor<4>; 2],
) -> (Tensor<3>, [Tensor<4>; 2]) {
    let [batch, length, _] = packed.dims();
    let [q, k, v] = unpack(packed, heads, rotary);
    let (keys, k) = extend(keys, sight.start, k);
    let (values, v) = extend(values, sight.start, v);
    let hidden = sight.hidden(length, &q.device());
    let mixed = if length == 1 {
        attend_last(q, k, v, hidden)
    } else {
        let [k, v] = [k, v].map(|x| share(x, heads.heads));
        attend_seen(q, k, v, hidden)
    }; // [B, H, T, E]
    let width = mixed.dims()[3] * heads.heads;
    let mixed = mixed.swap_dims(1, 2).reshape([batch, length, width]);
    (mixed, [keys, values])
}

/// Rotated queries `[B, H, T, E]` and keys, and values, `[B, G, T, E]`.
fn unpack(packed: Tensor<3>, heads: PackedHeads, rotary: &Rotary) -> [Tensor<4>; 3] {
    let PackedHeads { heads, kv_heads } = heads;
    let [batch, length, width] = packed.dims();
    let all = heads + 2 * kv_heads;
    let packed = packed.reshape([batch, length, all, width / all]);
    // Queries and keys turn alike: one rotation for both.
    let turned = heads + kv_heads;
    let qk = rotary
        .apply(packed.clone().narrow(2, 0, turned))
        .swap_dims(1, 2);
    let v = packed.narrow(2, turned, kv_heads).swap_dims(1, 2);
    let q = qk.clone().narrow(1, 0, heads);
    let k = qk.narrow(1, heads, kv_heads);
    [q, k, v]
}

/// Writes new keys or values at `start`; returns the buffer, and all up to them, `[B, G, S, E]`. A
/// buffer without another owner is written in place: a step then copies the new positions and nothing
/// else.
fn extend(buffer: Tensor<4>, start: usize, new: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
    let [batch, groups, length, width] = new.dims();
    let end = start + length;
    let buffer = buffer.slice_assign([0..batch, 0..groups, start..end, 0..width], new);
    let seen = buffer.clone().narrow(2, 0, end);
    (buffer, seen)
}

/// A single position sees all keys, so that the query heads of a group can stand as rows beside their
/// one key head.
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

/// Each key/value head serves `H / G` query heads: `[B, G, S, E]` to `[B, H, S, E]`.
fn share(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, kv_heads, length, width] = x.dims();
    let group = heads / kv_heads;
    if group == 1 {
        return x;
    }
    x.unsqueeze_dim::<5>(2)
        .expand([batch, kv_heads, group, length, width])
        .reshape([batch, heads, length, width])
}

/// Query `i` of `T` sees the first `S - T + i + 1` keys but for those that are hidden.
///
/// # Shapes
/// - `q`: `[B, H, T, E]`; `k`, `v`: `[B, H, S, E]`; `hidden`: `[B, 1, T, S]`
/// - returns: `[B, H, T, E]`
fn attend_seen(
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
