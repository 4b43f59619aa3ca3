//! The image codec with a codebook instead of noise.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_codec_image::{
    CodecConfig, CodecLoss, CodecLossConfig, CodecLossOutput, ImageSigmaVae, NoiseKind,
    PatchDiscriminator,
};
use latentlm_core::{
    CodecObjective, CodecObjectiveConfig, LatentCodec, LatentCodecConfig, LatentNoise, NoiseScale,
    ObjectiveOutput, PartConfig, Posterior, RandomStream,
};

use crate::error::BaselineError;
use crate::quantizer::{Quantized, Quantizer};

/// Size of a codebook and the weights of its losses.
#[derive(Config, Debug, Copy, PartialEq)]
pub struct CodebookConfig {
    /// `V`, entries of the codebook.
    #[config(default = 512)]
    pub codes: usize,
    /// Weight of the codebook loss, which pulls the codebook to the encoder.
    #[config(default = 1.0)]
    pub codebook_weight: f64,
    /// Weight of the commitment loss, which pulls the encoder to the codebook.
    #[config(default = 0.25)]
    pub commitment_weight: f64,
}

/// Configuration of a [`VqCodec`].
#[derive(Config, Debug, PartialEq)]
pub struct VqCodecConfig {
    /// Encoder and decoder; the noise settings are ignored.
    pub codec: CodecConfig,
    /// The codebook between them.
    #[config(default = "CodebookConfig::new()")]
    pub codebook: CodebookConfig,
}

impl VqCodecConfig {
    /// Checks the configuration.
    ///
    /// # Errors
    /// If the codec's configuration is wrong, there are fewer than two codes, or a weight is not
    /// positive.
    pub fn validate(&self) -> Result<(), BaselineError> {
        self.codec.validate()?;
        let fail = |reason: &str| {
            Err(BaselineError::Config {
                model: "VQ codec",
                reason: reason.into(),
            })
        };
        let codebook = self.codebook;
        if codebook.codes < 2 {
            return fail("codes must be 2 or more");
        }
        let positive = |weight: f64| weight > 0.0 && weight.is_finite();
        if !positive(codebook.codebook_weight) || !positive(codebook.commitment_weight) {
            return fail("codebook_weight and commitment_weight must be positive");
        }
        Ok(())
    }

    /// Builds the codec. Its parameters are drawn from the device's generator, so seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> VqCodec {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let codec = self.codec.clone().with_noise(NoiseKind::Fixed);
        VqCodec {
            autoencoder: codec.with_noise_std(0.0).init(device),
            quantizer: Quantizer::new(self.codebook.codes, self.codec.latent_dim, device),
            codebook_weight: self.codebook.codebook_weight,
            commitment_weight: self.codebook.commitment_weight,
        }
    }

    /// Builds the pixel loss of this codec, without the KL term, since codes have no distribution.
    ///
    /// # Errors
    /// If the configuration of the loss is wrong or its weights can't be loaded.
    pub fn init_loss(
        &self,
        config: &CodecLossConfig,
        device: &Device,
    ) -> Result<CodecLoss, BaselineError> {
        let mut config = config.clone();
        config.kl_weight = 0.0;
        Ok(config.init(&self.codec, device)?)
    }

    /// Builds the training objective: pixel loss, codebook loss and commitment loss.
    ///
    /// # Errors
    /// If the configuration of the loss is wrong or its weights can't be loaded.
    pub fn init_objective(
        &self,
        config: &CodecLossConfig,
        device: &Device,
    ) -> Result<VqObjective, BaselineError> {
        let pixels = self.init_loss(config, device)?;
        Ok(VqObjective { pixels })
    }
}

/// An image codec with discrete latents: encoder and decoder of [`ImageSigmaVae`] with a
/// [`Quantizer`] between them.
#[derive(Module, Debug)]
pub struct VqCodec {
    /// Encoder and decoder.
    pub autoencoder: ImageSigmaVae,
    /// The codebook.
    pub quantizer: Quantizer,
    codebook_weight: f64,
    commitment_weight: f64,
}

/// The terms of one loss.
#[derive(Debug, Clone)]
pub struct VqLoss {
    /// Weighted sum of all terms, `[1]`.
    pub total: Tensor<1>,
    /// Pixel loss, with its own terms.
    pub pixels: CodecLossOutput,
    /// Quantized latents, with the losses of codebook and encoder.
    pub quantized: Quantized,
}

impl VqCodec {
    /// Latents of the encoder, before quantization.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`
    /// - returns: `[B, T, Z]`
    pub fn encode_latents(&self, pictures: Tensor<4>) -> Tensor<3> {
        self.autoencoder.encode_parameters(pictures)
    }

    /// Encodes pictures to codes.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`
    /// - returns: `[B, T]`
    pub fn encode(&self, pictures: Tensor<4>) -> Tensor<2, Int> {
        self.quantizer.nearest(self.encode_latents(pictures))
    }

    /// Decodes codes to pictures.
    ///
    /// # Shapes
    /// - `codes`: `[B, T]`
    /// - returns: `[B, C, H, W]`, about `[-1, 1]`, not clamped
    pub fn decode(&self, codes: Tensor<2, Int>) -> Tensor<4> {
        self.autoencoder.decode(self.quantizer.embed(codes))
    }

    /// Replaces the entries of some codes by latents of the encoder ([`Quantizer::restart`]).
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    pub fn restart(
        mut self,
        codes: &[usize],
        latents: Tensor<3>,
        random: &mut RandomStream,
    ) -> Self {
        self.quantizer = self.quantizer.restart(codes, latents, random);
        self
    }

    /// The codec's loss on a batch: pixel loss, codebook loss and commitment loss.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`, in `[-1, 1]`
    pub fn loss(
        &self,
        pixels: &CodecLoss,
        pictures: Tensor<4>,
        discriminator: Option<&PatchDiscriminator>,
    ) -> VqLoss {
        let latents = self.encode_latents(pictures.clone());
        let quantized = self.quantizer.forward(latents.clone());
        let posterior = Posterior {
            mean: latents,
            noise: NoiseScale::Fixed { std: 0.0 },
        };
        let drawn = quantized.latents.clone();
        let pixels = pixels.forward(
            &self.autoencoder,
            pictures,
            &posterior,
            drawn,
            discriminator,
        );
        let codebook = quantized.codebook_loss.clone();
        let commitment = quantized.commitment_loss.clone();
        VqLoss {
            total: pixels.total.clone()
                + codebook.mul_scalar(self.codebook_weight)
                + commitment.mul_scalar(self.commitment_weight),
            pixels,
            quantized,
        }
    }
}

/// The training objective of a [`VqCodec`]. Codes have no noise, so the noise that it is given is
/// not used.
#[derive(Debug, Clone)]
pub struct VqObjective {
    pixels: CodecLoss,
}

impl CodecObjective<4> for VqObjective {
    type Codec = VqCodec;
    type Discriminator = PatchDiscriminator;

    fn to_device(self, device: &Device) -> Self {
        Self {
            pixels: self.pixels.to_device(device),
        }
    }

    fn loss(
        &self,
        codec: &VqCodec,
        pictures: Tensor<4>,
        _noise: LatentNoise,
        discriminator: Option<&PatchDiscriminator>,
    ) -> ObjectiveOutput<4> {
        let output = codec.loss(&self.pixels, pictures, discriminator);
        let pixels = output.pixels;
        let values = [
            ("reconstruction", Some(pixels.reconstruction)),
            ("commitment", Some(output.quantized.commitment_loss)),
            ("lpips", pixels.perceptual),
            ("adversarial", pixels.adversarial),
        ];
        ObjectiveOutput::new(output.total, pixels.decoded, values)
    }
}
