//! The codec's keys, and what can be wrong with them.

use burn::config::Config;
use latentlm_core::PartConfig;

use crate::KEYS;

/// Configuration of a [`LappedSine`](crate::LappedSine): the table `[codec]` of a recipe.
#[derive(Config, Debug, PartialEq)]
pub struct LappedSineConfig {
    /// Samples a second.
    #[config(default = "KEYS.default(\"codec.sample_rate_hz\")")]
    pub sample_rate_hz: u32,
    /// `N`, samples a latent.
    #[config(default = "KEYS.default(\"codec.hop_samples\")")]
    pub hop_samples: usize,
    /// `L`, samples at the beginning of a hop that depend on the hop before; at most half of it.
    #[config(default = "KEYS.default(\"codec.overlap_samples\")")]
    pub overlap_samples: usize,
    /// `Z`, coefficients that are kept of a hop.
    #[config(default = "KEYS.default(\"codec.coefficients\")")]
    pub coefficients: usize,
    /// Root mean square of the signals, which gains begin with.
    #[config(default = "KEYS.default(\"codec.signal_rms\")")]
    pub signal_rms: f64,
    /// Deviation of the noise's scale, which is drawn once a signal.
    #[config(default = "KEYS.default(\"codec.noise_std\")")]
    pub noise_std: f64,
}

/// What can be wrong with this codec.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// An impossible configuration.
    #[error("lapped sine codec: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

impl Default for LappedSineConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for LappedSineConfig {
    type Error = CodecError;

    fn validate(&self) -> Result<(), CodecError> {
        let fail = |reason: String| Err(CodecError::Config { reason });
        if self.sample_rate_hz == 0 {
            return fail("sample_rate_hz must be positive".into());
        }
        if !(1..=self.hop_samples / 2).contains(&self.overlap_samples) {
            return fail(format!(
                "overlap_samples {} must be positive and at most half of hop_samples {}",
                self.overlap_samples, self.hop_samples
            ));
        }
        if !(1..=self.hop_samples).contains(&self.coefficients) {
            return fail(format!(
                "a hop of {} samples has no {} coefficients",
                self.hop_samples, self.coefficients
            ));
        }
        if !(self.signal_rms > 0.0 && self.signal_rms.is_finite()) {
            return fail(format!("signal_rms {} must be positive", self.signal_rms));
        }
        if !(self.noise_std >= 0.0 && self.noise_std.is_finite()) {
            return fail(format!("noise_std {} must not be negative", self.noise_std));
        }
        Ok(())
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}
