//! VibeVoice-ASR as `transformers` saves it, and as the original repository published it.

use std::path::Path;

use burn::tensor::Device;
use latentlm_adapters::TokenAdapterConfig;
use latentlm_vibevoice::{AsrError, AsrTokens, VibeVoiceAsr, VibeVoiceAsrConfig};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::{LanguageModelJson, Rest, TokenizerJson, unsupported_part};
use super::error::{PretrainedError, json_error};
use super::family::{Dialect, Member, Published};
use super::member::CONFIG;
use super::naming::{LANGUAGE_MODEL, Naming};
use super::original::{self, CONNECTOR, ENCODER, OriginalTokenizer, of_part};
use super::place::WeightType;
use super::speech::tower;
use super::store::{Format, check_claim, load};

/// Samples that the encoders read at once, if the configuration does not say: a minute.
const PIECE_SAMPLES: usize = 60 * 24_000;
/// Positions in the context, if the configuration does not say.
const CONTEXT: usize = 32_768;

/// Parameters that the original's folder has for models that speak.
const SKIPPED: [&str; 4] = [
    "model.acoustic_tokenizer.decoder",
    "model.prediction_head",
    "model.speech_bias_factor",
    "model.speech_scaling_factor",
];
/// [`SKIPPED`] for models whose softmax head shares the embedding's table.
const SKIPPED_TIED: [&str; 5] = [
    "model.acoustic_tokenizer.decoder",
    "model.prediction_head",
    "model.speech_bias_factor",
    "model.speech_scaling_factor",
    "tokens.output",
];

/// Names with `model.` in front, and those of models that speak, which some files have.
const SPELLINGS: [(&str, &str); 6] = [
    ("model.multi_modal_projector", "multi_modal_projector"),
    ("model.language_model.model", "language_model.model"),
    ("model.language_model", "language_model.model"),
    ("lm_head", "language_model.lm_head"),
    (
        "model.acoustic_tokenizer_encoder",
        "acoustic_tokenizer_encoder",
    ),
    (
        "model.semantic_tokenizer_encoder",
        "semantic_tokenizer_encoder",
    ),
];

/// `VibeVoiceAsrConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AsrJson {
    /// The acoustic encoder.
    pub acoustic_tokenizer_encoder_config: TokenizerJson,
    /// The semantic encoder.
    pub semantic_tokenizer_encoder_config: TokenizerJson,
    /// The language model.
    pub text_config: LanguageModelJson,
    /// Samples that the encoders hear at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acoustic_tokenizer_chunk_size: Option<usize>,
    /// The token in whose place latents stand; the original leaves tokens to the tokenizer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_token_id: Option<u32>,
    /// The token that opens a recording.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_bos_token_id: Option<u32>,
    /// The token that closes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_eos_token_id: Option<u32>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

impl AsrJson {
    /// The model's configuration.
    pub fn model(&self) -> VibeVoiceAsrConfig {
        let text = &self.text_config;
        let acoustic = self.acoustic_tokenizer_encoder_config.codec();
        let hop = acoustic.hop_samples().max(1);
        let piece = self.acoustic_tokenizer_chunk_size.unwrap_or(PIECE_SAMPLES);
        VibeVoiceAsrConfig {
            piece_samples: (piece / hop).max(1) * hop,
            acoustic,
            semantic: self.semantic_tokenizer_encoder_config.codec(),
            tokens: TokenAdapterConfig::new(text.vocab_size, text.hidden_size)
                .with_tied(text.tie_word_embeddings),
            backbone: text.backbone(),
        }
    }

    /// Positions that the model was trained for.
    pub fn max_positions(&self) -> usize {
        self.text_config.max_positions().unwrap_or(CONTEXT)
    }

    /// The tokens around a recording and behind an answer: those of the configuration and of the folder's
    /// `generation_config.json`, else those that the tokenizer has under their published names.
    ///
    /// # Errors
    /// If a token is nowhere.
    pub fn tokens(
        &self,
        generation: &Value,
        id_of: impl Fn(&str) -> Option<u32>,
    ) -> Result<AsrTokens, AsrError> {
        let named = |given: Option<u32>, name: &str| {
            let id = given.or_else(|| id_of(name));
            id.ok_or_else(|| AsrError::NoToken {
                name: name.to_owned(),
            })
        };
        let mut ends = ids(&generation["eos_token_id"]);
        if ends.is_empty() {
            ends = self.rest.get("eos_token_id").map(ids).unwrap_or_default();
        }
        if ends.is_empty() {
            ends.push(named(None, "<|endoftext|>")?);
        }
        Ok(AsrTokens {
            begin: named(self.audio_bos_token_id, "<|object_ref_start|>")?,
            audio: named(self.audio_token_id, "<|box_start|>")?,
            close: named(self.audio_eos_token_id, "<|object_ref_end|>")?,
            ends,
        })
    }

    /// The first key whose value this crate does not support, as a message; `None` if there is none.
    fn unsupported(&self) -> Option<String> {
        let (acoustic, semantic) = (
            &self.acoustic_tokenizer_encoder_config,
            &self.semantic_tokenizer_encoder_config,
        );
        let parts = [
            ("acoustic_tokenizer_encoder_config", acoustic.unsupported()),
            ("semantic_tokenizer_encoder_config", semantic.unsupported()),
            ("text_config", self.text_config.unsupported()),
        ];
        unsupported_part(parts).or_else(|| {
            let mut tokens = Vec::new();
            for (key, token) in [
                ("audio_token_id", self.audio_token_id),
                ("audio_bos_token_id", self.audio_bos_token_id),
                ("audio_eos_token_id", self.audio_eos_token_id),
            ] {
                tokens.extend(token.map(|token| (key, token)));
            }
            self.text_config.unknown_token(&tokens)
        })
    }
}

/// An id or a list of them.
fn ids(value: &Value) -> Vec<u32> {
    let one = std::slice::from_ref(value);
    let values = value.as_array().map_or(one, Vec::as_slice);
    let numbers = values.iter().filter_map(Value::as_u64);
    numbers.filter_map(|id| u32::try_from(id).ok()).collect()
}

/// A configuration in the original's format. Its decoder and head are those of models that speak.
#[derive(Debug, Clone, Deserialize)]
struct OriginalJson {
    acoustic_tokenizer_config: OriginalTokenizer,
    semantic_tokenizer_config: OriginalTokenizer,
    decoder_config: Rest,
}

impl OriginalJson {
    /// Translates to the format of `transformers`. The error names the first thing that this crate does not support.
    /// The ids of tokens stay empty: the original reads them from the tokenizer.
    fn translated(self) -> Result<AsrJson, String> {
        let acoustic = self.acoustic_tokenizer_config.encoder(ENCODER);
        let semantic = self.semantic_tokenizer_config.encoder(ENCODER);
        Ok(AsrJson {
            acoustic_tokenizer_encoder_config: of_part("acoustic_tokenizer_config", acoustic)?,
            semantic_tokenizer_encoder_config: of_part("semantic_tokenizer_config", semantic)?,
            text_config: original::language_model(self.decoder_config)?,
            acoustic_tokenizer_chunk_size: None,
            audio_token_id: None,
            audio_bos_token_id: None,
            audio_eos_token_id: None,
            rest: Rest::new(),
        })
    }
}

/// Reads and checks `folder/config.json` of a model that recognizes speech, in either format.
///
/// # Errors
/// If it can't be read, lacks a key, or describes something that this crate does not have.
pub fn read_asr_config(folder: &Path) -> Result<AsrJson, PretrainedError> {
    Ok(read(folder)?.0)
}

/// Loads VibeVoice-ASR from a folder, in either format. Parameters of the original's that only models that speak
/// use are left out.
///
/// # Errors
/// If a file can't be read, the architecture is not supported, or a tensor is missing, unknown or
/// of another shape.
pub fn load_asr(
    folder: &Path,
    weights: WeightType,
    device: &Device,
) -> Result<VibeVoiceAsr, PretrainedError> {
    let (json, dialect) = read(folder)?;
    let config = json.model();
    check_claim(folder, config.parameter_count(device), CONFIG)?;
    let format = format(&json, dialect);
    load(config.init(device), folder, &format, weights)
}

fn read(folder: &Path) -> Result<(AsrJson, Dialect), PretrainedError> {
    let Published {
        dialect,
        config,
        path,
        ..
    } = Published::read(folder)?.expect(Member::Recognition)?;
    let refuse = |reason| PretrainedError::Unsupported {
        path: path.clone(),
        reason,
    };
    let json: AsrJson = match dialect {
        Dialect::Original => {
            let json = serde_json::from_value::<OriginalJson>(config);
            let json = json.map_err(|error| json_error(&path, error))?;
            json.translated().map_err(refuse)?
        }
        Dialect::Transformers => {
            serde_json::from_value(config).map_err(|error| json_error(&path, error))?
        }
    };
    if let Some(reason) = json.unsupported() {
        return Err(refuse(reason));
    }
    json.model().validate()?;
    Ok((json, dialect))
}

fn format(json: &AsrJson, dialect: Dialect) -> Format {
    let text = &json.text_config;
    Format {
        naming: match dialect {
            Dialect::Original => original_naming(json),
            Dialect::Transformers => transformers_naming(),
        },
        joined: Some(text.joined()),
        pixels: &[],
        own: &[
            "acoustic_connector.whitening.bias",
            "acoustic_connector.whitening.scale",
            "semantic_connector.whitening.bias",
            "semantic_connector.whitening.scale",
        ],
        skipped: if text.tie_word_embeddings {
            &SKIPPED_TIED
        } else {
            &SKIPPED
        },
    }
}

/// Names as `transformers` 5.24 writes them.
fn transformers_naming() -> Naming {
    let language_model = "language_model.model";
    let mut naming = Naming::default();
    for part in ["acoustic", "semantic"] {
        naming = tower(naming, &format!("{part}_tokenizer_encoder"), part, "conv");
        let names = ["linear_1", "norm", "linear_2"].map(|name| format!("{part}_{name}"));
        naming = naming.and(
            "multi_modal_projector",
            &format!("{part}_connector"),
            &[
                (names[0].as_str(), "projection"),
                (names[1].as_str(), "connector.norm"),
                (names[2].as_str(), "connector.linear"),
            ],
        );
    }
    naming
        .and(language_model, "backbone", &LANGUAGE_MODEL)
        .and(
            "language_model",
            "tokens",
            &[("model.embed_tokens", "table"), ("lm_head", "output")],
        )
        .also_spelled(&SPELLINGS)
}

/// Names of the original repository.
fn original_naming(json: &AsrJson) -> Naming {
    let mut naming = Naming::default();
    for (part, encoder) in [
        ("acoustic", &json.acoustic_tokenizer_encoder_config),
        ("semantic", &json.semantic_tokenizer_encoder_config),
    ] {
        let root = format!("model.{part}_tokenizer.encoder");
        let ratios = encoder.downsampling_ratios.len();
        naming = original::tower(naming, &root, part, ratios).and(
            &format!("model.{part}_connector"),
            &format!("{part}_connector"),
            &CONNECTOR,
        );
    }
    naming
        .and("model.language_model", "backbone", &LANGUAGE_MODEL)
        .and(
            "",
            "tokens",
            &[
                ("model.language_model.embed_tokens", "table"),
                ("lm_head", "output"),
            ],
        )
}

#[cfg(test)]
mod tests;
