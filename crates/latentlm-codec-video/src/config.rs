//! Configuration of the video codec, with its checks.

use burn::config::Config;
use burn::serde::{Deserialize, Serialize};
use latentlm_core::PartConfig;

use crate::error::VideoCodecError;
use crate::keys::KEYS;

/// Activation function of the feed-forward networks.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU.
    Gelu,
    /// ReLU, which is cheaper on a CPU.
    Relu,
}

/// A number that is 0 in checkpoints which are older than it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(crate = "burn::serde", from = "Option<usize>", into = "usize")]
pub struct Added(pub usize);

impl From<Option<usize>> for Added {
    fn from(stored: Option<usize>) -> Self {
        Self(stored.unwrap_or_default())
    }
}

impl From<Added> for usize {
    fn from(added: Added) -> Self {
        added.0
    }
}

/// Configuration of a [`VideoSigmaVae`](crate::VideoSigmaVae).
///
/// A language model takes a step for each latent, so few and long latents are faster to draw than many short ones. A
/// fine patch gives sharper frames than a coarse one, because its pixels are a linear function of `decoder_width`
/// numbers. Therefore patches are small, and several of them are joined into one latent.
#[derive(Config, Debug, PartialEq)]
pub struct VideoSigmaVaeConfig {
    /// Channels of frames: 1 or 3.
    #[config(default = "KEYS.default(\"codec.channels\")")]
    pub channels: usize,
    /// Side of a frame in pixels.
    #[config(default = "KEYS.default(\"codec.image_size\")")]
    pub image_size: usize,
    /// Frames of each group after the first frame, which stands alone.
    #[config(default = "KEYS.default(\"codec.frames_per_group\")")]
    pub frames_per_group: usize,
    /// Side of a patch in pixels.
    #[config(default = "KEYS.default(\"codec.patch_size\")")]
    pub patch_size: usize,
    /// Side of the square of patches that are joined into one latent.
    #[config(default = "KEYS.default(\"codec.latent_patches\")")]
    pub latent_patches: usize,
    /// The same for the groups after the first frame; 0 for as many. Frames that follow need fewer latents than the
    /// first one, most of all with `motion_range`.
    #[config(default = "KEYS.default(\"codec.later_patches\")")]
    pub later_patches: Added,
    /// `Z`, dimension of a latent.
    #[config(default = "KEYS.default(\"codec.latent_dim\")")]
    pub latent_dim: usize,
    /// Width of the encoder.
    #[config(default = "KEYS.default(\"codec.encoder_width\")")]
    pub encoder_width: usize,
    /// Number of blocks of the encoder.
    #[config(default = "KEYS.default(\"codec.encoder_depth\")")]
    pub encoder_depth: usize,
    /// Width of the decoder.
    #[config(default = "KEYS.default(\"codec.decoder_width\")")]
    pub decoder_width: usize,
    /// Number of blocks of the decoder.
    #[config(default = "KEYS.default(\"codec.decoder_depth\")")]
    pub decoder_depth: usize,
    /// Number of groups that each block mixes: its own and those just before it.
    #[config(default = "KEYS.default(\"codec.time_taps\")")]
    pub time_taps: usize,
    /// Farthest that a pixel moves from the first frame, in pixels; 0 for a decoder without motion.
    #[config(default = "KEYS.default(\"codec.motion_range\")")]
    pub motion_range: Added,
    /// Number of attention heads of encoder and decoder.
    #[config(default = "KEYS.default(\"codec.heads\")")]
    pub heads: usize,
    /// Ratio of feed-forward width to width.
    #[config(default = "KEYS.default(\"codec.mlp_ratio\")")]
    pub mlp_ratio: usize,
    /// Activation function of the feed-forward networks.
    #[config(default = "KEYS.default(\"codec.activation\")")]
    pub activation: Activation,
    /// Scale of the noise, before the division by 0.8; see [`posterior`](latentlm_core::LatentCodec::posterior).
    #[config(default = "KEYS.default(\"codec.noise_std\")")]
    pub noise_std: f64,
}

impl Default for VideoSigmaVaeConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl VideoSigmaVaeConfig {
    /// Number of patches along a side of a frame.
    pub(crate) fn grid(&self) -> usize {
        self.image_size / self.patch_size.max(1)
    }

    /// How patches of the first frame are joined into latents.
    pub(crate) fn first(&self) -> Joint {
        self.joint(self.latent_patches)
    }

    /// How patches of the groups after it are joined.
    pub(crate) fn later(&self) -> Joint {
        match self.later_patches.0 {
            0 => self.first(),
            side => self.joint(side),
        }
    }

    fn joint(&self, side: usize) -> Joint {
        Joint {
            grid: self.grid() / side.max(1),
            side,
            numbers: self.latent_dim / (side * side).max(1),
        }
    }

    /// Number of latents of the first frame.
    pub fn first_latents(&self) -> usize {
        self.first().latents()
    }

    /// Number of latents of each group after it.
    pub fn group_latents(&self) -> usize {
        self.later().latents()
    }

    /// Numbers of the pixels of a patch in `frames` frames.
    pub(crate) fn patch_pixels(&self, frames: usize) -> usize {
        frames * self.channels * self.patch_size * self.patch_size
    }

    /// Checks the sizes that are multiplied or divided: none may be zero.
    fn validate_positive(&self) -> Result<(), VideoCodecError> {
        for (name, value) in [
            ("image_size", self.image_size),
            ("frames_per_group", self.frames_per_group),
            ("patch_size", self.patch_size),
            ("latent_patches", self.latent_patches),
            ("latent_dim", self.latent_dim),
            ("time_taps", self.time_taps),
            ("heads", self.heads),
            ("mlp_ratio", self.mlp_ratio),
        ] {
            if value == 0 {
                return Err(VideoCodecError::config(format!("{name} must be positive")));
            }
        }
        Ok(())
    }

    /// Checks that squares of `side * side` patches fill a frame, and share the numbers of a latent.
    fn validate_joined(&self, key: &str, side: usize) -> Result<(), VideoCodecError> {
        if !self.grid().is_multiple_of(side) {
            return Err(VideoCodecError::config(format!(
                "the {} patches along a side are not a multiple of {key} {side}",
                self.grid()
            )));
        }
        let joined = side * side;
        if !self.latent_dim.is_multiple_of(joined) {
            return Err(VideoCodecError::config(format!(
                "latent_dim {} is not a multiple of the {joined} patches that a latent joins ({key} {side})",
                self.latent_dim
            )));
        }
        Ok(())
    }
}

/// How the patches of a group are joined into latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Joint {
    /// Latents along a side of a frame.
    pub(crate) grid: usize,
    /// Side of the square of patches of a latent.
    pub(crate) side: usize,
    /// Numbers of a latent for each of its patches.
    pub(crate) numbers: usize,
}

impl Joint {
    /// Latents of a group.
    pub(crate) fn latents(self) -> usize {
        self.grid * self.grid
    }
}

impl PartConfig for VideoSigmaVaeConfig {
    type Error = VideoCodecError;

    /// # Errors
    /// If a size is zero or is not a multiple of another where it must be.
    fn validate(&self) -> Result<(), VideoCodecError> {
        let fail = |reason: String| Err(VideoCodecError::Config { reason });
        self.validate_positive()?;
        if self.channels != 1 && self.channels != 3 {
            return fail(format!("channels must be 1 or 3, not {}", self.channels));
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return fail(format!(
                "image_size {} is not a multiple of patch_size {}",
                self.image_size, self.patch_size
            ));
        }
        self.validate_joined("latent_patches", self.first().side)?;
        self.validate_joined("later_patches", self.later().side)?;
        for (name, width) in [
            ("encoder_width", self.encoder_width),
            ("decoder_width", self.decoder_width),
        ] {
            if width == 0 || !width.is_multiple_of(self.heads) {
                return fail(format!(
                    "{name} {width} is not a multiple of heads {}",
                    self.heads
                ));
            }
        }
        if !(self.noise_std >= 0.0 && self.noise_std.is_finite()) {
            return fail(format!(
                "noise_std must not be negative: {}",
                self.noise_std
            ));
        }
        Ok(())
    }

    /// The codecs of the moving digits and of large clips.
    fn preset(recipe: &str) -> Self {
        KEYS.preset("codec", recipe)
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}
