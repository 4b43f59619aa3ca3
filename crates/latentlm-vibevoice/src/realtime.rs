//! VibeVoice-Realtime: speaks a text while it arrives, with a saved voice.
//!
//! The language model is split in two. The lower part, `text_lm`, reads the text; the upper one, `speech_lm`,
//! reads what the lower one made of it, and the latents that were drawn. It has no tokens of speech: text is
//! read in windows, latents are drawn in windows, and a classifier tells when all is said.
//!
//! A voice is read from a file (`voice`; `archive`, `pickle` and `torch` read `.pt` files), a text becomes tokens
//! while it arrives (`text`), [`VibeVoiceRealtime::speak`] makes sound of both (`stream`).

mod archive;
mod context;
mod pickle;
mod stream;
mod text;
mod torch;
mod voice;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Tensor};
use latentlm_adapters::{LatentAdapter, LatentAdapterConfig};
use latentlm_backbone::{Backbone, BackboneConfig};
use latentlm_codec_audio::{AudioDecoder, CodecConfig};
use latentlm_core::{CausalBackboneConfig, LatentHeadConfig, PartConfig};
use latentlm_diffusion::{Head, HeadConfig};
use latentlm_kernels::linear_layer;

pub use stream::{
    RealtimeFrame, RealtimeOptions, RealtimeStep, RealtimeStream, SPEECH_WINDOW, TEXT_WINDOW,
    TextWindow,
};
pub use text::RealtimeText;
pub use voice::{SavedVoice, VoiceError};

use crate::error::VibeVoiceError;

/// Kinds of positions that the upper model reads, by their row in `input_types`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputType {
    Speech = 0,
    Text = 1,
}

/// VibeVoice-Realtime (reference `VibeVoiceStreamingForConditionalGenerationInference`).
#[derive(Module, Debug)]
pub struct VibeVoiceRealtime {
    /// Latents to sound. There is no encoder.
    pub decoder: AudioDecoder,
    /// Latents to positions, with their whitening.
    pub latents: LatentAdapter,
    /// Tokens to positions, `[V, D]`.
    pub table: Embedding,
    /// Reads the text. Its last norm is left out.
    pub text_lm: Backbone,
    /// Reads what the text model made of it, and latents.
    pub speech_lm: Backbone,
    /// Added to the positions that the speech model reads, `[2, D]`: of latents, of text.
    pub input_types: Embedding,
    /// Draws latents.
    pub head: Head,
    /// Tells when all is said.
    pub stop: StopClassifier,
    hop_samples: usize,
}

/// Two linear layers, the logit of "all is said" (reference `BinaryClassifier`).
#[derive(Module, Debug)]
pub struct StopClassifier {
    fc1: Linear,
    fc2: Linear,
}

impl StopClassifier {
    /// The logit that all is said.
    ///
    /// # Shapes
    /// - `hidden`: `[N, D]`
    /// - returns: `[N, 1]`
    pub fn forward(&self, hidden: Tensor<2>) -> Tensor<2> {
        let inner = relu(linear_layer(&self.fc1, hidden));
        linear_layer(&self.fc2, inner)
    }
}

/// Configuration of a [`VibeVoiceRealtime`]; usually made of a checkpoint's `config.json`.
#[derive(Debug, Clone)]
pub struct RealtimeConfig {
    /// The codec, of which only the decoder is built.
    pub codec: CodecConfig,
    /// Between latents and positions.
    pub connector: LatentAdapterConfig,
    /// `V`, size of the vocabulary.
    pub vocabulary: usize,
    /// The whole language model, both parts together.
    pub backbone: BackboneConfig,
    /// Blocks of the upper part.
    pub speech_depth: usize,
    /// The diffusion head.
    pub head: HeadConfig,
}

impl RealtimeConfig {
    /// The lower part of the language model.
    fn text_lm(&self) -> BackboneConfig {
        BackboneConfig {
            depth: self.backbone.depth.saturating_sub(self.speech_depth),
            final_norm: false,
            ..self.backbone.clone()
        }
    }

    /// The upper part.
    fn speech_lm(&self) -> BackboneConfig {
        BackboneConfig {
            depth: self.speech_depth,
            ..self.backbone.clone()
        }
    }

    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), VibeVoiceError> {
        self.codec.validate()?;
        self.head.validate()?;
        if self.speech_depth >= self.backbone.depth {
            return Err(VibeVoiceError::Config {
                reason: format!(
                    "the speech model has {} of {} blocks; one at least must be left for the text",
                    self.speech_depth, self.backbone.depth
                ),
            });
        }
        self.text_lm().validate()?;
        self.speech_lm().validate()?;
        let width = self.backbone.width;
        let latent_dim = self.codec.latent_dim;
        let sizes = [
            ("diffusion head", self.head.width, width),
            ("head's latents", self.head.latent_dim, latent_dim),
            ("connector's latents", self.connector.latent_dim, latent_dim),
        ];
        for (what, got, wanted) in sizes {
            if got != wanted {
                return Err(VibeVoiceError::Config {
                    reason: format!("the {what} are {got} wide, the model wants {wanted}"),
                });
            }
        }
        Ok(())
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> VibeVoiceRealtime {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let width = self.backbone.width;
        let embedding = |rows| EmbeddingConfig::new(rows, width).init(device);
        VibeVoiceRealtime {
            decoder: self.codec.init_decoder(device),
            latents: self.connector.init(device),
            table: embedding(self.vocabulary),
            text_lm: self.text_lm().init(device),
            speech_lm: self.speech_lm().init(device),
            input_types: embedding(2),
            head: self.head.init(device),
            stop: StopClassifier {
                fc1: LinearConfig::new(width, width).init(device),
                fc2: LinearConfig::new(width, 1).init(device),
            },
            hop_samples: self.codec.hop_samples(),
        }
    }

    /// Number of the model's parameters. Takes no memory for them.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn parameter_count(&self, device: &Device) -> usize {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let width = self.backbone.width;
        // The weights of these are made when they are first used.
        let parts = [
            self.connector.init(device).num_params(),
            self.text_lm().init(device).num_params(),
            self.speech_lm().init(device).num_params(),
            self.head.init(device).num_params(),
            width.saturating_mul(self.vocabulary.saturating_add(2)),
            width
                .saturating_mul(width.saturating_add(2))
                .saturating_add(1),
        ];
        let decoder = self.codec.decoder_parameter_count();
        parts.into_iter().fold(decoder, usize::saturating_add)
    }
}

impl VibeVoiceRealtime {
    /// Samples a latent.
    pub fn hop_samples(&self) -> usize {
        self.hop_samples
    }

    /// Size of the vocabulary: tokens are below it.
    pub fn vocabulary(&self) -> usize {
        self.table.weight.dims()[0]
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        self.latents.device()
    }

    /// Type embedding that is added to positions of a kind, `[1, D]`. It is float32, whatever type the weights have.
    fn input_type(&self, kind: InputType) -> Tensor<2> {
        let kinds = self.input_types.weight.val();
        kinds.narrow(0, kind as usize, 1).cast(DType::F32)
    }
}

#[cfg(test)]
mod tests;
