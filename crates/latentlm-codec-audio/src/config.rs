//! Configuration of the codec, with its checks.

use burn::config::Config;
use latentlm_core::PartConfig;

use crate::keys::KEYS;
use crate::quantizer::QuantizerConfig;

/// Largest hop: more than a minute of speech in one latent at 16 kHz.
const MOST_HOP_SAMPLES: usize = 1 << 20;
/// Largest number of channels at a resolution: with every doubling of the width, a layer takes four times the
/// memory.
const MOST_WIDTH: usize = 1 << 20;

/// Configuration of an [`AudioSigmaVae`](crate::AudioSigmaVae). The defaults are VibeVoice's: 24 kHz, 7.5 latents
/// of 64 numbers per second.
#[derive(Config, Debug, PartialEq)]
pub struct AudioSigmaVaeConfig {
    /// Sample rate in Hz.
    #[config(default = "KEYS.default(\"codec.sample_rate_hz\")")]
    pub sample_rate_hz: u32,
    /// Channels of the signal.
    #[config(default = "KEYS.default(\"codec.channels\")")]
    pub channels: usize,
    /// `Z`, dimension of a latent.
    #[config(default = "KEYS.default(\"codec.latent_dim\")")]
    pub latent_dim: usize,
    /// Root mean square of the signals. The codec scales it to 1 and back.
    #[config(default = "KEYS.default(\"codec.signal_rms\")")]
    pub signal_rms: f64,
    /// Downsampling ratios of the encoder, first to last. The decoder has them in reverse order. Their
    /// product times `frames_per_latent` is the hop.
    #[config(default = "KEYS.default(\"codec.ratios\")")]
    pub ratios: Vec<usize>,
    /// Frames of the coarsest resolution that are concatenated to one latent. That gives fewer and longer
    /// latents without another convolution to be learned.
    #[config(default = "KEYS.default(\"codec.frames_per_latent\")")]
    pub frames_per_latent: usize,
    /// Number of layers at each resolution of the encoder, finest first: one entry more than `ratios`.
    #[config(default = "KEYS.default(\"codec.depths\")")]
    pub depths: Vec<usize>,
    /// Channels at the finest resolution. Each downsampling doubles them.
    #[config(default = "KEYS.default(\"codec.width\")")]
    pub width: usize,
    /// Channels at each resolution, finest first: one entry more than `ratios`. Takes the place of `width`
    /// unless it is empty.
    #[config(default = "KEYS.default(\"codec.widths\")")]
    pub widths: Vec<usize>,
    /// Kernel size of the depthwise convolutions and of the first and last convolution.
    #[config(default = "KEYS.default(\"codec.kernel_size\")")]
    pub kernel_size: usize,
    /// Ratio of the feed-forward layers' inner width to their outer width.
    #[config(default = "KEYS.default(\"codec.ffn_expansion\")")]
    pub ffn_expansion: usize,
    /// Initial scale of the residual branches.
    #[config(default = "KEYS.default(\"codec.layer_scale\")")]
    pub layer_scale: f64,
    /// Epsilon of the norms.
    #[config(default = "KEYS.default(\"codec.norm_epsilon\")")]
    pub norm_epsilon: f64,
    /// `C_sigma`: standard deviation of the noise's scale, which is drawn once for each utterance. (The default
    /// is the 0.5 of the published speech models, divided by 0.8 as for images.)
    #[config(default = "KEYS.default(\"codec.vae_std\")")]
    pub vae_std: f64,
    /// Codebooks, which replace the noise.
    #[config(default = "QuantizerConfig::default()")]
    pub quantizer: QuantizerConfig,
}

/// Errors of a speech codec's configuration.
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
    /// The hop: number of samples from one latent to the next.
    pub fn hop_samples(&self) -> usize {
        let ratios = self.ratios.iter();
        ratios.fold(self.frames_per_latent, |samples, ratio| {
            samples.saturating_mul(*ratio)
        })
    }

    /// Channels of a frame at the encoder's output. `frames_per_latent` of them are one latent.
    pub(crate) fn frame_dim(&self) -> usize {
        self.latent_dim / self.frames_per_latent
    }

    /// Channels after a number of downsamplings.
    pub(crate) fn width_at(&self, downsamplings: usize) -> usize {
        if let Some(width) = self.widths.get(downsamplings) {
            return *width;
        }
        let factor = 1_usize.checked_shl(downsamplings as u32);
        self.width.saturating_mul(factor.unwrap_or(usize::MAX))
    }

    /// Number of parameters of the encoder, counted without building it: dense convolutions make their weights
    /// at once.
    pub fn encoder_parameter_count(&self) -> usize {
        let (first, last) = (self.width_at(0), self.width_at(self.ratios.len()));
        let mut count = self
            .layers_parameter_count()
            .saturating_add(dense(self.kernel_size, self.channels, first))
            .saturating_add(dense(self.kernel_size, last, self.frame_dim()));
        for (index, ratio) in self.ratios.iter().enumerate() {
            let (fine, coarse) = (self.width_at(index), self.width_at(index + 1));
            count = count.saturating_add(dense(ratio.saturating_mul(2), fine, coarse));
        }
        count
    }

    /// Number of parameters of the decoder, counted in the same way.
    pub fn decoder_parameter_count(&self) -> usize {
        let (first, last) = (self.width_at(0), self.width_at(self.ratios.len()));
        let mut count = self
            .layers_parameter_count()
            .saturating_add(dense(self.kernel_size, self.frame_dim(), last))
            .saturating_add(dense(self.kernel_size, first, self.channels));
        for (index, ratio) in self.ratios.iter().enumerate() {
            let (fine, coarse) = (self.width_at(index), self.width_at(index + 1));
            count = count.saturating_add(dense(ratio.saturating_mul(2), coarse, fine));
        }
        count
    }

    /// Number of parameters of the layers of all resolutions.
    fn layers_parameter_count(&self) -> usize {
        let mut count = 0_usize;
        for (downsamplings, depth) in self.depths.iter().enumerate() {
            let width = self.width_at(downsamplings);
            let inner = width.saturating_mul(self.ffn_expansion);
            // Two norms, two scales, and the depthwise convolution with its bias.
            let narrow = width.saturating_mul(self.kernel_size.saturating_add(5));
            let layer = narrow
                .saturating_add(dense(1, width, inner))
                .saturating_add(dense(1, inner, width));
            count = count.saturating_add(layer.saturating_mul(*depth));
        }
        count
    }

    /// Panics with the error message if the configuration is invalid.
    pub(crate) fn assert_valid(&self) {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
    }
}

/// Number of parameters of a convolution over all channels, with its bias.
fn dense(kernel_size: usize, input: usize, output: usize) -> usize {
    let weight = kernel_size.saturating_mul(input).saturating_mul(output);
    weight.saturating_add(output)
}

impl Default for AudioSigmaVaeConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PartConfig for AudioSigmaVaeConfig {
    type Error = AudioCodecError;

    /// # Errors
    /// If a size is zero or lengths of lists do not match.
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
        for downsamplings in 0..self.depths.len() {
            let width = self.width_at(downsamplings);
            if width > MOST_WIDTH {
                return fail(format!(
                    "{width} channels after {downsamplings} downsamplings; at most {MOST_WIDTH} may be"
                ));
            }
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon.is_finite()) {
            return fail(format!(
                "norm_epsilon {} must be positive",
                self.norm_epsilon
            ));
        }
        if !(self.vae_std.is_finite() && self.vae_std >= 0.0) {
            return fail(format!("vae_std {} must be 0 or more", self.vae_std));
        }
        self.quantizer.fault().map_or(Ok(()), fail)
    }

    /// The codec of the voice that ships: 16 kHz, 25 latents per second.
    fn preset(recipe: &str) -> Self {
        KEYS.preset("codec", recipe)
    }

    fn keys() -> &'static str {
        KEYS.text()
    }
}
