//! The codec's keys, and what can be wrong with them.

use burn::config::Config;
use latentlm_core::PartConfig;

use crate::KEYS;

/// Configuration of a [`BlockCosine`](crate::BlockCosine): the table `[codec]` of a recipe.
#[derive(Config, Debug, PartialEq)]
pub struct BlockCosineConfig {
    /// Channels of pictures: 1 or 3.
    #[config(default = "KEYS.default(\"codec.channels\")")]
    pub channels: usize,
    /// Pixels along a picture's side.
    #[config(default = "KEYS.default(\"codec.image_size\")")]
    pub image_size: usize,
    /// Pixels along a block's side.
    #[config(default = "KEYS.default(\"codec.block\")")]
    pub block: usize,
    /// `K`, coefficients that are kept of a block and channel.
    #[config(default = "KEYS.default(\"codec.coefficients\")")]
    pub coefficients: usize,
    /// Deviation of the noise's scale, which is drawn once a picture.
    #[config(default = "KEYS.default(\"codec.noise_std\")")]
    pub noise_std: f64,
}

/// What can be wrong with this codec.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// An impossible configuration.
    #[error("block cosine codec: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

impl BlockCosineConfig {
    /// Blocks along a picture's side.
    pub fn grid(&self) -> usize {
        self.image_size / self.block
    }
}

impl Default for BlockCosineConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for BlockCosineConfig {
    type Error = CodecError;

    fn validate(&self) -> Result<(), CodecError> {
        let fail = |reason: String| Err(CodecError::Config { reason });
        if self.channels != 1 && self.channels != 3 {
            return fail(format!("channels must be 1 or 3, not {}", self.channels));
        }
        if self.block == 0 || self.image_size == 0 || !self.image_size.is_multiple_of(self.block) {
            return fail(format!(
                "image_size {} is not a multiple of block {}",
                self.image_size, self.block
            ));
        }
        // Within 64 pixels, so that the number of a block's coefficients can be multiplied out.
        if self.block > 64 || !(1..=self.block * self.block).contains(&self.coefficients) {
            return fail(format!(
                "a block of {0} x {0} pixels (64 at most) has no {1} coefficients",
                self.block, self.coefficients
            ));
        }
        if !(self.noise_std >= 0.0 && self.noise_std.is_finite()) {
            return fail(format!("noise_std {} must not be negative", self.noise_std));
        }
        Ok(())
    }

    /// The shipped pictures: digits are grey, emoji have colours.
    fn preset(recipe: &str) -> Self {
        KEYS.preset("codec", recipe)
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}
