//! The loss of the codec: pixels, their changes from frame to frame, KL divergence, and an adversarial loss.

use burn::serde::{Deserialize, Serialize};
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    CodecDiscriminator, CodecObjective, CodecObjectiveConfig, LatentCodec, LatentNoise,
    ObjectiveOutput, OutputLayers, PartConfig, PatchLossConfig, Posterior, adaptive_weight,
    check_weights, pixel_loss,
};

use crate::codec::VideoSigmaVae;
use crate::config::VideoSigmaVaeConfig;
use crate::discriminator::FrameDiscriminator;
use crate::error::VideoCodecError;
use crate::keys::KEYS;

/// Configuration of a [`CodecLoss`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "burn::serde")]
pub struct CodecLossConfig {
    /// Weight of the mean absolute error.
    pub l1_weight: f64,
    /// Weight of the mean squared error.
    pub l2_weight: f64,
    /// Weight of the mean squared error of changes from frame to frame.
    pub difference_weight: f64,
    /// Weight of the KL divergence from N(0, I).
    pub kl_weight: f64,
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
    type Error = VideoCodecError;

    /// # Errors
    /// If a weight is negative, or a loss that is switched on lacks a setting.
    fn validate(&self) -> Result<(), VideoCodecError> {
        let weights = [
            ("l1_weight", self.l1_weight),
            ("l2_weight", self.l2_weight),
            ("difference_weight", self.difference_weight),
            ("kl_weight", self.kl_weight),
            ("adversarial_weight", self.patches.weight),
        ];
        check_weights(&weights).map_err(VideoCodecError::loss)?;
        if self.l1_weight + self.l2_weight == 0.0 {
            return Err(VideoCodecError::config(
                "codec_loss.l1_weight and codec_loss.l2_weight are both 0: nothing to learn from",
            ));
        }
        self.patches.validate().map_err(VideoCodecError::loss)
    }

    fn preset(recipe: &str) -> Self {
        KEYS.preset("codec_loss", recipe)
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}

impl CodecObjectiveConfig<5> for CodecLossConfig {
    type CodecConfig = VideoSigmaVaeConfig;
    type Objective = CodecLoss;

    /// # Errors
    /// If the discriminator halves a frame more often than it can be halved.
    fn validate_for(&self, codec: &VideoSigmaVaeConfig) -> Result<(), VideoCodecError> {
        let checked = self.patches.validate_for("frames", codec.image_size);
        checked.map_err(VideoCodecError::loss)
    }

    fn init(
        &self,
        _codec: &VideoSigmaVaeConfig,
        _device: &Device,
    ) -> Result<CodecLoss, VideoCodecError> {
        self.validate()?;
        Ok(CodecLoss {
            config: self.clone(),
        })
    }

    fn init_discriminator(
        &self,
        codec: &VideoSigmaVaeConfig,
        device: &Device,
    ) -> Option<FrameDiscriminator> {
        let sizes = self.patches.sizes()?;
        Some(FrameDiscriminator::new(codec.channels, sizes, device))
    }

    fn discriminator_start(&self) -> u64 {
        self.patches.start
    }
}

/// The loss of a codec.
#[derive(Debug, Clone)]
pub struct CodecLoss {
    config: CodecLossConfig,
}

/// The terms of a loss, `[1]` each.
#[derive(Debug, Clone)]
pub struct CodecLossOutput {
    /// Weighted sum of all terms, to be minimized.
    pub total: Tensor<1>,
    /// Weighted sum of L1 and L2.
    pub reconstruction: Tensor<1>,
    /// Mean squared error of changes from frame to frame, without its weight.
    pub difference: Tensor<1>,
    /// KL divergence from N(0, I), without its weight.
    pub kl: Tensor<1>,
    /// Adversarial loss, without its weight.
    pub adversarial: Option<Tensor<1>>,
    /// Decoded clips, `[B, F, C, H, W]`, which the discriminator's own loss needs too.
    pub decoded: Tensor<5>,
}

impl CodecObjective<5> for CodecLoss {
    type Codec = VideoSigmaVae;
    type Discriminator = FrameDiscriminator;

    fn to_device(self, _device: &Device) -> Self {
        self
    }

    fn loss(
        &self,
        codec: &VideoSigmaVae,
        clips: Tensor<5>,
        noise: LatentNoise,
        discriminator: Option<&FrameDiscriminator>,
    ) -> ObjectiveOutput<5> {
        let posterior = codec.encode(clips.clone());
        let latents = posterior.sample(noise.scale, noise.eps);
        let output = self.forward(codec, clips, &posterior, latents, discriminator);
        let values = [
            ("reconstruction", Some(output.reconstruction)),
            ("difference", Some(output.difference)),
            ("kl", Some(output.kl)),
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
    /// - `clips`: `[B, F, C, H, W]`; `latents`: `[B, T, Z]`, drawn from `posterior`
    pub fn forward(
        &self,
        codec: &VideoSigmaVae,
        clips: Tensor<5>,
        posterior: &Posterior,
        latents: Tensor<3>,
        discriminator: Option<&FrameDiscriminator>,
    ) -> CodecLossOutput {
        let features = codec.decoder_features(latents);
        let decoded = codec.output_layers(features.clone());
        let error = decoded.clone() - clips.clone();
        let reconstruction = self.pixels(error.clone());
        let difference = changes(error);
        let kl = posterior.kl();
        let mut total = reconstruction.clone()
            + difference.clone().mul_scalar(self.config.difference_weight)
            + kl.clone().mul_scalar(self.config.kl_weight);
        let mut adversarial = None;
        if let Some(discriminator) = discriminator {
            let ratio = self.adaptive_weight(codec, features, clips, discriminator);
            let fooled = discriminator.judge(decoded.clone()).codec_loss();
            let weight = self.config.patches.weight * f64::from(ratio);
            total = total + fooled.clone().mul_scalar(weight);
            adversarial = Some(fooled);
        }
        CodecLossOutput {
            total,
            reconstruction,
            difference,
            kl,
            adversarial,
            decoded,
        }
    }

    /// Weighted sum of the errors of pixels, `decoded - clip`.
    fn pixels(&self, error: Tensor<5>) -> Tensor<1> {
        pixel_loss(error, self.config.l1_weight, self.config.l2_weight)
    }

    /// The [`adaptive_weight`] for the errors of pixels and of their changes.
    fn adaptive_weight(
        &self,
        codec: &VideoSigmaVae,
        features: Tensor<4>,
        clips: Tensor<5>,
        discriminator: &FrameDiscriminator,
    ) -> f32 {
        adaptive_weight::<_, 5>(codec, features.detach(), discriminator, |decoded| {
            let error = decoded - clips;
            let difference = changes(error.clone()).mul_scalar(self.config.difference_weight);
            self.pixels(error) + difference
        })
    }
}

/// Mean squared error of the differences between neighbouring frames. Flicker costs; an error that stays the same
/// in all frames does not. 0 for a picture.
fn changes(error: Tensor<5>) -> Tensor<1> {
    let frames = error.dims()[1];
    if frames < 2 {
        return Tensor::zeros([1], &error.device());
    }
    let before = error.clone().narrow(1, 0, frames - 1);
    let after = error.narrow(1, 1, frames - 1);
    (after - before).square().mean()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::conformance::module::gradient_agrees_with_finite_differences;
    use latentlm_core::conformance::seeded;
    use latentlm_core::{LatentCodecConfig, NoiseScale, RandomStream};

    fn changed(change: impl FnOnce(&mut CodecLossConfig)) -> CodecLossConfig {
        let mut config = CodecLossConfig::default();
        change(&mut config);
        config
    }

    fn number(x: Tensor<1>) -> f64 {
        f64::from(x.into_scalar::<f32>())
    }

    fn loss(config: CodecLossConfig, device: &Device) -> CodecLoss {
        config
            .init(&VideoSigmaVaeConfig::default(), device)
            .unwrap()
    }

    /// A clip of one pixel with these errors.
    fn errors(values: [f32; 4], device: &Device) -> Tensor<5> {
        Tensor::<1>::from_floats(values, device).reshape([1, 4, 1, 1, 1])
    }

    #[test]
    fn terms_have_closed_forms() {
        let device = Device::default();
        let config = changed(|own| (own.l1_weight, own.l2_weight) = (2.0, 3.0));
        let loss = loss(config, &device);
        // Each error: 2 |e| + 3 e^2, and the mean square of what it changes by.
        for (error, pixels, change) in [
            ([0.5, 0.5, 0.5, 0.5], 2.0 * 0.5 + 3.0 * 0.25, 0.0),
            ([0.5, -0.5, 0.5, -0.5], 2.0 * 0.5 + 3.0 * 0.25, 1.0),
            ([0.0, 0.1, 0.2, 0.3], 2.0 * 0.15 + 3.0 * 0.035, 0.01),
        ] {
            let error = errors(error, &device);
            let got = number(loss.pixels(error.clone()));
            assert!((got - pixels).abs() < 1e-6, "{got} for {pixels}");
            let got = number(changes(error));
            assert!((got - change).abs() < 1e-6, "{got} for {change}");
        }
        let picture = errors([0.7; 4], &device).narrow(1, 0, 1);
        assert_eq!(number(changes(picture)), 0.0);
    }

    /// The total of a codec's loss is the weighted sum of its terms, and each term is what its definition gives for
    /// the decoded clips.
    #[test]
    fn the_total_is_the_weighted_sum() {
        let device = Device::default();
        let sizes = VideoSigmaVaeConfig::default();
        let codec = seeded(1, &device, |device| sizes.init(device));
        let loss = loss(changed(|own| own.kl_weight = 0.1), &device);
        let mut random = RandomStream::new(1);
        let clips = random.normal([2, 9, 1, 32, 32], &device);
        let posterior = Posterior {
            mean: Tensor::full([2, 12, 64], 2.0, &device),
            noise: NoiseScale::Fixed { std: 0.5 },
        };
        let latents = random.normal([2, 12, 64], &device);
        let out = loss.forward(&codec, clips.clone(), &posterior, latents, None);
        let error = out.decoded - clips;
        let pixels = number(error.clone().square().mean());
        let change = number(changes(error));
        assert!((number(out.reconstruction) - pixels).abs() < 1e-6);
        assert!((number(out.difference) - change).abs() < 1e-6);
        assert!((number(out.kl) - 4.0).abs() < 1e-6);
        let sum = pixels + 0.5 * change + 0.1 * 4.0;
        assert!((number(out.total) - sum).abs() < 1e-5);
        assert!(out.adversarial.is_none());
    }

    #[test]
    fn the_loss_has_its_gradient() {
        let device = Device::default().autodiff();
        let loss = loss(changed(|own| own.l1_weight = 0.5), &device);
        let error = RandomStream::new(1).normal([2, 5, 1, 4, 4], &device);
        gradient_agrees_with_finite_differences("pixels", error.clone(), |x| loss.pixels(x));
        gradient_agrees_with_finite_differences("changes", error, changes);
    }

    /// The weight from detached features is the ratio of the true gradients, those of the two losses through
    /// the whole codec.
    #[test]
    fn adaptive_weight_is_the_ratio_of_gradients() {
        let device = Device::default().autodiff();
        let sizes = VideoSigmaVaeConfig::default();
        let config = changed(|own| own.patches.weight = 1.0);
        let codec = seeded(1, &device, |device| sizes.init(device));
        let discriminator = seeded(2, &device, |device| {
            config.init_discriminator(&sizes, device)
        });
        let discriminator = discriminator.unwrap();
        let loss = loss(config, &device);
        let mut random = RandomStream::new(1);
        let clips = random.normal([2, 5, 1, 32, 32], &device);
        let latents = random.normal([2, 8, 64], &device);
        let features = codec.decoder_features(latents.clone());
        let got = loss.adaptive_weight(&codec, features, clips.clone(), &discriminator);

        let decoded: Tensor<5> = codec.decode(latents.clone());
        let error = decoded - clips;
        let nll = loss.pixels(error.clone()) + changes(error).mul_scalar(0.5);
        let fooled = discriminator.forward(codec.decode(latents)).mean().neg();
        let expected =
            codec.output_gradient_norm(nll) / (codec.output_gradient_norm(fooled) + 1e-4);
        assert!((got / expected - 1.0).abs() < 1e-4, "{got} {expected}");
    }

    /// 16 pixels are halved to 8, 4, 2 and 1, not once more.
    #[test]
    fn frames_are_not_halved_more_often_than_they_can_be() {
        let codec = VideoSigmaVaeConfig::default().with_image_size(16);
        let with = |weight, layers| {
            changed(|own| (own.patches.weight, own.patches.layers) = (weight, layers))
        };
        with(1.0, 4).validate_for(&codec).unwrap();
        let message = with(1.0, 5).validate_for(&codec).unwrap_err().to_string();
        let part = "discriminator_layers must be at most 4 for frames of 16 pixels, not 5";
        assert!(message.contains(part), "{message}");
        // Without a discriminator its layers do not matter.
        with(0.0, 5).validate_for(&codec).unwrap();
    }

    #[test]
    fn wrong_configurations_are_refused() {
        for (config, part) in [
            (changed(|own| own.kl_weight = -1.0), "kl_weight"),
            (
                changed(|own| own.difference_weight = f64::NAN),
                "difference_weight",
            ),
            (changed(|own| own.l2_weight = 0.0), "nothing to learn"),
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
