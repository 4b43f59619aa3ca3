//! The head's sizes, and what can be wrong with them.

use burn::config::Config;
use burn::tensor::Device;
use latentlm_core::{HeadSizes, LatentHeadConfig, PartConfig};

use crate::KEYS;
use crate::gaussian::GaussianHead;

/// Configuration of a [`GaussianHead`].
#[derive(Config, Debug, PartialEq)]
pub struct GaussianHeadConfig {
    /// `Z`, numbers a latent.
    #[config(default = 16)]
    pub latent_dim: usize,
    /// `D`, width of the condition and of the head.
    #[config(default = 128)]
    pub width: usize,
    /// Hidden layers.
    #[config(default = "KEYS.default(\"lm.head_depth\")")]
    pub depth: usize,
}

/// What can be wrong with this head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// An impossible configuration.
    #[error("Gaussian head: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

impl Default for GaussianHeadConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for GaussianHeadConfig {
    type Error = HeadError;

    fn validate(&self) -> Result<(), HeadError> {
        if self.latent_dim > 0 && self.width > 0 {
            return Ok(());
        }
        Err(HeadError::Config {
            reason: "latent_dim and width must be positive".into(),
        })
    }
}

impl LatentHeadConfig for GaussianHeadConfig {
    type Head = GaussianHead;

    /// What a recipe says of noise and timesteps means nothing here.
    fn of(sizes: &HeadSizes) -> Self {
        Self::new()
            .with_latent_dim(sizes.latent_dim)
            .with_width(sizes.width)
            .with_depth(sizes.depth)
    }

    fn init(&self, device: &Device) -> GaussianHead {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        GaussianHead::new(self, device)
    }
}
