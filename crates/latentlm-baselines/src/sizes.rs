//! Sizes that DiT and Transfusion share.

use burn::config::Config;
use latentlm_backbone::BackboneConfig;
use latentlm_core::PartConfig;
use latentlm_core::ops::swiglu_width;
use latentlm_diffusion::{BetaSchedule, NoiseSchedule, Prediction};
use latentlm_kernels::PackedHeads;

use crate::error::BaselineError;

/// Epsilon of all norms. No norm has a weight.
pub(crate) const NORM_EPSILON: f64 = 1e-6;
/// Size and longest period of the sinusoidal timestep encoding.
pub(crate) const TIMESTEP_SINUSOID: (usize, f64) = (256, 1e4);

/// Sizes of a Transformer that denoises whole images. The defaults of width, depth and heads are the
/// reference's Base size.
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
    /// Prediction target of the network.
    #[config(default = "Prediction::Velocity")]
    pub prediction: Prediction,
    /// Noise schedule of the forward process.
    #[config(default = "BetaSchedule::Cosine")]
    pub schedule: BetaSchedule,
    /// Number of timesteps of the forward process.
    #[config(default = 1000)]
    pub num_train_timesteps: usize,
}

impl DenoiserSizes {
    /// Checks the sizes of `model`; an error names it.
    ///
    /// # Errors
    /// If sizes are zero or do not divide each other as they must.
    pub fn validate(&self, model: &'static str) -> Result<(), BaselineError> {
        // Attention and feed-forward network have the same constraints as the backbone's.
        BackboneConfig::new(self.width, self.depth, self.heads)
            .with_kv_heads(self.kv_heads)
            .with_mlp_ratio(self.mlp_ratio)
            .validate()?;
        if self.num_train_timesteps < 2 {
            return Err(BaselineError::Config {
                model,
                reason: "num_train_timesteps must be 2 or more".into(),
            });
        }
        Ok(())
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

    pub(crate) fn noise_schedule(&self) -> NoiseSchedule {
        NoiseSchedule::new(self.schedule, self.prediction, self.num_train_timesteps)
    }
}
