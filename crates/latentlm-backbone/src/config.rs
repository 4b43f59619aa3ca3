//! Configuration of the Transformer, with its checks.

use burn::config::Config;
use latentlm_core::PartConfig;
use latentlm_core::ops::swiglu_width;

use crate::keys::KEYS;
use crate::rope::RopeLayout;

/// Largest feed-forward width. Numbers of parameters do not overflow below it.
const MOST_MLP_WIDTH: usize = 1 << 24;

/// Configuration of a [`Transformer`](crate::Transformer). The defaults are those of the official image
/// models.
#[derive(Config, Debug, PartialEq)]
pub struct TransformerConfig {
    /// `D`, width of the residual stream.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key/value heads; 0 takes as many as query heads.
    #[config(default = "KEYS.default(\"lm.kv_heads\")")]
    pub kv_heads: usize,
    /// Ratio of feed-forward width to `D`: the width is `floor(D * mlp_ratio * 2/3 / 64) * 64`.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
    /// Feed-forward width; 0 takes it from `mlp_ratio`.
    #[config(default = 0)]
    pub mlp_width: usize,
    /// Whether norms have a weight.
    #[config(default = false)]
    pub norm_weight: bool,
    /// Epsilon of the norms.
    #[config(default = 1e-6)]
    pub norm_epsilon: f64,
    /// Whether queries, keys and values have a bias.
    #[config(default = false)]
    pub qkv_bias: bool,
    /// Layout of the rotary pairs.
    #[config(default = "RopeLayout::Interleaved")]
    pub rope_layout: RopeLayout,
    /// Base of the rotary frequencies.
    #[config(default = 10000.0)]
    pub rope_theta: f64,
    /// Whether a norm follows the last block. The lower part of a model that is split in two has none.
    #[config(default = true)]
    pub final_norm: bool,
    /// Whether a linear layer `[D, D]`, the "condition layer", follows the final norm.
    #[config(default = true)]
    pub condition_layer: bool,
    /// Gradient checkpointing: training keeps only the input of each block and runs the block again
    /// in the backward pass.
    #[config(default = "KEYS.default(\"lm.recompute\")")]
    pub recompute: bool,
}

impl TransformerConfig {
    /// `E`, width of a head.
    pub fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// A copy in which `kv_heads` and `mlp_width` are numbers, not 0.
    pub(crate) fn resolved(&self) -> Self {
        let mut config = self.clone();
        if config.kv_heads == 0 {
            config.kv_heads = config.heads;
        }
        if config.mlp_width == 0 {
            config.mlp_width = swiglu_width(config.width, config.mlp_ratio);
        }
        config
    }
}

impl Default for TransformerConfig {
    /// The official Base size.
    fn default() -> Self {
        Self::new(768, 12, 12)
    }
}

impl PartConfig for TransformerConfig {
    type Error = BackboneError;

    /// # Errors
    /// If sizes are zero or do not divide each other as they must.
    fn validate(&self) -> Result<(), BackboneError> {
        let config = self.resolved();
        let fail = |reason: String| Err(BackboneError::Config { reason });
        if config.width == 0 || config.depth == 0 || config.heads == 0 {
            return fail("width, depth and heads must be positive".into());
        }
        if !config.width.is_multiple_of(config.heads) {
            return fail(format!(
                "width {} is not a multiple of heads {}",
                config.width, config.heads
            ));
        }
        if !config.heads.is_multiple_of(config.kv_heads) {
            return fail(format!(
                "heads {} is not a multiple of kv_heads {}",
                config.heads, config.kv_heads
            ));
        }
        if !config.head_dim().is_multiple_of(2) || config.head_dim() < 4 {
            return fail(format!(
                "a head of width / heads = {} numbers must be even and 4 or more",
                config.head_dim()
            ));
        }
        if config.mlp_width == 0 {
            return fail(format!(
                "width {} times mlp_ratio {} is too small for a feed-forward width of 64",
                config.width, config.mlp_ratio
            ));
        }
        if config.mlp_width > MOST_MLP_WIDTH {
            return fail(format!(
                "a feed-forward width of {} is above {MOST_MLP_WIDTH}",
                config.mlp_width
            ));
        }
        if !(config.norm_epsilon > 0.0 && config.norm_epsilon.is_finite()) {
            return fail(format!(
                "norm_epsilon {} must be positive",
                config.norm_epsilon
            ));
        }
        if !(config.rope_theta > 0.0 && config.rope_theta.is_finite()) {
            return fail(format!("rope_theta {} must be positive", config.rope_theta));
        }
        Ok(())
    }
}

/// Errors of a backbone's configuration.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    /// An impossible configuration.
    #[error("backbone: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}
