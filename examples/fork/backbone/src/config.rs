//! The backbone's sizes, and what can be wrong with them.

use burn::config::Config;
use latentlm_core::PartConfig;
use latentlm_core::ops::swiglu_width;

use crate::KEYS;

/// Configuration of a [`GatedRecurrence`](crate::GatedRecurrence).
#[derive(Config, Debug, PartialEq)]
pub struct GatedRecurrenceConfig {
    /// `D`, width of inputs, outputs and hidden numbers.
    #[config(default = "KEYS.default(\"lm.width\")")]
    pub width: usize,
    /// Layers, each a recurrence and a feed-forward network.
    #[config(default = "KEYS.default(\"lm.depth\")")]
    pub depth: usize,
    /// The feed-forward width is `floor(D * mlp_ratio * 2/3 / 64) * 64`.
    #[config(default = "KEYS.default(\"lm.mlp_ratio\")")]
    pub mlp_ratio: f64,
}

/// What can be wrong with this backbone.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    /// An impossible configuration.
    #[error("gated recurrence: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

impl GatedRecurrenceConfig {
    /// Width inside the feed-forward networks.
    pub(crate) fn mlp_width(&self) -> usize {
        swiglu_width(self.width, self.mlp_ratio)
    }
}

impl Default for GatedRecurrenceConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for GatedRecurrenceConfig {
    type Error = BackboneError;

    fn validate(&self) -> Result<(), BackboneError> {
        let fail = |reason: String| Err(BackboneError::Config { reason });
        if self.width == 0 || self.depth == 0 {
            return fail("width and depth must be positive".into());
        }
        if self.mlp_width() == 0 {
            return fail(format!(
                "width {} times mlp_ratio {} is too small for a feed-forward width of 64",
                self.width, self.mlp_ratio
            ));
        }
        Ok(())
    }
}
