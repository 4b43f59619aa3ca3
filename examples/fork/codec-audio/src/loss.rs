//! What the codec is trained with: the squared error of the sound over its power, and a pull of latents
//! towards zero. No discriminator.

use burn::config::Config;
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    CodecObjective, CodecObjectiveConfig, LatentCodec, LatentNoise, NoDiscriminator,
    ObjectiveOutput, PartConfig,
};

use crate::KEYS;
use crate::codec::LappedSine;
use crate::config::{CodecError, LappedSineConfig};

/// Configuration of a [`WaveError`]: the table `[codec_loss]` of a recipe.
#[derive(Config, Debug, PartialEq)]
pub struct WaveErrorConfig {
    /// Weight of the mean squared error over the signals' mean square.
    #[config(default = "KEYS.default(\"codec_loss.error_weight\")")]
    pub error_weight: f64,
    /// Weight of the latents' mean square: without it gains would grow until noise is nothing.
    #[config(default = "KEYS.default(\"codec_loss.kl_weight\")")]
    pub kl_weight: f64,
}

/// The loss itself.
#[derive(Debug, Clone)]
pub struct WaveError {
    weights: WaveErrorConfig,
    /// Mean square of the signals.
    power: f64,
}

impl Default for WaveErrorConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for WaveErrorConfig {
    type Error = CodecError;

    fn validate(&self) -> Result<(), CodecError> {
        if self.error_weight > 0.0 && self.kl_weight >= 0.0 {
            return Ok(());
        }
        Err(CodecError::Config {
            reason: "codec_loss.error_weight must be positive, kl_weight not negative".into(),
        })
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}

impl CodecObjectiveConfig<3> for WaveErrorConfig {
    type CodecConfig = LappedSineConfig;
    type Objective = WaveError;

    fn init(&self, codec: &LappedSineConfig, _: &Device) -> Result<WaveError, CodecError> {
        self.validate()?;
        Ok(WaveError {
            weights: self.clone(),
            power: codec.signal_rms * codec.signal_rms,
        })
    }
}

impl CodecObjective<3> for WaveError {
    type Codec = LappedSine;
    type Discriminator = NoDiscriminator;

    fn to_device(self, _: &Device) -> Self {
        self
    }

    fn loss(
        &self,
        codec: &LappedSine,
        signal: Tensor<3>,
        noise: LatentNoise,
        _: Option<&NoDiscriminator>,
    ) -> ObjectiveOutput<3> {
        let posterior = codec.encode(signal.clone());
        let kl = posterior.kl();
        let decoded = codec.decode(posterior.sample(noise.scale, noise.eps));
        // What is left of the signal after the last whole hop has no latents.
        let samples = decoded.dims()[2];
        let error = decoded.clone() - signal.narrow(2, 0, samples);
        let error = error.square().mean().div_scalar(self.power);
        let total = error.clone().mul_scalar(self.weights.error_weight)
            + kl.clone().mul_scalar(self.weights.kl_weight);
        let values = [("error", Some(error)), ("kl", Some(kl))];
        ObjectiveOutput::new(total, decoded, values)
    }
}
