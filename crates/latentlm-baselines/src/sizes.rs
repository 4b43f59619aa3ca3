//! Sizes that the Transformers of all baselines share.

use burn::config::Config;
use latentlm_backbone::BackboneConfig;
use latentlm_core::ops::swiglu_width;
use latentlm_kernels::PackedHeads;

/// Epsilon of all norms. No norm has a weight.
pub(crate) const NORM_EPSILON: f64 = 1e-6;
/// Size and longest period of the sinusoidal timestep encoding.
pub(crate) const TIMESTEP_SINUSOID: (usize, f64) = (256, 1e4);

/// Sizes of a baseline's Transformer. The defaults of width, depth and heads are the reference's Base size.
#[derive(Config, Debug, PartialEq)]
pub struct DenoiserSizes {
    /// `D`, width of the residual stream.
    #[config(default = 768)]
    pub width: usize,
    /// Number of blocks.
    #[config(default = 12)]
    pub depth: usize,
    /// Number of query heads.
    #[config(default = 12)]
    pub heads: usize,
    /// Number of key/value heads; 0 takes as many as query heads.
    #[config(default = 0)]
    pub kv_heads: usize,
    /// Ratio of feed-forward width to `D`: the width is `floor(D * mlp_ratio * 2/3 / 64) * 64`.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
}

impl DenoiserSizes {
    /// A causal Transformer of these sizes. Its blocks have as many weights as those of the other
    /// Transformers, and the same constraints.
    pub fn backbone(&self) -> BackboneConfig {
        BackboneConfig::new(self.width, self.depth, self.heads)
            .with_kv_heads(self.kv_heads)
            .with_mlp_ratio(self.mlp_ratio)
            .with_condition_layer(false)
    }

    pub(crate) fn packed_heads(&self) -> PackedHeads {
        PackedHeads {
            heads: self.heads,
            kv_heads: if self.kv_heads == 0 {
                self.heads
            } else {
                self.kv_heads
            },
        }
    }

    pub(crate) fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    pub(crate) fn mlp_width(&self) -> usize {
        swiglu_width(self.width, self.mlp_ratio)
    }
}
