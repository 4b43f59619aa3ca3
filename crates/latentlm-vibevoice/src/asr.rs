//! VibeVoice that recognizes speech: two encoders hear a recording, and a language model writes what was said,
//! when and by whom.
//!
//! A recording and perhaps names become a prompt (`prompt`); [`VibeVoiceAsr::encode`] hears the recording,
//! [`VibeVoiceAsr::transcribe`] writes the answer token by token (`transcribe`). The answer is JSON that nobody
//! may trust: `segments` reads what is whole of it, `write` writes that in three formats.

mod error;
mod prompt;
mod segments;
mod transcribe;
mod write;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_adapters::{LatentAdapter, LatentAdapterConfig, TokenAdapter, TokenAdapterConfig};
use latentlm_backbone::{Backbone, BackboneConfig};
use latentlm_codec_audio::{AudioEncoder, CodecConfig, EncoderState};
use latentlm_core::{CausalBackboneConfig, LatentNoise, NoiseScale, PartConfig, Posterior};

pub use error::AsrError;
pub use prompt::{AsrPrompt, AsrSound, AsrTokens};
pub use segments::{CutReason, TranscriptCut, TranscriptReader, TranscriptSegment};
pub use transcribe::{AsrEnd, AsrOptions, AsrStep, AsrStream};
pub use write::{TranscriptFormat, TranscriptWriter};

use super::rules::Rules;
use crate::error::VibeVoiceError;

/// VibeVoice-ASR: an acoustic and a semantic encoder, and the language model.
#[derive(Module, Debug)]
pub struct VibeVoiceAsr {
    /// Sound to acoustic latents.
    pub acoustic: AudioEncoder,
    /// Sound to semantic latents.
    pub semantic: AudioEncoder,
    /// Acoustic latents to positions. No whitening.
    pub acoustic_connector: LatentAdapter,
    /// Semantic latents to positions, which are added to those of the acoustic ones. No whitening.
    pub semantic_connector: LatentAdapter,
    /// The vocabulary.
    pub tokens: TokenAdapter,
    /// The Transformer.
    pub backbone: Backbone,
    vae_std: f64,
    latent_dim: usize,
    hop_samples: usize,
    piece_samples: usize,
}

/// Configuration of a [`VibeVoiceAsr`]; usually made of a checkpoint's `config.json`.
#[derive(Debug, Clone)]
pub struct VibeVoiceAsrConfig {
    /// The acoustic encoder.
    pub acoustic: CodecConfig,
    /// The semantic encoder.
    pub semantic: CodecConfig,
    /// The vocabulary.
    pub tokens: TokenAdapterConfig,
    /// The Transformer.
    pub backbone: BackboneConfig,
    /// Samples that the encoders hear at once, whole hops. Longer recordings are heard in pieces.
    pub piece_samples: usize,
}

impl VibeVoiceAsrConfig {
    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), VibeVoiceError> {
        self.acoustic.validate()?;
        self.semantic.validate()?;
        self.backbone.validate()?;
        let (acoustic, semantic) = (self.acoustic.hop_samples(), self.semantic.hop_samples());
        if semantic != acoustic {
            return Err(VibeVoiceError::Config {
                reason: format!(
                    "a semantic latent stands for {semantic} samples, an acoustic one for {acoustic}"
                ),
            });
        }
        if self.piece_samples == 0 || !self.piece_samples.is_multiple_of(acoustic) {
            return Err(VibeVoiceError::Config {
                reason: format!(
                    "a piece of {} samples is no multiple of the {acoustic} samples of a latent",
                    self.piece_samples
                ),
            });
        }
        Ok(())
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> VibeVoiceAsr {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        VibeVoiceAsr {
            acoustic: self.acoustic.init_encoder(device),
            semantic: self.semantic.init_encoder(device),
            acoustic_connector: self.connector(&self.acoustic).init(device),
            semantic_connector: self.connector(&self.semantic).init(device),
            tokens: self.tokens.init(device),
            backbone: self.backbone.init(device),
            vae_std: self.acoustic.vae_std,
            latent_dim: self.acoustic.latent_dim,
            hop_samples: self.acoustic.hop_samples(),
            piece_samples: self.piece_samples,
        }
    }

    fn connector(&self, encoder: &CodecConfig) -> LatentAdapterConfig {
        LatentAdapterConfig::new(encoder.latent_dim, self.backbone.width).with_connector(true)
    }

    /// Number of the model's parameters. Takes no memory for them.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn parameter_count(&self, device: &Device) -> usize {
        // The weights of the last four are made when they are first used.
        let counts = [
            self.acoustic.encoder_parameter_count(),
            self.semantic.encoder_parameter_count(),
            self.connector(&self.acoustic).init(device).num_params(),
            self.connector(&self.semantic).init(device).num_params(),
            self.tokens.init(device).num_params(),
            self.backbone.init(device).num_params(),
        ];
        counts.into_iter().fold(0, usize::saturating_add)
    }
}

/// A recording as the model hears it. `F` is the number of its latents.
#[derive(Debug, Clone)]
pub struct HeardSound {
    /// The acoustic encoder's means, `[1, F, Z]`.
    pub acoustic_mean: Tensor<3>,
    /// The acoustic encoder's means with noise, `[1, F, Z]`.
    pub acoustic: Tensor<3>,
    /// The semantic encoder's means, `[1, F, Y]`.
    pub semantic: Tensor<3>,
    /// What the language model reads, `[F, D]`.
    pub embedded: Tensor<2>,
}

impl VibeVoiceAsr {
    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.acoustic_connector.device()
    }

    /// Samples a latent.
    pub fn hop_samples(&self) -> usize {
        self.hop_samples
    }

    /// The shape of the noise of a recording, `[1, F, Z]`.
    pub fn noise_shape(&self, samples: usize) -> [usize; 3] {
        [1, samples.div_ceil(self.hop_samples), self.latent_dim]
    }

    /// Hears a recording of the encoders' rate, mono, at the loudness of [`level_voice`](super::level_voice). The
    /// encoders hear long ones in pieces, and remember what was before: the latents are those of the whole.
    /// Without noise, acoustic latents are the encoder's means.
    ///
    /// # Shapes
    /// - `noise`: of shape [`noise_shape`](Self::noise_shape)
    ///
    /// # Panics
    /// If the recording is empty.
    pub fn encode(
        &self,
        recording: &[f32],
        noise: Option<LatentNoise>,
        rules: Rules,
    ) -> HeardSound {
        assert!(!recording.is_empty(), "a recording without sound");
        let mut acoustic = Hearing::of(&self.acoustic);
        let mut semantic = Hearing::of(&self.semantic);
        for piece in recording.chunks(self.piece_samples) {
            let signal = self.signal(piece, rules);
            acoustic.hear(signal.clone());
            semantic.hear(signal);
        }
        let (acoustic_mean, semantic) = (acoustic.latents(), semantic.latents());
        let posterior = Posterior {
            mean: acoustic_mean.clone(),
            noise: NoiseScale::PerSample { std: self.vae_std },
        };
        let acoustic = match noise {
            Some(noise) => posterior.sample(noise.scale, noise.eps),
            None => posterior.mode(),
        };
        let embedded = self.acoustic_connector.embed(acoustic.clone())
            + self.semantic_connector.embed(semantic.clone());
        HeardSound {
            acoustic_mean,
            acoustic,
            semantic,
            embedded: embedded.squeeze_dim(0),
        }
    }

    /// Samples as a signal, `[1, 1, N]`, with zeros up to whole hops unless each convolution pads by itself. Only
    /// the last piece of a recording is not whole.
    fn signal(&self, samples: &[f32], rules: Rules) -> Tensor<3> {
        let mut samples = samples.to_vec();
        if !rules.pads_each_convolution {
            samples.resize(samples.len().next_multiple_of(self.hop_samples), 0.0);
        }
        let shape = [1, 1, samples.len()];
        Tensor::from_data(TensorData::new(samples, shape), &self.device())
    }
}

/// An encoder that hears a recording piece by piece.
struct Hearing<'a> {
    encoder: &'a AudioEncoder,
    state: EncoderState,
    latents: Vec<Tensor<3>>,
}

impl<'a> Hearing<'a> {
    fn of(encoder: &'a AudioEncoder) -> Self {
        Self {
            encoder,
            state: EncoderState::default(),
            latents: Vec::new(),
        }
    }

    fn hear(&mut self, signal: Tensor<3>) {
        let latents = self.encoder.step_to_end(signal, &mut self.state);
        self.latents.push(latents);
    }

    fn latents(self) -> Tensor<3> {
        Tensor::cat(self.latents, 1)
    }
}

#[cfg(test)]
mod tests;
