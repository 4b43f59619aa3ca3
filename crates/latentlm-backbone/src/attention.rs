//! Causal self-attention with rotary embedding and grouped key/value heads.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{PackedHeads, document_attention, linear_layer};

use crate::cache::{LayerCache, Positions};
use crate::config::TransformerConfig;

/// Self-attention with one fused projection to queries, keys and values, and an output projection.
///
/// Training has no cache. Prefill and single steps write their keys and values into one and attend to
/// all positions in it. Each is one operation between the two projections. The conformance suite
/// checks that they agree.
#[derive(Module, Debug)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
    kv_heads: usize,
}

impl Attention {
    /// Builds the attention of one block.
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

    /// Mixes positions: those of packed documents, or new ones with those in the cache.
    ///
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
        let heads = self.packed_heads();
        let mixed = match cache {
            None => document_attention(packed, heads, &positions.rotation, &positions.documents),
            Some(cache) => cache.attend(packed, heads, positions),
        }; // [B, T, H E]
        linear_layer(&self.proj, mixed)
    }

    /// Mixes the new position of each row with those in the row's own cache.
    ///
    /// # Shapes
    /// - `x`: `[B, 1, D]`, as many rows as positions and caches
    /// - returns: `[B, 1, D]`
    pub(crate) fn step_rows(
        &self,
        x: Tensor<3>,
        positions: &[Positions],
        caches: Vec<&mut LayerCache>,
    ) -> Tensor<3> {
        let packed = linear_layer(&self.qkv, x);
        let mut mixed = Vec::with_capacity(caches.len());
        for (row, (cache, positions)) in caches.into_iter().zip(positions).enumerate() {
            let own = packed.clone().narrow(0, row, 1);
            mixed.push(cache.attend(own, self.packed_heads(), positions));
        }
        linear_layer(&self.proj, Tensor::cat(mixed, 0))
    }

    fn packed_heads(&self) -> PackedHeads {
        PackedHeads {
            heads: self.heads,
            kv_heads: self.kv_heads,
        }
    }
}
