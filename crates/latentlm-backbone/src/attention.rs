//! Causal self-attention with rotary embedding and grouped key/value heads.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Tensor};
use latentlm_kernels::{PackedHeads, document_attention, linear_layer};

use crate::cache::{LayerCache, Positions};
use crate::transformer::TransformerConfig;

/// One fused projection to queries, keys and values, and one back.
///
/// Training has no cache and runs as one fused operation; prefill and single steps take keys and
/// values from the cache. The conformance suite holds them equal.
#[derive(Module, Debug)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    kv_heads: usize,
}

impl Attention {
    /// Attention of a Transformer of that configuration.
    pub fn new(config: &TransformerConfig, device: &Device) -> Self {
        let head_dim = config.head_dim();
        let qkv = (config.heads + 2 * config.kv_heads) * head_dim;
        Self {
            qkv: LinearConfig::new(config.width, qkv)
                .with_bias(config.qkv_bias)
                .init(device),
            proj: LinearConfig::new(config.heads * head_dim, config.width)
                .with_bias(false)
                .init(device),
            heads: config.heads,
            kv_heads: config.kv_heads,
        }
    }

    /// # Shapes
    /// - `x`: `[B, T, D]`
    /// - returns: `[B, T, D]`
    pub(crate) fn forward(
        &self,
        x: Tensor<3>,
        positions: &Positions,
        cache: Option<&mut LayerCache>,
    ) -> Tensor<3> {
        let packed = linear_layer(&self.qkv, x);
        let mixed = match cache {
            None => {
                let heads = PackedHeads {
                    heads: self.heads,
                    kv_heads: self.kv_heads,
                };
                document_attention(packed, heads, &positions.rotation, &positions.documents)
            }
            Some(cache) => self.attend_cached(packed, positions, cache),
        }; // [B, T, H E]
        linear_layer(&self.proj, mixed)
    }

    fn attend_cached(
        &self,
        packed: Tensor<3>,
        positions: &Positions,
        cache: &mut LayerCache,
    ) -> Tensor<3> {
        let [batch, length, _] = packed.dims();
        let (q, k, v) = self.unpack(packed, positions);
        let (k, v) = cache.extend(positions.start, k, v);
        let hidden = positions.hidden.clone();
        let mixed = if length == 1 {
            self.attend_last(q, k, v, hidden)
        } else {
            attend_seen(q, self.share(k), self.share(v), hidden)
        }; // [B, H, T, E]
        let width = mixed.dims()[3] * self.heads;
        mixed.swap_dims(1, 2).reshape([batch, length, width])
    }

    /// A single position sees all keys, so the query heads of a group can stand as rows beside
    /// their one key head: nothing of the cache is copied.
    fn attend_last(
        &self,
        q: Tensor<4>,
        k: Tensor<4>,
        v: Tensor<4>,
        hidden: Option<Tensor<4, Bool>>,
    ) -> Tensor<4> {
        let [batch, heads, _, width] = q.dims();
        let group = self.heads / self.kv_heads;
        let q = q.reshape([batch, self.kv_heads, group, width]);
        let seen = k.dims()[2];
        let hidden = hidden.map(|hidden| hidden.expand([batch, self.kv_heads, group, seen]));
        let mixed = attention(q, k, v, hidden, None, AttentionModuleOptions::default());
        mixed.reshape([batch, heads, 1, width])
    }

    /// Rotated queries `[B, H, T, E]` and keys, and values, `[B, G, T, E]`.
    fn unpack(&self, qkv: Tensor<3>, positions: &Positions) -> (Tensor<4>, Tensor<4>, Tensor<4>) {
        let [batch, length, width] = qkv.dims();
        let all = self.heads + 2 * self.kv_heads;
        let qkv = qkv.reshape([batch, length, all, width / all]);
        // Queries and keys turn alike: one rotation for both.
        let turned = self.heads + self.kv_heads;
        let qk = positions
            .rotation
            .apply(qkv.clone().narrow(2, 0, turned))
            .swap_dims(1, 2);
        let v = qkv.narrow(2, turned, self.kv_heads).swap_dims(1, 2);
        let q = qk.clone().narrow(1, 0, self.heads);
        let k = qk.narrow(1, self.heads, self.kv_heads);
        (q, k, v)
    }

    /// Each key/value head serves `H / G` query heads: `[B, G, S, E]` to `[B, H, S, E]`.
    fn share(&self, x: Tensor<4>) -> Tensor<4> {
        let group = self.heads / self.kv_heads;
        if group == 1 {
            return x;
        }
        let [batch, kv_heads, length, width] = x.dims();
        x.unsqueeze_dim::<5>(2)
            .expand([batch, kv_heads, group, length, width])
            .reshape([batch, self.heads, length, width])
    }
}

/// Scaled dot-product attention in which query `i` of `T` sees the first `S - T + i + 1` keys but
/// for those that are hidden.
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
