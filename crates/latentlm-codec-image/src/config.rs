//! Configuration of the image codecs, with its checks.

use burn::config::Config;
use burn::serde::{Deserialize, Serialize};
use latentlm_core::PartConfig;

use crate::error::CodecError;
use crate::keys::KEYS;

/// The kind of network.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// Convolutions. Each level halves the size of the picture.
    Conv,
    /// A Vision Transformer over patches, as in the reference.
    Vit,
}

/// The noise that is added to latents.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum NoiseKind {
    /// Sigma-VAE: a random scale for each picture, `sigma ~ N(0, (noise_std / 0.8)^2)`.
    SigmaVae,
    /// The scale `noise_std` for all pictures (ablation).
    Fixed,
    /// A learned variance: the plain VAE (ablation).
    Learned,
    /// Interpolation of latents with noise of the scale `noise_std`, in a random share for each picture, up to
    /// `latents.noise_share` (DeTok, arXiv 2507.15856).
    Interpolated,
}

/// Activation function of the Vision Transformer's feed-forward networks.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, as in the reference.
    Gelu,
    /// ReLU, which is cheaper on a CPU.
    Relu,
}

/// Sizes of the convolutional codec.
#[derive(Config, Debug, PartialEq)]
pub struct ConvConfig {
    /// Channels of the first level.
    #[config(default = "KEYS.default(\"codec.conv.base_width\")")]
    pub base_width: usize,
    /// Channels after each halving, in units of `base_width`. There are as many halvings as entries.
    #[config(default = "KEYS.default(\"codec.conv.multipliers\")")]
    pub multipliers: Vec<usize>,
    /// Number of residual blocks in each level.
    #[config(default = "KEYS.default(\"codec.conv.blocks\")")]
    pub blocks: usize,
    /// Number of groups of the GroupNorms.
    #[config(default = "KEYS.default(\"codec.conv.norm_groups\")")]
    pub norm_groups: usize,
}

/// Sizes of the Vision Transformer codec.
#[derive(Config, Debug, PartialEq)]
pub struct VitConfig {
    /// Side of a patch in pixels.
    #[config(default = "KEYS.default(\"codec.vit.patch_size\")")]
    pub patch_size: usize,
    /// Width of the encoder.
    #[config(default = "KEYS.default(\"codec.vit.encoder_width\")")]
    pub encoder_width: usize,
    /// Number of blocks of the encoder.
    #[config(default = "KEYS.default(\"codec.vit.encoder_depth\")")]
    pub encoder_depth: usize,
    /// Width of the decoder.
    #[config(default = "KEYS.default(\"codec.vit.decoder_width\")")]
    pub decoder_width: usize,
    /// Number of blocks of the decoder.
    #[config(default = "KEYS.default(\"codec.vit.decoder_depth\")")]
    pub decoder_depth: usize,
    /// Number of attention heads of both.
    #[config(default = "KEYS.default(\"codec.vit.heads\")")]
    pub heads: usize,
    /// Ratio of feed-forward width to width.
    #[config(default = "KEYS.default(\"codec.vit.mlp_ratio\")")]
    pub mlp_ratio: usize,
    /// Activation function of the feed-forward networks.
    #[config(default = "KEYS.default(\"codec.vit.activation\")")]
    pub activation: Activation,
}

/// Options that make latents easier to generate, besides their noise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(crate = "burn::serde", from = "Option<StoredLatents>")]
pub struct LatentsConfig {
    /// Largest share of interpolated noise; see [`NoiseKind::Interpolated`].
    pub noise_share: f64,
    /// Largest share of patches that are masked while the codec learns (DeTok).
    pub masked_share: f64,
    /// Whether latents are projected to the sphere of radius `sqrt(Z)` (SphereAR, arXiv 2509.24335).
    pub sphere: bool,
}

/// [`LatentsConfig`] in a file. Checkpoints of older versions have none.
#[derive(Deserialize)]
#[serde(crate = "burn::serde")]
struct StoredLatents {
    noise_share: f64,
    masked_share: f64,
    sphere: bool,
}

impl From<Option<StoredLatents>> for LatentsConfig {
    fn from(stored: Option<StoredLatents>) -> Self {
        match stored {
            Some(stored) => Self {
                noise_share: stored.noise_share,
                masked_share: stored.masked_share,
                sphere: stored.sphere,
            },
            None => Self::default(),
        }
    }
}

impl Default for LatentsConfig {
    fn default() -> Self {
        Self {
            noise_share: KEYS.default("codec.latents.noise_share"),
            masked_share: KEYS.default("codec.latents.masked_share"),
            sphere: KEYS.default("codec.latents.sphere"),
        }
    }
}

/// Configuration of an [`ImageSigmaVae`](crate::ImageSigmaVae).
#[derive(Config, Debug, PartialEq)]
pub struct ImageSigmaVaeConfig {
    /// Channels of pictures: 1 or 3.
    #[config(default = "KEYS.default(\"codec.channels\")")]
    pub channels: usize,
    /// Side of a picture in pixels.
    #[config(default = "KEYS.default(\"codec.image_size\")")]
    pub image_size: usize,
    /// `Z`, dimension of a latent.
    #[config(default = "KEYS.default(\"codec.latent_dim\")")]
    pub latent_dim: usize,
    /// The kind of network.
    #[config(default = "KEYS.default(\"codec.architecture\")")]
    pub architecture: Architecture,
    /// The noise that is added to latents.
    #[config(default = "KEYS.default(\"codec.noise\")")]
    pub noise: NoiseKind,
    /// Scale of the noise; see [`NoiseKind`].
    #[config(default = "KEYS.default(\"codec.noise_std\")")]
    pub noise_std: f64,
    /// Options that make latents easier to generate.
    #[config(default = "LatentsConfig::default()")]
    pub latents: LatentsConfig,
    /// Sizes of the network if it is convolutional.
    pub conv: ConvConfig,
    /// Sizes of the network if it is a Vision Transformer.
    pub vit: VitConfig,
}

impl Default for ImageSigmaVaeConfig {
    fn default() -> Self {
        Self::new(ConvConfig::new(), VitConfig::new())
    }
}

impl ImageSigmaVaeConfig {
    /// Side of the patch of pixels that belongs to a latent.
    pub fn patch(&self) -> usize {
        match self.architecture {
            Architecture::Conv => 1 << self.conv.multipliers.len(),
            Architecture::Vit => self.vit.patch_size,
        }
    }

    /// Number of latents along a side of the picture.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch().max(1)
    }

    /// `T`, number of latents of a picture.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Channels of the encoder's output: means, and logarithms of the variance if it is learned.
    pub(crate) fn encoder_outputs(&self) -> usize {
        match self.noise {
            NoiseKind::Learned => 2 * self.latent_dim,
            NoiseKind::SigmaVae | NoiseKind::Fixed | NoiseKind::Interpolated => self.latent_dim,
        }
    }
}

impl PartConfig for ImageSigmaVaeConfig {
    type Error = CodecError;

    /// # Errors
    /// If a size is zero or is not a multiple of another where it must be.
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
        if self.latents.sphere && self.noise == NoiseKind::Learned {
            return fail(
                "latents.sphere has no learned variance, since its KL divergence is a constant: choose another \
                 noise than \"Learned\""
                    .into(),
            );
        }
        for (name, share) in [
            ("noise_share", self.latents.noise_share),
            ("masked_share", self.latents.masked_share),
        ] {
            if !(0.0..=1.0).contains(&share) {
                return fail(format!("latents.{name} must be from 0 to 1, not {share}"));
            }
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
