//! Sizes of the codec.

use burn::config::Config;
use burn::tensor::Device;
use latentlm_core::{LatentCodecConfig, LatentSpec, PartConfig, SignalLayout, SoundSpec};

use crate::codec::AudioSigmaVae;
use crate::keys::KEYS;
use crate::tower::AudioEncoder;

/// Most samples that a latent may stand for: more than a minute of speech.
const MOST_HOP_SAMPLES: usize = 1 << 20;

/// Configuration of an [`AudioSigmaVae`]. The defaults are VibeVoice's: 24 kHz, 7.5 latents a
/// second of 64 numbers.
#[derive(Config, Debug, PartialEq)]
pub struct AudioSigmaVaeConfig {
    /// Samples a second.
    #[config(default = "KEYS.default(\"codec.sample_rate_hz\")")]
    pub sample_rate_hz: u32,
    /// Channels of the signal.
    #[config(default = "KEYS.default(\"codec.channels\")")]
    pub channels: usize,
    /// `Z`, numbers a latent.
    #[config(default = "KEYS.default(\"codec.latent_dim\")")]
    pub latent_dim: usize,
    /// Root mean square of the signals, which the codec brings to 1 and back.
    #[config(default = "KEYS.default(\"codec.signal_rms\")")]
    pub signal_rms: f64,
    /// Downsampling ratios of the encoder, first to last; the decoder goes back the same way. Their
    /// product, times `frames_per_latent`, is the hop.
    #[config(default = "KEYS.default(\"codec.ratios\")")]
    pub ratios: Vec<usize>,
    /// Frames of the coarsest resolution that are put side by side in a latent: fewer and longer
    /// latents, without a convolution that would have to learn it.
    #[config(default = "KEYS.default(\"codec.frames_per_latent\")")]
    pub frames_per_latent: usize,
    /// Layers at every resolution of the encoder, finest first: one more than ratios.
    #[config(default = "KEYS.default(\"codec.depths\")")]
    pub depths: Vec<usize>,
    /// Channels at the finest resolution; they double with every downsampling.
    #[config(default = "KEYS.default(\"codec.width\")")]
    pub width: usize,
    /// Channels at every resolution instead, finest first: one more than ratios. Empty to double.
    #[config(default = "KEYS.default(\"codec.widths\")")]
    pub widths: Vec<usize>,
    /// Kernel of the depthwise convolutions and of the first and last ones.
    #[config(default = "KEYS.default(\"codec.kernel_size\")")]
    pub kernel_size: usize,
    /// Inner width of the feed-forward layers over their outer one.
    #[config(default = "KEYS.default(\"codec.ffn_expansion\")")]
    pub ffn_expansion: usize,
    /// What the residual branches' scales start with.
    #[config(default = "KEYS.default(\"codec.layer_scale\")")]
    pub layer_scale: f64,
    /// Epsilon of the norms.
    #[config(default = "KEYS.default(\"codec.norm_epsilon\")")]
    pub norm_epsilon: f64,
    /// `C_sigma`: the deviation of the noise's scale, drawn once a sample. (The published speech
    /// models' 0.5, divided by 0.8 as for images.)
    #[config(default = "KEYS.default(\"codec.vae_std\")")]
    pub vae_std: f64,
}

/// What can be wrong with a speech codec.
#[derive(Debug, thiserror::Error)]
pub enum AudioCodecError {
    /// An impossible configuration.
    #[error("speech codec: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

impl AudioSigmaVaeConfig {
    /// Samples a latent.
    pub fn hop_samples(&self) -> usize {
        let ratios = self.ratios.iter();
        ratios.fold(self.frames_per_latent, |samples, ratio| {
            samples.saturating_mul(*ratio)
        })
    }

    /// Numbers of a frame of the coarsest resolution.
    pub(crate) fn frame_dim(&self) -> usize {
        self.latent_dim / self.frames_per_latent
    }

    /// Channels after `downsamplings` of them.
    pub(crate) fn width_at(&self, downsamplings: usize) -> usize {
        let doubled = || self.width << downsamplings;
        self.widths
            .get(downsamplings)
            .copied()
            .unwrap_or_else(doubled)
    }

    /// Builds the encoder alone: VibeVoice's semantic tokenizer is one.
    ///
    /// # Panics
    /// If [`validate`](PartConfig::validate) fails.
    pub fn init_encoder(&self, device: &Device) -> AudioEncoder {
        self.assert_valid();
        AudioEncoder::new(self, device)
    }

    fn assert_valid(&self) {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
    }
}

impl Default for AudioSigmaVaeConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for AudioSigmaVaeConfig {
    type Error = AudioCodecError;

    /// # Errors
    /// If a size is zero or the lists do not fit each other.
    fn validate(&self) -> Result<(), AudioCodecError> {
        let fail = |reason: String| Err(AudioCodecError::Config { reason });
        let positive = [
            ("sample_rate_hz", self.sample_rate_hz as usize),
            ("channels", self.channels),
            ("latent_dim", self.latent_dim),
            ("frames_per_latent", self.frames_per_latent),
            ("width", self.width),
            ("kernel_size", self.kernel_size),
            ("ffn_expansion", self.ffn_expansion),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return fail(format!("{name} must be positive"));
        }
        if !(self.signal_rms > 0.0 && self.signal_rms.is_finite()) {
            return fail("signal_rms must be positive".into());
        }
        if self.ratios.contains(&0) {
            return fail("ratios must be positive".into());
        }
        if !self.latent_dim.is_multiple_of(self.frames_per_latent) {
            return fail(format!(
                "latent_dim {} is no multiple of frames_per_latent {}",
                self.latent_dim, self.frames_per_latent
            ));
        }
        if self.hop_samples() > MOST_HOP_SAMPLES {
            return fail(format!(
                "ratios and frames_per_latent make {} samples a latent; at most {MOST_HOP_SAMPLES} may be",
                self.hop_samples()
            ));
        }
        if self.depths.len() != self.ratios.len() + 1 {
            return fail(format!(
                "{} depths for {} ratios; there must be one more",
                self.depths.len(),
                self.ratios.len()
            ));
        }
        let given = self.widths.len();
        if given > 0 && (given != self.depths.len() || self.widths.contains(&0)) {
            return fail(format!(
                "widths must be empty or {} positive numbers",
                self.depths.len()
            ));
        }
        if !(self.vae_std.is_finite() && self.vae_std >= 0.0) {
            return fail(format!("vae_std {} must be 0 or more", self.vae_std));
        }
        Ok(())
    }

    /// The codec of the voice that ships: 16 kHz, 25 latents a second.
    fn preset(recipe: &str) -> Self {
        KEYS.preset("codec", recipe)
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}

impl LatentCodecConfig<3> for AudioSigmaVaeConfig {
    type Codec = AudioSigmaVae;
    type Signal = SoundSpec;

    fn init(&self, device: &Device) -> AudioSigmaVae {
        self.assert_valid();
        AudioSigmaVae::new(self, device)
    }

    fn spec(&self) -> LatentSpec {
        LatentSpec {
            dim: self.latent_dim,
            layout: SignalLayout::Frames {
                sample_rate_hz: self.sample_rate_hz,
                hop_samples: self.hop_samples(),
            },
        }
    }

    fn signal(&self) -> SoundSpec {
        SoundSpec {
            channels: self.channels,
            sample_rate_hz: self.sample_rate_hz,
            hop_samples: self.hop_samples(),
        }
    }
}
