//! Sizes that all diffusion rivals have.

use burn::config::Config;
use latentlm_backbone::BackboneConfig;
use latentlm_core::ops::swiglu_width;
use latentlm_diffusion::{BetaSchedule, NoiseSchedule, Prediction};
use latentlm_kernels::PackedHeads;

use crate::error::BaselineError;

/// Epsilon of all norms, none of which has a weight.
pub(crate) const NORM_EPSILON: f64 = 1e-6;
/// Numbers of the timesteps' sinusoid, and its longest period.
pub(crate) const TIMESTEP_SINUSOID: (usize, f64) = (256, 1e4);

/// Sizes of a Transformer that denoises whole images. Width, depth and heads are by default those of
/// the reference's Base size.
#[derive(Config, Debug, PartialEq)]
pub struct DenoiserSizes {
    /// `D`, width of the residual stream.
    #[config(default = 768)]
    pub width: usize,
    /// Number of blocks.
    #[config(default = 12)]
    pub depth: usize,
    /// Query heads.
    #[config(default = 12)]
    pub heads: usize,
    /// Key/value heads; 0 stands for as many as query heads.
    #[config(default = 0)]
    pub kv_heads: usize,
    /// The feed-forward width is `floor(D * mlp_ratio * 2/3 / 64) * 64`.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
    /// What the network predicts.
    #[config(default = "Prediction::Velocity")]
    pub prediction: Prediction,
    /// How noise grows.
    #[config(default = "BetaSchedule::Cosine")]
    pub schedule: BetaSchedule,
    /// `T`, timesteps of the forward process.
    #[config(default = 1000)]
    pub num_train_timesteps: usize,
}

impl DenoiserSizes {
    /// What is wrong with the sizes, if anything, in one line.
    ///
    /// # Errors
    /// If sizes are zero or do not divide each other as they must.
    pub fn validate(&self, rival: &'static str) -> Result<(), BaselineError> {
        // The rules of attention and feed-forward network are the backbone's.
        BackboneConfig::new(self.width, self.depth, self.heads)
            .with_kv_heads(self.kv_heads)
            .with_mlp_ratio(self.mlp_ratio)
            .validate()?;
        if self.num_train_timesteps < 2 {
            return Err(BaselineError::Config {
                rival,
                reason: "num_train_timesteps must be 2 or more".into(),
            });
        }
        Ok(())
    }

    pub(crate) fn packed_heads(&self) -> PackedHeads {
        PackedHeads {
            heads: self.heads,
            kv_heads: match self.kv_heads {
                0 => self.heads,
                count => count,
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
