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
        let heads = PackedHeads {
            heads: self.heads,
            kv_heads: self.kv_heads,
        };
        let mixed = match cache {
            None => document_attention(packed, heads, &positions.rotation, &positions.documents),
            Some(cache) => cache.attend(packed, heads, positions),
        }; // [B, T, H E]
        linear_layer(&self.proj, mixed)
    }
}
