//! The speech codec: an encoder that gives means, noise around them, and a decoder that is trained with it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    LatentCodec, LatentCodecConfig, LatentQuantizer, LatentSpec, NoiseScale, Posterior,
    RandomStream, SignalLayout, SoundSpec, StreamingCodec,
};

use crate::config::AudioSigmaVaeConfig;
use crate::quantizer::ResidualQuantizer;
use crate::stream::{DecoderState, EncoderState, Pass};
use crate::tower::{AudioDecoder, AudioEncoder};

/// A sigma-VAE for sound (paper §2.3; reference `VibeVoiceAcousticTokenizerModel`). With a quantizer, its latents
/// are sums of codebook entries and have no noise.
#[derive(Module, Debug)]
pub struct AudioSigmaVae {
    encoder: AudioEncoder,
    decoder: AudioDecoder,
    quantizer: Option<ResidualQuantizer>,
    vae_std: f64,
    latent_dim: usize,
    hop_samples: usize,
    sample_rate_hz: u32,
}

impl AudioSigmaVae {
    /// A codec with new weights. The configuration must be valid.
    fn new(config: &AudioSigmaVaeConfig, device: &Device) -> Self {
        Self {
            encoder: AudioEncoder::new(config, device),
            decoder: AudioDecoder::new(config, device),
            quantizer: config.quantizer.init(config.latent_dim, device),
            vae_std: config.vae_std,
            latent_dim: config.latent_dim,
            hop_samples: config.hop_samples(),
            sample_rate_hz: config.sample_rate_hz,
        }
    }

    /// Samples per latent.
    pub fn hop_samples(&self) -> usize {
        self.hop_samples
    }

    /// The codebooks, with what training needs of them.
    pub(crate) fn residual_quantizer(&self) -> Option<&ResidualQuantizer> {
        self.quantizer.as_ref()
    }

    /// Encodes signals to their end, see [`AudioEncoder::forward_to_end`].
    ///
    /// # Shapes
    /// - `signal`: `[B, C, N]`
    /// - returns: mean `[B, ceil(N / hop), Z]`
    pub fn encode_to_end(&self, signal: Tensor<3>) -> Posterior {
        self.posterior(self.encoder.forward_to_end(signal))
    }

    /// Encodes the next chunk of a stream; the last may end within a hop, see [`AudioEncoder::step_to_end`].
    ///
    /// # Shapes
    /// - `signal`: `[B, C, N]`
    /// - returns: mean `[B, ceil(N / hop), Z]`
    pub fn encode_step_to_end(&self, signal: Tensor<3>, state: &mut EncoderState) -> Posterior {
        self.posterior(self.encoder.step_to_end(signal, state))
    }
}

impl LatentCodec<3> for AudioSigmaVae {
    fn spec(&self) -> LatentSpec {
        LatentSpec {
            dim: self.latent_dim,
            layout: SignalLayout::Frames {
                sample_rate_hz: self.sample_rate_hz,
                hop_samples: self.hop_samples,
            },
        }
    }

    /// # Shapes
    /// - `signal`: `[B, C, N]`; samples after the last whole hop are ignored
    /// - returns: means `[B, N / hop, Z]`
    ///
    /// # Panics
    /// If the signal is shorter than one hop.
    fn encode_parameters(&self, signal: Tensor<3>) -> Tensor<3> {
        self.encoder.forward(signal)
    }

    /// With a quantizer, the mean is the sum of the entries of the means' codes, without noise or gradient.
    fn posterior(&self, means: Tensor<3>) -> Posterior {
        match &self.quantizer {
            Some(quantizer) => Posterior {
                mean: quantizer.quantize(means),
                noise: NoiseScale::Fixed { std: 0.0 },
            },
            None => Posterior {
                mean: means,
                noise: NoiseScale::PerSample { std: self.vae_std },
            },
        }
    }

    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, C, T * hop]`
    fn decode(&self, latents: Tensor<3>) -> Tensor<3> {
        self.decoder.pass(latents, &mut Pass::Whole)
    }

    fn quantizer(&self) -> Option<&dyn LatentQuantizer> {
        let quantizer = self.quantizer.as_ref();
        quantizer.map(|own| own as &dyn LatentQuantizer)
    }

    fn learn_codebooks(mut self, means: Tensor<3>, random: &mut RandomStream) -> Self {
        self.quantizer = self.quantizer.map(|own| own.learn(means, random));
        self
    }
}

impl StreamingCodec for AudioSigmaVae {
    type EncoderState = EncoderState;
    type DecoderState = DecoderState;

    fn encode_step(&self, signal: Tensor<3>, state: &mut EncoderState) -> Posterior {
        self.posterior(self.encoder.step(signal, state))
    }

    fn decode_step(&self, latents: Tensor<3>, state: &mut DecoderState) -> Tensor<3> {
        self.decoder.step(latents, state)
    }

    fn encode_parameters_step(&self, signal: Tensor<3>, state: &mut EncoderState) -> Tensor<3> {
        self.encoder.step(signal, state)
    }
}

impl LatentCodecConfig<3> for AudioSigmaVaeConfig {
    type Codec = AudioSigmaVae;
    type Signal = SoundSpec;

    fn init(&self, device: &Device) -> AudioSigmaVae {
        self.assert_valid();
        AudioSigmaVae::new(self, device)
    }

    fn parameter_count(&self, _device: &Device) -> usize {
        self.assert_valid();
        self.encoder_parameter_count()
            .saturating_add(self.decoder_parameter_count())
            .saturating_add(self.quantizer.parameter_count(self.latent_dim))
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

    fn frames_per_latent(&self) -> usize {
        self.frames_per_latent
    }
}
