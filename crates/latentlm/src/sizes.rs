//! Sizes of backbone and head for all modalities.

use burn::config::Config;
use latentlm_backbone::{BackboneConfig, BackboneError};
use latentlm_core::{
    BackboneSizes, BetaSchedule, CausalBackboneConfig, HeadMethod, HeadSizes, LatentHeadConfig,
    PartConfig, Prediction,
};
use latentlm_diffusion::{HeadConfig, HeadError};

/// Sizes of a language model with a diffusion head. Defaults are the reference's Base size.
#[derive(Config, Debug, PartialEq)]
pub struct LmSizes {
    /// `D`, width of backbone and head.
    #[config(default = "latentlm_backbone::KEYS.default(\"lm.width\")")]
    pub width: usize,
    /// Backbone blocks.
    #[config(default = "latentlm_backbone::KEYS.default(\"lm.depth\")")]
    pub depth: usize,
    /// Query heads.
    #[config(default = "latentlm_backbone::KEYS.default(\"lm.heads\")")]
    pub heads: usize,
    /// Key/value heads; 0 stands for as many as query heads.
    #[config(default = "latentlm_backbone::KEYS.default(\"lm.kv_heads\")")]
    pub kv_heads: usize,
    /// Feed-forward ratio of backbone and head.
    #[config(default = "latentlm_backbone::KEYS.default(\"lm.mlp_ratio\")")]
    pub mlp_ratio: f64,
    /// Layers of the diffusion head.
    #[config(default = "latentlm_diffusion::KEYS.default(\"lm.head_depth\")")]
    pub head_depth: usize,
    /// What the head predicts.
    #[config(default = "latentlm_diffusion::KEYS.default(\"lm.prediction\")")]
    pub prediction: Prediction,
    /// How noise grows.
    #[config(default = "latentlm_diffusion::KEYS.default(\"lm.schedule\")")]
    pub schedule: BetaSchedule,
    /// Timesteps of the forward process.
    #[config(default = "latentlm_diffusion::KEYS.default(\"lm.num_train_timesteps\")")]
    pub num_train_timesteps: usize,
    /// Whether training keeps what goes into each block of the backbone and layer of the head, and runs
    /// them again for their gradients: less memory, more time, the same gradients.
    #[config(default = "latentlm_backbone::KEYS.default(\"lm.recompute\")")]
    pub recompute: bool,
}

impl LmSizes {
    /// The backbone's configuration.
    pub fn backbone(&self) -> BackboneConfig {
        BackboneConfig::of(&BackboneSizes {
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            kv_heads: self.kv_heads,
            mlp_ratio: self.mlp_ratio,
            recompute: self.recompute,
        })
    }

    /// The head's configuration for latents of that many numbers.
    pub fn head(&self, latent_dim: usize, method: HeadMethod) -> HeadConfig {
        HeadConfig::of(&HeadSizes {
            latent_dim,
            width: self.width,
            depth: self.head_depth,
            mlp_ratio: self.mlp_ratio,
            prediction: self.prediction,
            schedule: self.schedule,
            num_train_timesteps: self.num_train_timesteps,
            method,
            recompute: self.recompute,
        })
    }

    /// What is wrong with the sizes, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other or the head's method.
    pub fn validate(&self, latent_dim: usize, method: HeadMethod) -> Result<(), ModelError> {
        self.backbone().validate()?;
        self.head(latent_dim, method).validate()?;
        Ok(())
    }
}

/// What can be wrong with a model's configuration.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The backbone's part.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The head's part.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Sizes of the model as a whole.
    #[error("model: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}
