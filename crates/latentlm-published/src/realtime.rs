//! VibeVoice-Realtime as the original repository published it.

use std::path::Path;

use burn::tensor::Device;
use latentlm_adapters::LatentAdapterConfig;
use latentlm_vibevoice::{RealtimeConfig, VibeVoiceRealtime};
use serde::Deserialize;
use serde_json::Value;

use super::config::{DiffusionHeadJson, LanguageModelJson, Rest, TokenizerJson, unsupported_part};
use super::error::{PretrainedError, json_error};
use super::family::{Member, Published};
use super::member::CONFIG;
use super::naming::{LANGUAGE_MODEL, Naming};
use super::original::{
    self, ACOUSTIC, CONNECTOR, HEAD, OriginalHead, OriginalTokenizer, of_part, tower,
};
use super::place::WeightType;
use super::store::{Format, check_claim, load};

/// `VibeVoiceStreamingConfig`, its parts in the form of `transformers`.
#[derive(Debug, Clone, PartialEq)]
pub struct RealtimeJson {
    /// The codec, of which only the decoder is published.
    codec: TokenizerJson,
    /// The whole language model.
    text: LanguageModelJson,
    head: DiffusionHeadJson,
    /// Blocks of the upper part of the language model.
    speech_depth: usize,
}

/// A configuration in the original's format.
#[derive(Debug, Clone, Deserialize)]
struct OriginalJson {
    acoustic_tokenizer_config: OriginalTokenizer,
    decoder_config: Rest,
    diffusion_head_config: OriginalHead,
    tts_backbone_num_hidden_layers: usize,
}

impl OriginalJson {
    fn translated(self) -> Result<RealtimeJson, String> {
        let codec = self.acoustic_tokenizer_config.decoder(ACOUSTIC);
        let head = self.diffusion_head_config.translated();
        Ok(RealtimeJson {
            codec: of_part("acoustic_tokenizer_config", codec)?,
            text: original::language_model(self.decoder_config)?,
            head: of_part("diffusion_head_config", head)?,
            speech_depth: self.tts_backbone_num_hidden_layers,
        })
    }
}

impl RealtimeJson {
    /// Reads a parsed `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// If it asks for something that this crate does not support.
    fn of(config: Value, path: &Path) -> Result<Self, PretrainedError> {
        let original: OriginalJson =
            serde_json::from_value(config).map_err(|error| json_error(path, error))?;
        let supported = original
            .translated()
            .and_then(|json| match json.unsupported() {
                None => Ok(json),
                Some(reason) => Err(reason),
            });
        supported.map_err(|reason| PretrainedError::Unsupported {
            path: path.to_owned(),
            reason,
        })
    }

    /// The model's configuration.
    pub fn model(&self) -> RealtimeConfig {
        let codec = self.codec.codec();
        let width = self.text.hidden_size;
        RealtimeConfig {
            connector: LatentAdapterConfig::new(codec.latent_dim, width).with_connector(true),
            codec,
            vocabulary: self.text.vocab_size,
            backbone: self.text.backbone(),
            speech_depth: self.speech_depth,
            head: self.head.head(),
        }
    }

    /// Positions that the model was trained for, if the file tells.
    pub fn max_positions(&self) -> Option<usize> {
        self.text.max_positions()
    }

    fn unsupported(&self) -> Option<String> {
        unsupported_part([
            ("acoustic_tokenizer_config", self.codec.unsupported()),
            ("decoder_config", self.text.unsupported()),
            ("diffusion_head_config", self.head.unsupported()),
        ])
    }

    fn format(&self) -> Format {
        Format {
            naming: naming(self.codec.downsampling_ratios.len()),
            joined: Some(self.text.joined()),
            pixels: &[],
            own: &[],
            skipped: &[
                "text_lm.norm",
                "model.tts_language_model.embed_tokens",
                "model.acoustic_tokenizer.encoder",
                "model.semantic_tokenizer",
                "model.semantic_connector",
                "lm_head",
            ],
        }
    }
}

/// Names of the whole model, whose decoder has `ratios` ratios.
fn naming(ratios: usize) -> Naming {
    let decoder = "model.acoustic_tokenizer.decoder";
    tower(Naming::default(), decoder, "decoder", ratios)
        .and("model.language_model", "text_lm", &LANGUAGE_MODEL)
        .and("model.tts_language_model", "speech_lm", &LANGUAGE_MODEL)
        .and(
            "model",
            "",
            &[
                ("language_model.embed_tokens", "table"),
                ("tts_input_types", "input_types"),
                ("speech_bias_factor", "latents.whitening.bias"),
                ("speech_scaling_factor", "latents.whitening.scale"),
            ],
        )
        .and("model.acoustic_connector", "latents", &CONNECTOR)
        .and("", "", &[("tts_eos_classifier", "stop")])
        .and("model.prediction_head", "head", &HEAD)
}

/// Reads and checks `folder/config.json` of a Realtime model.
///
/// # Errors
/// If it can't be read, lacks a key, or describes something that this crate does not have.
pub fn read_realtime_config(folder: &Path) -> Result<RealtimeJson, PretrainedError> {
    let published = Published::read(folder)?.expect(Member::Realtime)?;
    let json = RealtimeJson::of(published.config, &published.path)?;
    json.model().validate()?;
    Ok(json)
}

/// Loads VibeVoice-Realtime from a folder as the original repository published it.
///
/// # Errors
/// If a file can't be read, the architecture is not supported, or a tensor is missing, unknown or of another
/// shape.
pub fn load_realtime(
    folder: &Path,
    weights: WeightType,
    device: &Device,
) -> Result<VibeVoiceRealtime, PretrainedError> {
    let json = read_realtime_config(folder)?;
    let config = json.model();
    check_claim(folder, config.parameter_count(device), CONFIG)?;
    load(config.init(device), folder, &json.format(), weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::check_round_trip;
    use latentlm_core::conformance::seeded;

    fn fixture() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vibevoice-realtime-one")
    }

    #[test]
    fn every_parameter_has_a_name() {
        let json = read_realtime_config(&fixture()).unwrap();
        let device = Device::default();
        let model = seeded(1, &device, |device| json.model().init(device));
        check_round_trip(&model, &naming(3), &[]);
        let counted = json.model().parameter_count(&device);
        assert_eq!(counted, burn::module::Module::num_params(&model));
    }

    /// Numbers that differ between encoder and decoder, and lists in the place of texts.
    #[test]
    fn the_decoders_numbers_count() {
        let text = std::fs::read_to_string(fixture().join(CONFIG)).unwrap();
        let mut json: Value = serde_json::from_str(&text).unwrap();
        let codec = &mut json["acoustic_tokenizer_config"];
        codec["encoder_depths"] = Value::from("1-2-3-4");
        codec["decoder_ratios"] = Value::from(vec![7, 3, 2]);
        let read = |json: &Value| RealtimeJson::of(json.clone(), Path::new(CONFIG));
        let depths = |json: &Value| {
            let codec = read(json).unwrap().codec;
            assert_eq!(codec.downsampling_ratios, [2, 3, 7]);
            codec.depths
        };
        assert_eq!(depths(&json), [1, 2, 3, 4]);
        json["acoustic_tokenizer_config"]["decoder_depths"] = Value::from(vec![8, 7, 6, 5]);
        assert_eq!(depths(&json), [5, 6, 7, 8]);
        for (key, value, part) in [
            ("causal", Value::from(false), "causal false"),
            ("encoder_depths", Value::from("1-x"), "depths `1-x`"),
        ] {
            let mut json = json.clone();
            json["acoustic_tokenizer_config"][key] = value;
            let message = read(&json).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }
}
