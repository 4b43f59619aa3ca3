//! Configuration of the image codecs.

use burn::config::Config;
use burn::tensor::Device;
use latentlm_core::{LatentCodecConfig, LatentSpec, PartConfig, PictureSpec};

use crate::codec::{ImageSigmaVae, spec};
use crate::error::CodecError;
use crate::keys::KEYS;

/// Which network the codec is.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Convolutions that halve the picture level by level.
    Conv,
    /// A Vision Transformer over patches, the reference's choice.
    Vit,
}

/// How latents are made noisy while the codec is trained.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum NoiseKind {
    /// One scalar a picture, `sigma ~ N(0, (noise_std / 0.8)^2)`.
    SigmaVae,
    /// The scale `noise_std` for every picture (ablation).
    Fixed,
    /// A learned variance, the plain VAE (ablation).
    Learned,
}

/// The nonlinearity of the Vision Transformer's feed-forward networks.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Activation {
    /// The reference's.
    Gelu,
    /// Cheap: on a CPU, GELU costs as much as the matrix products around it.
    Relu,
}

/// Sizes of the convolutional codec.
#[derive(Config, Debug, PartialEq)]
pub struct ConvConfig {
    /// Channels of the first level.
    #[config(default = "KEYS.default(\"codec.conv.base_width\")")]
    pub base_width: usize,
    /// Channels of each halving, in units of `base_width`; as many halvings as entries.
    #[config(default = "KEYS.default(\"codec.conv.multipliers\")")]
    pub multipliers: Vec<usize>,
    /// Residual blocks a level.
    #[config(default = "KEYS.default(\"codec.conv.blocks\")")]
    pub blocks: usize,
    /// Groups of the normalization.
    #[config(default = "KEYS.default(\"codec.conv.norm_groups\")")]
    pub norm_groups: usize,
}

/// Sizes of the Vision Transformer codec.
#[derive(Config, Debug, PartialEq)]
pub struct VitConfig {
    /// Pixels along a patch's side.
    #[config(default = "KEYS.default(\"codec.vit.patch_size\")")]
    pub patch_size: usize,
    /// Width of the encoder.
    #[config(default = "KEYS.default(\"codec.vit.encoder_width\")")]
    pub encoder_width: usize,
    /// Blocks of the encoder.
    #[config(default = "KEYS.default(\"codec.vit.encoder_depth\")")]
    pub encoder_depth: usize,
    /// Width of the decoder.
    #[config(default = "KEYS.default(\"codec.vit.decoder_width\")")]
    pub decoder_width: usize,
    /// Blocks of the decoder.
    #[config(default = "KEYS.default(\"codec.vit.decoder_depth\")")]
    pub decoder_depth: usize,
    /// Heads of both.
    #[config(default = "KEYS.default(\"codec.vit.heads\")")]
    pub heads: usize,
    /// Feed-forward width in units of the width.
    #[config(default = "KEYS.default(\"codec.vit.mlp_ratio\")")]
    pub mlp_ratio: usize,
    /// The nonlinearity of the feed-forward networks.
    #[config(default = "KEYS.default(\"codec.vit.activation\")")]
    pub activation: Activation,
}

/// Configuration of an [`ImageSigmaVae`].
#[derive(Config, Debug, PartialEq)]
pub struct ImageSigmaVaeConfig {
    /// Channels of pictures: 1 or 3.
    #[config(default = "KEYS.default(\"codec.channels\")")]
    pub channels: usize,
    /// Pixels along a picture's side.
    #[config(default = "KEYS.default(\"codec.image_size\")")]
    pub image_size: usize,
    /// `Z`, numbers a latent.
    #[config(default = "KEYS.default(\"codec.latent_dim\")")]
    pub latent_dim: usize,
    /// Which network.
    #[config(default = "KEYS.default(\"codec.architecture\")")]
    pub architecture: Architecture,
    /// How latents are made noisy.
    #[config(default = "KEYS.default(\"codec.noise\")")]
    pub noise: NoiseKind,
    /// Scale of the noise.
    #[config(default = "KEYS.default(\"codec.noise_std\")")]
    pub noise_std: f64,
    /// Sizes, if the network is convolutional.
    pub conv: ConvConfig,
    /// Sizes, if the network is a Vision Transformer.
    pub vit: VitConfig,
}

impl Default for ImageSigmaVaeConfig {
    fn default() -> Self {
        Self::new(ConvConfig::new(), VitConfig::new())
    }
}

impl ImageSigmaVaeConfig {
    /// Pixels that one latent stands for, along a side.
    pub fn patch(&self) -> usize {
        match self.architecture {
            Architecture::Conv => 1 << self.conv.multipliers.len(),
            Architecture::Vit => self.vit.patch_size,
        }
    }

    /// Latents along a side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch().max(1)
    }

    /// `T`, latents a picture.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Numbers a latent that the encoder puts out.
    pub(crate) fn encoder_outputs(&self) -> usize {
        match self.noise {
            NoiseKind::Learned => 2 * self.latent_dim,
            NoiseKind::SigmaVae | NoiseKind::Fixed => self.latent_dim,
        }
    }
}

impl PartConfig for ImageSigmaVaeConfig {
    type Error = CodecError;

    /// # Errors
    /// If sizes are zero or do not divide each other as they must.
    fn validate(&self) -> Result<(), CodecError> {
        let fail = |reason: String| Err(CodecError::Config { reason });
        if self.channels != 1 && self.channels != 3 {
            return fail(format!("channels must be 1 or 3, not {}", self.channels));
        }
        if self.latent_dim == 0 || self.image_size == 0 {
            return fail("latent_dim and image_size must be positive".into());
        }
        if !(self.noise_std >= 0.0 && self.noise_std.is_finite()) {
            return fail(format!(
                "noise_std must not be negative: {}",
                self.noise_std
            ));
        }
        match self.architecture {
            Architecture::Conv => self.conv.validate()?,
            Architecture::Vit => self.vit.validate()?,
        }
        let patch = self.patch();
        if patch == 0 || !self.image_size.is_multiple_of(patch) {
            return fail(format!(
                "image_size {} is not a multiple of the {patch} pixels that a latent stands for",
                self.image_size
            ));
        }
        Ok(())
    }

    /// The codecs of the digits and of the coloured emoji.
    fn preset(recipe: &str) -> Self {
        KEYS.preset("codec", recipe)
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}

impl LatentCodecConfig<4> for ImageSigmaVaeConfig {
    type Codec = ImageSigmaVae;
    type Signal = PictureSpec;

    fn init(&self, device: &Device) -> ImageSigmaVae {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        ImageSigmaVae::new(self, device)
    }

    fn spec(&self) -> LatentSpec {
        spec(self.latent_dim, self.grid())
    }

    fn signal(&self) -> PictureSpec {
        PictureSpec {
            channels: self.channels,
            height: self.image_size,
            width: self.image_size,
        }
    }
}

impl ConvConfig {
    fn validate(&self) -> Result<(), CodecError> {
        let positive = self.base_width > 0 && self.norm_groups > 0;
        if !positive || self.multipliers.is_empty() || self.multipliers.contains(&0) {
            return Err(CodecError::config(
                "conv.base_width, conv.norm_groups and every one of conv.multipliers must be \
                 positive",
            ));
        }
        if self.multipliers.len() > 12 {
            return Err(CodecError::config(
                "conv.multipliers: more than 12 halvings",
            ));
        }
        for multiplier in &self.multipliers {
            let width = self.base_width * multiplier;
            if !width.is_multiple_of(self.norm_groups) {
                return Err(CodecError::config(format!(
                    "conv: {width} channels do not divide into {} groups",
                    self.norm_groups
                )));
            }
        }
        Ok(())
    }
}

impl VitConfig {
    fn validate(&self) -> Result<(), CodecError> {
        if self.patch_size == 0 || self.heads == 0 || self.mlp_ratio == 0 {
            return Err(CodecError::config(
                "vit.patch_size, vit.heads and vit.mlp_ratio must be positive",
            ));
        }
        for (name, width) in [
            ("encoder_width", self.encoder_width),
            ("decoder_width", self.decoder_width),
        ] {
            if width == 0 || !width.is_multiple_of(self.heads) {
                return Err(CodecError::config(format!(
                    "vit.{name} {width} is not a multiple of vit.heads {}",
                    self.heads
                )));
            }
        }
        Ok(())
    }
}
