//! Sizes of the codec.

use burn::config::Config;
use burn::tensor::Device;
use latentlm_core::{LatentCodecConfig, LatentSpec, PartConfig, SignalLayout, SoundSpec};

use crate::codec::AudioSigmaVae;
use crate::tower::AudioEncoder;

/// Configuration of an [`AudioSigmaVae`]. The defaults are VibeVoice's: 24 kHz, 7.5 latents a
/// second of 64 numbers.
#[derive(Config, Debug, PartialEq)]
pub struct AudioSigmaVaeConfig {
    /// Samples a second.
    #[config(default = 24000)]
    pub sample_rate_hz: u32,
    /// Channels of the signal.
    #[config(default = 1)]
    pub channels: usize,
    /// `Z`, numbers a latent.
    #[config(default = 64)]
    pub latent_dim: usize,
    /// Root mean square of the signals, which the codec brings to 1 and back.
    #[config(default = 1.0)]
    pub signal_rms: f64,
    /// Downsampling ratios of the encoder, first to last; the decoder goes back the same way. Their
    /// product, times `frames_per_latent`, is the hop.
    #[config(default = "vec![2, 2, 4, 5, 5, 8]")]
    pub ratios: Vec<usize>,
    /// Frames of the coarsest resolution that are put side by side in a latent: fewer and longer
    /// latents, without a convolution that would have to learn it.
    #[config(default = 1)]
    pub frames_per_latent: usize,
    /// Layers at every resolution of the encoder, finest first: one more than ratios.
    #[config(default = "vec![3, 3, 3, 3, 3, 3, 8]")]
    pub depths: Vec<usize>,
    /// Channels at the finest resolution; they double with every downsampling.
    #[config(default = 32)]
    pub width: usize,
    /// Channels at every resolution instead, finest first: one more than ratios. Empty to double.
    #[config(default = "vec![]")]
    pub widths: Vec<usize>,
    /// Kernel of the depthwise convolutions and of the first and last ones.
    #[config(default = 7)]
    pub kernel_size: usize,
    /// Inner width of the feed-forward layers over their outer one.
    #[config(default = 4)]
    pub ffn_expansion: usize,
    /// What the residual branches' scales start with.
    #[config(default = 1e-6)]
    pub layer_scale: f64,
    /// Epsilon of the norms.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// `C_sigma`: the deviation of the noise's scale, drawn once a sample. (The published speech
    /// models' 0.5, divided by 0.8 as for images.)
    #[config(default = 0.625)]
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
        self.ratios.iter().product::<usize>() * self.frames_per_latent
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
        match recipe {
            "tts/voice" => Self::new()
                .with_sample_rate_hz(16_000)
                .with_latent_dim(256)
                .with_frames_per_latent(2)
                .with_signal_rms(0.1)
                .with_ratios(vec![20, 4, 4])
                .with_depths(vec![0, 3, 4, 3])
                .with_width(16)
                .with_widths(vec![8, 64, 128, 256])
                .with_layer_scale(0.1)
                .with_vae_std(0.5),
            _ => Self::new(),
        }
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
