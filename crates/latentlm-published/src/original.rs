//! The format of the repository that VibeVoice was published with: its `config.json`, brought into the form
//! of `transformers`, and its names of parameters.

use std::path::Path;

use latentlm_vibevoice::SpeechTokens;
use serde::Deserialize;
use serde_json::{Value, json};

use super::config::{DiffusionHeadJson, LanguageModelJson, Rest, TokenizerJson, VibeVoiceJson};
use super::error::{PretrainedError, json_error};
use super::gguf::read_tokenizer;
use super::member::token_id;
use super::naming::{LANGUAGE_MODEL, Naming, below};

/// Kernel size of the convolutions, in samples. The original has no key for it.
pub(crate) const KERNEL_SIZE: usize = 7;
/// Inner width of the codecs' feed-forward layers divided by their outer width. The original has no key for it.
pub(crate) const FFN_EXPANSION: usize = 4;
/// Size of the sinusoidal timestep embedding.
pub(crate) const FREQUENCIES: usize = 256;
/// `model_type` of a codec in `transformers`.
pub(crate) const ACOUSTIC: &str = "vibevoice_acoustic_tokenizer";
/// `model_type` of an encoder without a decoder in `transformers`.
pub(crate) const ENCODER: &str = "vibevoice_acoustic_tokenizer_encoder";
/// The original's `fix_std` divided by the `vae_std` of `transformers`.
const FIX_STD_OVER_VAE_STD: f64 = 0.8;

/// Numbers of layers, as a list or as `3-3-8`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Depths {
    List(Vec<usize>),
    Text(String),
}

impl Depths {
    fn list(&self) -> Result<Vec<usize>, String> {
        match self {
            Self::List(depths) => Ok(depths.clone()),
            Self::Text(text) => {
                let depths: Result<Vec<usize>, _> =
                    text.split('-').map(str::parse::<usize>).collect();
                depths.map_err(|_| format!("depths `{text}` are no numbers with `-` between them"))
            }
        }
    }
}

/// A tokenizer's configuration; the semantic one has no decoder.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OriginalTokenizer {
    #[serde(default = "one")]
    channels: usize,
    vae_dim: usize,
    #[serde(default)]
    fix_std: f64,
    encoder_n_filters: usize,
    /// Coarse to fine.
    encoder_ratios: Vec<usize>,
    /// Fine to coarse.
    encoder_depths: Depths,
    decoder_n_filters: Option<usize>,
    decoder_ratios: Option<Vec<usize>>,
    /// Coarse to fine.
    decoder_depths: Option<Depths>,
    layernorm_eps: f64,
    layer_scale_init_value: f64,
    #[serde(flatten)]
    rest: Rest,
}

fn one() -> usize {
    1
}

impl OriginalTokenizer {
    /// Encoder and decoder as `transformers` has them, or what this crate does not have of them.
    pub(crate) fn translated(&self, model_type: &str) -> Result<TokenizerJson, String> {
        let encoder = self.encoder(model_type)?;
        let decoder = self.decoder(model_type)?;
        let is_same = [
            ("decoder_depths", decoder.depths == encoder.depths),
            (
                "decoder_ratios",
                decoder.downsampling_ratios == encoder.downsampling_ratios,
            ),
            (
                "decoder_n_filters",
                decoder.num_filters == encoder.num_filters,
            ),
        ];
        for (key, is_same) in is_same {
            if !is_same {
                return Err(format!("{key} other than the encoder's are not supported"));
            }
        }
        Ok(encoder)
    }

    /// The encoder alone, for a model that has no decoder.
    pub(crate) fn encoder(&self, model_type: &str) -> Result<TokenizerJson, String> {
        only(
            &self.rest,
            &[
                ("mixer_layer", json!("depthwise_conv")),
                ("layernorm", json!("RMSNorm")),
                ("layernorm_elementwise_affine", json!(true)),
                ("disable_last_norm", json!(true)),
                ("conv_norm", json!("none")),
                ("conv_bias", json!(true)),
                ("causal", json!(true)),
                ("pad_mode", json!("constant")),
                ("corpus_normalize", json!(0.0)),
            ],
        )?;
        let mut downsampling_ratios = self.encoder_ratios.clone();
        downsampling_ratios.reverse();
        Ok(TokenizerJson {
            channels: self.channels,
            hidden_size: self.vae_dim,
            kernel_size: KERNEL_SIZE,
            rms_norm_eps: self.layernorm_eps,
            layer_scale_init_value: self.layer_scale_init_value,
            num_filters: self.encoder_n_filters,
            downsampling_ratios,
            depths: self.encoder_depths.list()?,
            hidden_act: "gelu".into(),
            ffn_expansion: FFN_EXPANSION,
            vae_std: self.fix_std / FIX_STD_OVER_VAE_STD,
            rest: named(model_type),
        })
    }

    /// The decoder alone, for a model that has no encoder: as the encoder that it would mirror.
    pub(crate) fn decoder(&self, model_type: &str) -> Result<TokenizerJson, String> {
        let mut json = self.encoder(model_type)?;
        if let Some(depths) = &self.decoder_depths {
            json.depths = depths.list()?;
            json.depths.reverse();
        }
        if let Some(ratios) = &self.decoder_ratios {
            json.downsampling_ratios.clone_from(ratios);
            json.downsampling_ratios.reverse();
        }
        if let Some(filters) = self.decoder_n_filters {
            json.num_filters = filters;
        }
        Ok(json)
    }
}

/// A configuration of the diffusion head.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct OriginalHead {
    hidden_size: usize,
    latent_size: usize,
    head_layers: usize,
    head_ffn_ratio: f64,
    rms_norm_eps: f64,
    #[serde(flatten)]
    rest: Rest,
}

impl OriginalHead {
    /// Translates to the format of `transformers`. The error names the first thing that this crate does not support.
    pub(crate) fn translated(&self) -> Result<DiffusionHeadJson, String> {
        only(
            &self.rest,
            &[
                ("prediction_type", json!("v_prediction")),
                ("diffusion_type", json!("ddpm")),
                ("ddpm_beta_schedule", json!("cosine")),
                ("ddpm_num_steps", json!(1000)),
            ],
        )?;
        Ok(DiffusionHeadJson {
            hidden_size: self.hidden_size,
            latent_size: self.latent_size,
            num_hidden_layers: self.head_layers,
            // As Python's `int`. What is no size becomes 0, which is refused.
            intermediate_size: (self.hidden_size as f64 * self.head_ffn_ratio) as usize,
            rms_norm_eps: self.rms_norm_eps,
            hidden_act: "silu".into(),
            frequency_embedding_size: FREQUENCIES,
            diffusion_max_period: 10_000.0,
            mlp_bias: false,
            rest: named("vibevoice_diffusion"),
        })
    }
}

/// The language model's configuration, with the defaults of `Qwen2Config` where a key is left out.
pub(crate) fn language_model(mut config: Rest) -> Result<LanguageModelJson, String> {
    config.remove("torch_dtype");
    for (key, default) in [
        ("model_type", json!("qwen2")),
        ("hidden_act", json!("silu")),
    ] {
        config.entry(key).or_insert(default);
    }
    serde_json::from_value(Value::Object(config))
        .map_err(|error| format!("decoder_config: {error}"))
}

/// Puts the name of a part of the model before its error.
pub(crate) fn of_part<T>(part: &str, read: Result<T, String>) -> Result<T, String> {
    read.map_err(|reason| format!("{part}: {reason}"))
}

/// A configuration of a model that speaks.
#[derive(Debug, Clone, Deserialize)]
struct OriginalJson {
    acoustic_tokenizer_config: OriginalTokenizer,
    semantic_tokenizer_config: OriginalTokenizer,
    decoder_config: Rest,
    diffusion_head_config: OriginalHead,
}

/// The configuration of a model that speaks in the form of `transformers`. The original has no ids of tokens:
/// they are the tokenizer's.
///
/// # Errors
/// If a key is missing, or describes something that this crate does not have.
pub(crate) fn speech(
    config: Value,
    tokens: SpeechTokens,
    path: &Path,
) -> Result<VibeVoiceJson, PretrainedError> {
    let json: OriginalJson =
        serde_json::from_value(config).map_err(|error| json_error(path, error))?;
    json.translated(tokens)
        .map_err(|reason| PretrainedError::Unsupported {
            path: path.to_owned(),
            reason,
        })
}

impl OriginalJson {
    fn translated(self, tokens: SpeechTokens) -> Result<VibeVoiceJson, String> {
        let acoustic = self.acoustic_tokenizer_config.translated(ACOUSTIC);
        let audio_config = of_part("acoustic_tokenizer_config", acoustic)?;
        let semantic = self.semantic_tokenizer_config.encoder(ENCODER);
        let semantic_model_config = of_part("semantic_tokenizer_config", semantic)?;
        let head = self.diffusion_head_config.translated();
        let diffusion_head_config = of_part("diffusion_head_config", head)?;
        let text_config = language_model(self.decoder_config)?;
        let mut rest = named("vibevoice");
        rest.insert(
            "architectures".into(),
            json!(["VibeVoiceForConditionalGeneration"]),
        );
        rest.insert("pad_token_id".into(), json!(tokens.end));
        let tied = text_config.tie_word_embeddings;
        rest.insert("tie_word_embeddings".into(), json!(tied));
        Ok(VibeVoiceJson {
            audio_config,
            semantic_model_config,
            text_config,
            diffusion_head_config,
            audio_token_id: tokens.audio,
            audio_bos_token_id: tokens.start,
            audio_eos_token_id: tokens.stop,
            eos_token_id: tokens.end,
            rest,
        })
    }
}

/// The tokens of speech in a `tokenizer.json` of Qwen2.5, or in the same as a GGUF file. (The original gives tokens of pictures a new
/// meaning.)
///
/// # Errors
/// If it can't be read or has other tokens.
pub(crate) fn speech_tokens(tokenizer: &Path) -> Result<SpeechTokens, PretrainedError> {
    let json = read_tokenizer(tokenizer)?;
    let id = |token| token_id(&json, tokenizer, token);
    Ok(SpeechTokens {
        start: id("<|vision_start|>")?,
        stop: id("<|vision_end|>")?,
        audio: id("<|vision_pad|>")?,
        end: id("<|endoftext|>")?,
    })
}

/// The further keys of a part in the format of `transformers`.
fn named(model_type: &str) -> Rest {
    let mut rest = Rest::new();
    rest.insert("model_type".into(), json!(model_type));
    rest
}

/// Refuses other values than the supported ones of some keys, which may be left out.
fn only(config: &Rest, supported: &[(&str, Value)]) -> Result<(), String> {
    for (key, supported) in supported {
        let Some(value) = config.get(*key) else {
            continue;
        };
        let same_number = value.as_f64().is_some() && value.as_f64() == supported.as_f64();
        if value != supported && !same_number {
            return Err(format!(
                "{key} {value} is not supported, only {supported} is"
            ));
        }
    }
    Ok(())
}

/// Names below one layer of an encoder or decoder; the rule for the layer itself comes last.
const LAYER: [(&str, &str); 4] = [
    ("ffn.linear1", "up"),
    ("ffn.linear2", "down"),
    ("mixer.conv.conv.conv", "mixer"),
    ("", ""),
];

/// Names of an encoder (`downsample_layers`, `conv`) or decoder (`upsample_layers`, `convtr`) with `ratios`
/// changes of resolution. Numbers of resolutions are one higher than ours, which have none for the first.
pub(crate) fn tower(naming: Naming, theirs: &str, ours: &str, ratios: usize) -> Naming {
    let (resampling, conv) = if theirs.ends_with("encoder") {
        ("downsample_layers", "conv")
    } else {
        ("upsample_layers", "convtr")
    };
    let stem = format!("{resampling}.0.0.conv.conv");
    let rules = [(stem.as_str(), "stem"), ("head.conv.conv", "head")];
    let mut naming = naming.and(theirs, ours, &rules).and(
        &below(theirs, "stages.0.{}"),
        &below(ours, "layers.{}"),
        &LAYER,
    );
    for stage in 0..ratios {
        let their_conv = format!("{resampling}.{}.0.{conv}.{conv}", stage + 1);
        let our_conv = format!("stages.{stage}.conv");
        naming = naming.and(theirs, ours, &[(their_conv.as_str(), our_conv.as_str())]);
        let their_layer = format!("stages.{}.{{}}", stage + 1);
        let our_layer = format!("stages.{stage}.layers.{{}}");
        naming = naming.and(
            &below(theirs, &their_layer),
            &below(ours, &our_layer),
            &LAYER,
        );
    }
    naming
}

/// Names of the diffusion head.
pub(crate) const HEAD: [(&str, &str); 11] = [
    ("noisy_images_proj", "input"),
    ("cond_proj", "condition"),
    ("t_embedder.mlp.0", "timestep.up"),
    ("t_embedder.mlp.2", "timestep.down"),
    ("layers.{}.ffn.gate_proj", "layers.{}.up.linear_inner"),
    ("layers.{}.ffn.up_proj", "layers.{}.up.linear_outer"),
    ("layers.{}.ffn.down_proj", "layers.{}.down"),
    ("layers.{}.adaLN_modulation.1", "layers.{}.modulation"),
    ("layers.{}.norm", "layers.{}.norm"),
    ("final_layer.adaLN_modulation.1", "modulation"),
    ("final_layer.linear", "output"),
];

/// Names of a connector.
pub(crate) const CONNECTOR: [(&str, &str); 3] = [
    ("fc1", "projection"),
    ("norm", "connector.norm"),
    ("fc2", "connector.linear"),
];

/// Names of a model that speaks.
pub(crate) fn speech_naming(json: &VibeVoiceJson) -> Naming {
    let ratios = json.audio_config.downsampling_ratios.len();
    let semantic = json.semantic_model_config.downsampling_ratios.len();
    let acoustic_root = "model.acoustic_tokenizer";
    let mut naming = Naming::default();
    for part in ["encoder", "decoder"] {
        naming = tower(
            naming,
            &below(acoustic_root, part),
            &below("codec", part),
            ratios,
        );
    }
    tower(
        naming,
        "model.semantic_tokenizer.encoder",
        "semantic",
        semantic,
    )
    .and("model.language_model", "lm.backbone", &LANGUAGE_MODEL)
    .and(
        "model",
        "lm",
        &[
            ("language_model.embed_tokens", "tokens.table"),
            ("speech_bias_factor", "latents.0.whitening.bias"),
            ("speech_scaling_factor", "latents.0.whitening.scale"),
        ],
    )
    .and("model.acoustic_connector", "lm.latents.0", &CONNECTOR)
    .and("model.semantic_connector", "semantic_connector", &CONNECTOR)
    .and("", "", &[("lm_head", "lm.tokens.output")])
    .and("model.prediction_head", "lm.heads.0", &HEAD)
}
