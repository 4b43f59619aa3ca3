//! The head's sizes, and what can be wrong with them.

use burn::config::Config;
use latentlm_core::PartConfig;

use crate::KEYS;

/// Configuration of a [`GaussianHead`](crate::GaussianHead).
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
