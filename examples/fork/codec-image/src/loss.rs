//! What the codec is trained with: the squared error, and a pull of latents towards zero. No discriminator.

use burn::config::Config;
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    CodecObjective, CodecObjectiveConfig, LatentCodec, LatentNoise, NoDiscriminator,
    ObjectiveOutput, PartConfig,
};

use crate::KEYS;
use crate::codec::BlockCosine;
use crate::config::{BlockCosineConfig, CodecError};

/// Configuration of a [`SquaredError`]: the table `[codec_loss]` of a recipe.
#[derive(Config, Debug, PartialEq)]
pub struct SquaredErrorConfig {
    /// Weight of the mean squared error.
    #[config(default = "KEYS.default(\"codec_loss.l2_weight\")")]
    pub l2_weight: f64,
    /// Weight of the latents' mean square: without it gains would grow until noise is nothing.
    #[config(default = "KEYS.default(\"codec_loss.kl_weight\")")]
    pub kl_weight: f64,
}

/// The loss itself.
#[derive(Debug, Clone)]
pub struct SquaredError {
    weights: SquaredErrorConfig,
}

impl Default for SquaredErrorConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for SquaredErrorConfig {
    type Error = CodecError;

    fn validate(&self) -> Result<(), CodecError> {
        if self.l2_weight > 0.0 && self.kl_weight >= 0.0 {
            return Ok(());
        }
        Err(CodecError::Config {
            reason: "codec_loss.l2_weight must be positive, kl_weight not negative".into(),
        })
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}

impl CodecObjectiveConfig<4> for SquaredErrorConfig {
    type CodecConfig = BlockCosineConfig;
    type Objective = SquaredError;

    fn init(&self, _codec: &BlockCosineConfig, _: &Device) -> Result<SquaredError, CodecError> {
        self.validate()?;
        Ok(SquaredError {
            weights: self.clone(),
        })
    }
}

impl CodecObjective<4> for SquaredError {
    type Codec = BlockCosine;
    type Discriminator = NoDiscriminator;

    fn to_device(self, _: &Device) -> Self {
        self
    }

    fn loss(
        &self,
        codec: &BlockCosine,
        pictures: Tensor<4>,
        noise: LatentNoise,
        _: Option<&NoDiscriminator>,
    ) -> ObjectiveOutput<4> {
        let posterior = codec.encode(pictures.clone());
        let kl = posterior.kl();
        let decoded = codec.decode(posterior.sample(noise.scale, noise.eps));
        let error = (decoded.clone() - pictures).square().mean();
        let total = error.clone().mul_scalar(self.weights.l2_weight)
            + kl.clone().mul_scalar(self.weights.kl_weight);
        ObjectiveOutput::new(total, decoded, [("l2", Some(error)), ("kl", Some(kl))])
    }
}
