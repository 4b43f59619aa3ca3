//! VibeVoice: a LatentLM for speech with two codecs and connectors.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_adapters::{
    Connector, ConnectorConfig, TokenAdapter, TokenAdapterConfig, Whitener, Whitening,
};
use latentlm_backbone::{Backbone, BackboneConfig};
use latentlm_codec_audio::{AudioEncoder, Codec, CodecConfig};
use latentlm_core::{CausalBackbone, LatentCodec, LatentCodecConfig, ModalityAdapter, PartConfig};
use latentlm_diffusion::{Head, HeadConfig};

use crate::model::LatentLm;
use crate::sizes::ModelError;

/// Adapters of a speech model that hears itself through two codecs.
#[derive(Module, Debug)]
pub struct SpeechAdapters {
    /// Text and control tokens.
    pub token: TokenAdapter,
    /// Latents of the acoustic codec, whitened.
    pub acoustic: Connector,
    /// Latents of the semantic encoder.
    pub semantic: Connector,
    /// What the acoustic connector and the head see of the codec's latents.
    pub whitening: Whitener,
}

/// VibeVoice (spec §5): the acoustic codec, the semantic encoder, and the language model.
#[derive(Module, Debug)]
pub struct VibeVoice {
    /// Sound to latents and back.
    pub codec: Codec,
    /// Sound to what is said in it.
    pub semantic: AudioEncoder,
    /// The language model.
    pub lm: LatentLm<SpeechAdapters, Backbone, Head>,
    /// The token in whose place latents stand.
    audio_token: u32,
}

/// Configuration of a [`VibeVoice`]; usually made of a checkpoint's `config.json`.
#[derive(Debug, Clone)]
pub struct VibeVoiceConfig {
    /// The acoustic codec.
    pub codec: CodecConfig,
    /// The semantic encoder.
    pub semantic: CodecConfig,
    /// Between acoustic latents and positions.
    pub acoustic_connector: ConnectorConfig,
    /// Between semantic latents and positions.
    pub semantic_connector: ConnectorConfig,
    /// The vocabulary.
    pub tokens: TokenAdapterConfig,
    /// The Transformer.
    pub backbone: BackboneConfig,
    /// The diffusion head.
    pub head: HeadConfig,
    /// The token in whose place latents stand.
    pub audio_token: u32,
}

impl VibeVoiceConfig {
    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), ModelError> {
        self.codec.validate()?;
        self.semantic.validate()?;
        self.backbone.validate()?;
        self.head.validate()?;
        let width = self.backbone.width;
        let sizes = [
            ("diffusion head", self.head.width, width),
            (
                "head's latents",
                self.head.latent_dim,
                self.codec.latent_dim,
            ),
        ];
        for (what, got, wanted) in sizes {
            if got != wanted {
                return Err(ModelError::Config {
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
    pub fn init(&self, device: &Device) -> VibeVoice {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        VibeVoice {
            codec: self.codec.init(device),
            semantic: self.semantic.init_encoder(device),
            lm: LatentLm {
                adapters: SpeechAdapters {
                    token: self.tokens.init(device),
                    acoustic: self.acoustic_connector.init(device),
                    semantic: self.semantic_connector.init(device),
                    whitening: Whitener::new(Whitening::IDENTITY, device),
                },
                backbone: self.backbone.init(device),
                head: self.head.init(device),
            },
            audio_token: self.audio_token,
        }
    }
}

impl VibeVoice {
    /// Whitened latents of a sound, without noise: what the language model reads and the head is
    /// trained to draw.
    ///
    /// # Shapes
    /// - `sound`: `[B, 1, N]`
    /// - returns: `[B, N / hop, Z]`
    pub fn audio_features(&self, sound: Tensor<3>) -> Tensor<3> {
        let latents = self.codec.encode(sound).mode();
        self.lm.adapters.whitening.whiten(latents)
    }

    /// Positions of a sequence in which latents stand in the place of audio tokens.
    ///
    /// # Shapes
    /// - `tokens`: `[1, T]`; `features`: `[F, Z]`, one for every audio token
    /// - returns: `[1, T, D]`
    ///
    /// # Panics
    /// If there are more or fewer audio tokens than features.
    pub fn embed(&self, tokens: Tensor<2, Int>, features: Tensor<2>) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        assert_eq!(batch, 1, "one sequence at a time");
        let [count, _] = features.dims();
        let ids = tokens.to_data().convert::<i64>();
        let ids = ids.as_slice::<i64>().expect("tokens are integers");
        let mut next = length as i64;
        let rows: Vec<i64> = (0..length as i64)
            .map(|position| {
                if ids[position as usize] != i64::from(self.audio_token) {
                    return position;
                }
                next += 1;
                next - 1
            })
            .collect();
        let found = next as usize - length;
        assert_eq!(found, count, "{found} audio tokens for {count} features");
        let device = tokens.device();
        let text = self.lm.adapters.token.embed(tokens);
        let heard = self.lm.adapters.acoustic.embed(features.unsqueeze_dim(0));
        let rows = Tensor::<1, Int>::from_ints(rows.as_slice(), &device);
        Tensor::cat(vec![text, heard], 1).select(1, rows)
    }

    /// Hidden states of a sequence, after the final norm.
    ///
    /// # Shapes
    /// - `tokens`: `[1, T]`; `features`: `[F, Z]`, one for every audio token
    /// - returns: `[1, T, D]`
    pub fn hidden(&self, tokens: Tensor<2, Int>, features: Tensor<2>) -> Tensor<3> {
        self.lm.backbone.forward(self.embed(tokens, features))
    }
}
