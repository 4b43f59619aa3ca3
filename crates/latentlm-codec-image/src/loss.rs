//! The loss of the codec: reconstruction, KL divergence, perceptual and adversarial loss.

use std::ops::Range;

use burn::module::Module;
use burn::serde::{Deserialize, Serialize};
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    CodecDiscriminator, CodecObjective, CodecObjectiveConfig, LatentCodec, LatentNoise,
    ObjectiveOutput, OutputLayers, PartConfig, PatchLossConfig, Posterior, RandomStream,
    adaptive_weight, check_weights, pixel_loss,
};

use crate::codec::{DecoderFeatures, ImageSigmaVae};
use crate::config::ImageSigmaVaeConfig;
use crate::discriminator::PatchDiscriminator;
use crate::error::CodecError;
use crate::keys::KEYS;
use crate::lpips::Lpips;
use crate::mask::draw_mask;

/// Configuration of a [`CodecLoss`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "burn::serde")]
pub struct CodecLossConfig {
    /// Weight of the mean absolute error.
    pub l1_weight: f64,
    /// Weight of the mean squared error.
    pub l2_weight: f64,
    /// Weight of the KL divergence from N(0, I).
    pub kl_weight: f64,
    /// Weight of the perceptual loss LPIPS, which needs `lpips_weights`.
    pub lpips_weight: f64,
    /// Safetensors file with the weights of LPIPS.
    pub lpips_weights: String,
    /// The adversarial loss.
    #[serde(flatten)]
    pub patches: PatchLossConfig,
}

impl Default for CodecLossConfig {
    fn default() -> Self {
        KEYS.preset("codec_loss", "")
    }
}

impl PartConfig for CodecLossConfig {
    type Error = CodecError;

    /// # Errors
    /// If a weight is negative, or a loss that is switched on lacks a setting.
    fn validate(&self) -> Result<(), CodecError> {
        let weights = [
            ("l1_weight", self.l1_weight),
            ("l2_weight", self.l2_weight),
            ("kl_weight", self.kl_weight),
            ("lpips_weight", self.lpips_weight),
            ("adversarial_weight", self.patches.weight),
        ];
        check_weights(&weights).map_err(CodecError::loss)?;
        if self.l1_weight + self.l2_weight == 0.0 {
            return Err(CodecError::config(
                "codec_loss.l1_weight and codec_loss.l2_weight are both 0: nothing to learn from",
            ));
        }
        if self.lpips_weight > 0.0 && self.lpips_weights.is_empty() {
            return Err(CodecError::config(
                "codec_loss.lpips_weight is set, but codec_loss.lpips_weights names no file",
            ));
        }
        self.patches.validate().map_err(CodecError::loss)
    }

    fn preset(recipe: &str) -> Self {
        KEYS.preset("codec_loss", recipe)
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}

impl CodecObjectiveConfig<4> for CodecLossConfig {
    type CodecConfig = ImageSigmaVaeConfig;
    type Objective = CodecLoss;

    /// # Errors
    /// If the discriminator halves a picture more often than it can be halved.
    fn validate_for(&self, codec: &ImageSigmaVaeConfig) -> Result<(), CodecError> {
        let checked = self.patches.validate_for("pictures", codec.image_size);
        checked.map_err(CodecError::loss)
    }

    /// Builds the loss. Loads the weights of LPIPS if it is switched on.
    fn init(&self, codec: &ImageSigmaVaeConfig, device: &Device) -> Result<CodecLoss, CodecError> {
        self.validate()?;
        let lpips = if self.lpips_weight > 0.0 {
            Some(Lpips::load(self.lpips_weights.as_ref(), device)?)
        } else {
            None
        };
        Ok(CodecLoss {
            config: self.clone(),
            lpips,
            masked_share: codec.latents.masked_share,
            masked: None,
        })
    }

    fn init_discriminator(
        &self,
        codec: &ImageSigmaVaeConfig,
        device: &Device,
    ) -> Option<PatchDiscriminator> {
        let sizes = self.patches.sizes()?;
        Some(PatchDiscriminator::new(codec.channels, sizes, device))
    }

    fn discriminator_start(&self) -> u64 {
        self.patches.start
    }
}

/// The loss of a codec.
#[derive(Debug, Clone)]
pub struct CodecLoss {
    config: CodecLossConfig,
    lpips: Option<Lpips>,
    /// Largest share of masked patches.
    masked_share: f64,
    /// Patches of the batch that are masked, `[B, T]`: 1 for masked patches, 0 for the others.
    masked: Option<Tensor<2>>,
}

/// The terms of a loss, `[1]` each.
#[derive(Debug, Clone)]
pub struct CodecLossOutput {
    /// Weighted sum of all terms, to be minimized.
    pub total: Tensor<1>,
    /// Weighted sum of L1 and L2.
    pub reconstruction: Tensor<1>,
    /// KL divergence from N(0, I), without its weight.
    pub kl: Tensor<1>,
    /// LPIPS, without its weight.
    pub perceptual: Option<Tensor<1>>,
    /// Adversarial loss, without its weight.
    pub adversarial: Option<Tensor<1>>,
    /// Decoded pictures, `[B, C, H, W]`, which the discriminator's own loss needs too.
    pub decoded: Tensor<4>,
}

impl CodecObjective<4> for CodecLoss {
    type Codec = ImageSigmaVae;
    type Discriminator = PatchDiscriminator;

    fn to_device(self, device: &Device) -> Self {
        Self {
            lpips: self.lpips.map(|lpips| lpips.fork(device)),
            masked: self.masked.map(|masked| masked.to_device(device)),
            ..self
        }
    }

    /// Draws which patches are masked.
    fn for_batch(self, latents: [usize; 3], random: &mut RandomStream, device: &Device) -> Self {
        if self.masked_share == 0.0 {
            return self;
        }
        let [batch, tokens, _] = latents;
        let masked = draw_mask(batch, tokens, self.masked_share, random, device);
        Self {
            masked: Some(masked),
            ..self
        }
    }

    fn for_rows(self, rows: Range<usize>) -> Self {
        let masked = self.masked;
        Self {
            masked: masked.map(|masked| masked.narrow(0, rows.start, rows.len())),
            ..self
        }
    }

    fn loss(
        &self,
        codec: &ImageSigmaVae,
        pictures: Tensor<4>,
        noise: LatentNoise,
        discriminator: Option<&PatchDiscriminator>,
    ) -> ObjectiveOutput<4> {
        let seen = match &self.masked {
            Some(masked) => codec.mask(pictures.clone(), masked.clone()),
            None => pictures.clone(),
        };
        let posterior = codec.encode(seen);
        let latents = posterior.sample(noise.scale, noise.eps);
        let output = self.forward(codec, pictures, &posterior, latents, discriminator);
        let values = [
            ("reconstruction", Some(output.reconstruction)),
            ("kl", Some(output.kl)),
            ("lpips", output.perceptual),
            ("adversarial", output.adversarial),
        ];
        ObjectiveOutput::new(output.total, output.decoded, values)
    }
}

impl CodecLoss {
    /// The codec's loss on a batch. The weight of the adversarial loss is `adversarial_weight` times the
    /// [`adaptive_weight`].
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`; `latents`: `[B, T, Z]`, drawn from `posterior`
    pub fn forward(
        &self,
        codec: &ImageSigmaVae,
        pictures: Tensor<4>,
        posterior: &Posterior,
        latents: Tensor<3>,
        discriminator: Option<&PatchDiscriminator>,
    ) -> CodecLossOutput {
        let features = codec.decoder_features(latents);
        let decoded = codec.output_layers(features.clone());
        let reconstruction = self.pixels(decoded.clone(), pictures.clone());
        let perceptual = self
            .lpips
            .as_ref()
            .map(|lpips| lpips.forward(decoded.clone(), pictures.clone()));
        let kl = posterior.kl();
        let mut total = reconstruction.clone() + kl.clone().mul_scalar(self.config.kl_weight);
        if let Some(perceptual) = &perceptual {
            total = total + perceptual.clone().mul_scalar(self.config.lpips_weight);
        }
        let mut adversarial = None;
        if let Some(discriminator) = discriminator {
            let ratio = self.adaptive_weight(codec, features, pictures, discriminator);
            let fooled = discriminator.judge(decoded.clone()).codec_loss();
            let weight = self.config.patches.weight * f64::from(ratio);
            total = total + fooled.clone().mul_scalar(weight);
            adversarial = Some(fooled);
        }
        CodecLossOutput {
            total,
            reconstruction,
            kl,
            perceptual,
            adversarial,
            decoded,
        }
    }

    /// Weighted sum of the errors of pixels.
    fn pixels(&self, decoded: Tensor<4>, pictures: Tensor<4>) -> Tensor<1> {
        let (l1_weight, l2_weight) = (self.config.l1_weight, self.config.l2_weight);
        pixel_loss(decoded - pictures, l1_weight, l2_weight)
    }

    /// The [`adaptive_weight`] for the errors of pixels and LPIPS.
    fn adaptive_weight(
        &self,
        codec: &ImageSigmaVae,
        features: DecoderFeatures,
        pictures: Tensor<4>,
        discriminator: &PatchDiscriminator,
    ) -> f32 {
        adaptive_weight::<_, 4>(codec, features.detach(), discriminator, |decoded| {
            let mut loss = self.pixels(decoded.clone(), pictures.clone());
            if let Some(lpips) = &self.lpips {
                let perceptual = lpips.forward(decoded, pictures);
                loss = loss + perceptual.mul_scalar(self.config.lpips_weight);
            }
            loss
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::LatentCodecConfig;
    use latentlm_core::conformance::seeded;

    fn changed(change: impl FnOnce(&mut CodecLossConfig)) -> CodecLossConfig {
        let mut config = CodecLossConfig::default();
        change(&mut config);
        config
    }

    /// The weight from detached features is the ratio of the true gradients, those of the two losses through
    /// the whole codec.
    #[test]
    fn adaptive_weight_is_the_ratio_of_gradients() {
        let device = Device::default().autodiff();
        let sizes = ImageSigmaVaeConfig::default();
        let config = changed(|own| own.patches.weight = 1.0);
        let loss = config.init(&sizes, &device).unwrap();
        let codec = seeded(1, &device, |device| sizes.init(device));
        let discriminator = seeded(2, &device, |device| {
            config.init_discriminator(&sizes, device)
        });
        let discriminator = discriminator.unwrap();
        let mut random = RandomStream::new(1);
        let pictures = random.normal([2, 1, 32, 32], &device);
        let latents = random.normal([2, 16, 16], &device);
        let features = codec.decoder_features(latents.clone());
        let got = loss.adaptive_weight(&codec, features, pictures.clone(), &discriminator);

        let nll = loss.pixels(codec.decode(latents.clone()), pictures);
        let fooled = discriminator.forward(codec.decode(latents)).mean().neg();
        let expected =
            codec.output_gradient_norm(nll) / (codec.output_gradient_norm(fooled) + 1e-4);
        assert!((got / expected - 1.0).abs() < 1e-4, "{got} {expected}");
    }

    /// 16 pixels are halved to 8, 4, 2 and 1, not once more.
    #[test]
    fn pictures_are_not_halved_more_often_than_they_can_be() {
        let codec = ImageSigmaVaeConfig::default().with_image_size(16);
        let with = |weight, layers| {
            changed(|own| (own.patches.weight, own.patches.layers) = (weight, layers))
        };
        with(1.0, 4).validate_for(&codec).unwrap();
        let message = with(1.0, 5).validate_for(&codec).unwrap_err().to_string();
        let part = "discriminator_layers must be at most 4 for pictures of 16 pixels, not 5";
        assert!(message.contains(part), "{message}");
        // Without a discriminator its layers do not matter.
        with(0.0, 5).validate_for(&codec).unwrap();
        let device = Device::default();
        let discriminator = seeded(1, &device, |device| {
            with(1.0, 4).init_discriminator(&codec, device)
        });
        let pictures = RandomStream::new(1).normal([1, 1, 16, 16], &device);
        let logits = discriminator.unwrap().forward(pictures);
        assert_eq!(logits.dims(), [1, 1, 1, 1]);
    }

    #[test]
    fn wrong_configurations_are_refused() {
        for (config, part) in [
            (changed(|own| own.kl_weight = -1.0), "kl_weight"),
            (
                changed(|own| own.patches.weight = -1.0),
                "adversarial_weight",
            ),
            (changed(|own| own.l2_weight = 0.0), "nothing to learn"),
            (changed(|own| own.lpips_weight = 1.0), "names no file"),
            (
                changed(|own| (own.patches.weight, own.patches.width) = (1.0, 6)),
                "multiple of 4",
            ),
        ] {
            let message = config.validate().unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
