//! `config.json` of `transformers`' VibeVoice models: what of it decides the architecture. Other
//! keys are kept and written back. That of the original repository is brought into this form
//! (`original`).

use std::ops::RangeInclusive;

use latentlm_adapters::{LatentAdapterConfig, TokenAdapterConfig};
use latentlm_backbone::{BackboneConfig, RopeLayout};
use latentlm_codec_audio::AudioSigmaVaeConfig;
use latentlm_core::sequence::ControlTokens;
use latentlm_diffusion::{BetaSchedule, HeadConfig, Prediction};
use latentlm_vibevoice::VibeVoiceConfig;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use super::naming::Joined;

pub(crate) type Rest = Map<String, Value>;

/// Largest width of a language model and its head.
const MOST_WIDTH: usize = 1 << 17;
/// Largest width of their feed-forward layers.
const MOST_INNER: usize = 1 << 20;

/// `VibeVoiceAcousticTokenizerConfig`, and the semantic encoder's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenizerJson {
    /// Channels of the signal.
    #[serde(default = "one")]
    pub channels: usize,
    /// Numbers a latent.
    pub hidden_size: usize,
    /// Kernel of depthwise, first and last convolutions.
    pub kernel_size: usize,
    /// Epsilon of the norms.
    pub rms_norm_eps: f64,
    /// What layer scales start with.
    pub layer_scale_init_value: f64,
    /// Channels at the finest resolution.
    pub num_filters: usize,
    /// Ratios, first to last.
    pub downsampling_ratios: Vec<usize>,
    /// Layers at every resolution.
    pub depths: Vec<usize>,
    /// Activation of the feed-forward layers.
    pub hidden_act: String,
    /// Inner over outer width of the feed-forward layers.
    pub ffn_expansion: usize,
    /// Deviation of the noise's scale.
    pub vae_std: f64,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

fn one() -> usize {
    1
}

impl TokenizerJson {
    /// The codec's configuration.
    pub fn codec(&self) -> AudioSigmaVaeConfig {
        AudioSigmaVaeConfig::new()
            .with_channels(self.channels)
            .with_latent_dim(self.hidden_size)
            .with_kernel_size(self.kernel_size)
            .with_norm_epsilon(self.rms_norm_eps)
            .with_layer_scale(self.layer_scale_init_value)
            .with_width(self.num_filters)
            .with_ratios(self.downsampling_ratios.clone())
            .with_depths(self.depths.clone())
            .with_ffn_expansion(self.ffn_expansion)
            .with_vae_std(self.vae_std)
    }

    /// The first key whose value this crate does not support, as a message; `None` if there is none.
    pub(crate) fn unsupported(&self) -> Option<String> {
        wants("hidden_act", &self.hidden_act, "gelu").or_else(|| self.out_of_range())
    }

    fn out_of_range(&self) -> Option<String> {
        let lists = [
            (
                "downsampling_ratios",
                &self.downsampling_ratios,
                1..=1024,
                32,
            ),
            ("depths", &self.depths, 0..=1024, 33),
        ];
        for (key, list, range, longest) in lists {
            if list.len() > longest {
                return Some(format!(
                    "{key} has {} numbers, at most {longest} may be",
                    list.len()
                ));
            }
            let mut numbers = list.iter();
            if let Some(wrong) = numbers.find_map(|value| within(key, *value, range.clone())) {
                return Some(wrong);
            }
        }
        let numbers = [
            ("channels", self.channels, 1..=64),
            ("hidden_size", self.hidden_size, 1..=16_384),
            ("kernel_size", self.kernel_size, 1..=1024),
            ("num_filters", self.num_filters, 1..=65_536),
            ("ffn_expansion", self.ffn_expansion, 1..=64),
        ];
        let mut numbers = numbers.into_iter();
        let wrong = numbers.find_map(|(key, value, range)| within(key, value, range));
        let scale = self.layer_scale_init_value;
        wrong
            .or_else(|| positive("rms_norm_eps", self.rms_norm_eps, 1.0))
            .or_else(|| between("layer_scale_init_value", scale, -1000.0..=1000.0))
            .or_else(|| between("vae_std", self.vae_std, 0.0..=100.0))
    }
}

/// Rotary parameters of the language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RopeJson {
    /// Base of the frequencies.
    pub rope_theta: f64,
    /// Scaling; only `default` is supported.
    pub rope_type: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

/// `Qwen2Config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LanguageModelJson {
    /// Architecture; only `qwen2` is supported.
    pub model_type: String,
    /// Width.
    pub hidden_size: usize,
    /// Feed-forward width.
    pub intermediate_size: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Key/value heads.
    pub num_key_value_heads: usize,
    /// Epsilon of the norms.
    pub rms_norm_eps: f64,
    /// Rotary parameters, as `transformers` 5 writes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_parameters: Option<RopeJson>,
    /// Base of the rotary frequencies, as `transformers` 4 wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rope_theta: Option<f64>,
    /// Activation of the feed-forward layers.
    pub hidden_act: String,
    /// Whether the softmax head uses the embedding's table.
    #[serde(default)]
    pub tie_word_embeddings: bool,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

impl LanguageModelJson {
    /// Positions that the model was trained for, if the file tells.
    pub fn max_positions(&self) -> Option<usize> {
        let most = self.rest.get("max_position_embeddings");
        usize::try_from(most?.as_u64()?).ok()
    }

    /// Queries, keys and values, which ours has as one layer.
    pub(crate) fn joined(&self) -> Joined {
        let head_dim = self.hidden_size / self.num_attention_heads;
        let kv_rows = self.num_key_value_heads * head_dim;
        Joined {
            theirs: ["q_proj", "k_proj", "v_proj"],
            ours: "qkv",
            rows: [self.num_attention_heads * head_dim, kv_rows, kv_rows],
        }
    }

    /// What is wrong with ids of tokens, if one is not in the vocabulary.
    pub(crate) fn unknown_token(&self, tokens: &[(&str, u32)]) -> Option<String> {
        let size = self.vocab_size;
        let mut tokens = tokens.iter();
        let (key, token) = tokens.find(|(_, token)| *token as usize >= size)?;
        Some(format!(
            "{key} {token} is outside of the {size} tokens of vocab_size"
        ))
    }

    pub(crate) fn backbone(&self) -> BackboneConfig {
        BackboneConfig::new(
            self.hidden_size,
            self.num_hidden_layers,
            self.num_attention_heads,
        )
        .with_kv_heads(self.num_key_value_heads)
        .with_mlp_width(self.intermediate_size)
        .with_norm_weight(true)
        .with_norm_epsilon(self.rms_norm_eps)
        .with_qkv_bias(true)
        .with_rope_layout(RopeLayout::HalfSplit)
        .with_rope_theta(self.rope_theta())
        .with_condition_layer(false)
    }

    pub(crate) fn unsupported(&self) -> Option<String> {
        let rope = self.rope_parameters.as_ref();
        let rope = rope.map_or("default", |rope| rope.rope_type.as_str());
        let windowed = self.rest.get("use_sliding_window") == Some(&Value::Bool(true));
        let head_dim = self.rest.get("head_dim").and_then(Value::as_u64);
        let own_head_dim = head_dim.is_some_and(|dim| {
            let width = dim.checked_mul(self.num_attention_heads as u64);
            width != Some(self.hidden_size as u64)
        });
        let scaled = self.rest.get("rope_scaling").is_some_and(|scaling| {
            let is_default = scaling["rope_type"] == "default" || scaling["type"] == "default";
            !scaling.is_null() && !is_default
        });
        wants("model_type", &self.model_type, "qwen2")
            .or_else(|| wants("hidden_act", &self.hidden_act, "silu"))
            .or_else(|| wants("rope_type", rope, "default"))
            .or_else(|| scaled.then(|| "rope_scaling is not supported".into()))
            .or_else(|| windowed.then(|| "use_sliding_window is not supported".into()))
            .or_else(|| own_head_dim.then(|| "a head_dim of its own is not supported".into()))
            .or_else(|| self.out_of_range())
    }

    fn out_of_range(&self) -> Option<String> {
        let numbers = [
            ("hidden_size", self.hidden_size, 1..=MOST_WIDTH),
            ("intermediate_size", self.intermediate_size, 1..=MOST_INNER),
            ("num_attention_heads", self.num_attention_heads, 1..=4096),
            ("num_hidden_layers", self.num_hidden_layers, 1..=4096),
            ("num_key_value_heads", self.num_key_value_heads, 1..=4096),
            ("vocab_size", self.vocab_size, 1..=1 << 24),
        ];
        let mut numbers = numbers.into_iter();
        let wrong = numbers.find_map(|(key, value, range)| within(key, value, range));
        let theta = self.rope_theta();
        wrong
            .or_else(|| positive("rms_norm_eps", self.rms_norm_eps, 1.0))
            .or_else(|| positive("rope_theta", theta, 1e12))
    }

    fn rope_theta(&self) -> f64 {
        let theta = self.rope_parameters.as_ref().map(|rope| rope.rope_theta);
        theta.or(self.rope_theta).unwrap_or(10000.0)
    }
}

/// Writes a whole number without a point: `transformers` takes no other for an integer.
fn whole<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if number.fract() == 0.0 && number.abs() < 1e15 {
        serializer.serialize_i64(*number as i64)
    } else {
        serializer.serialize_f64(*number)
    }
}

/// `VibeVoiceDiffusionHeadConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DiffusionHeadJson {
    /// Width.
    pub hidden_size: usize,
    /// Numbers a latent.
    pub latent_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Feed-forward width.
    pub intermediate_size: usize,
    /// Epsilon of the norms.
    pub rms_norm_eps: f64,
    /// Activation.
    pub hidden_act: String,
    /// Numbers of the timesteps' sinusoid.
    pub frequency_embedding_size: usize,
    /// Longest period of the sinusoid.
    #[serde(serialize_with = "whole")]
    pub diffusion_max_period: f64,
    /// Whether the feed-forward layers have biases; not supported.
    #[serde(default)]
    pub mlp_bias: bool,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

impl DiffusionHeadJson {
    pub(crate) fn head(&self) -> HeadConfig {
        HeadConfig::new(self.latent_size, self.hidden_size)
            .with_depth(self.num_hidden_layers)
            .with_mlp_width(self.intermediate_size)
            .with_norm_epsilon(self.rms_norm_eps)
            .with_norm_weight(true)
            .with_input_bias(false)
            .with_condition_projection(true)
            .with_timestep_frequencies(self.frequency_embedding_size)
            .with_timestep_max_period(self.diffusion_max_period)
            .with_schedule(BetaSchedule::Cosine)
            .with_prediction(Prediction::Velocity)
    }

    pub(crate) fn unsupported(&self) -> Option<String> {
        wants("hidden_act", &self.hidden_act, "silu")
            .or_else(|| self.mlp_bias.then(|| "mlp_bias is not supported".into()))
            .or_else(|| self.out_of_range())
    }

    fn out_of_range(&self) -> Option<String> {
        let numbers = [
            ("hidden_size", self.hidden_size, 1..=MOST_WIDTH),
            ("latent_size", self.latent_size, 1..=16_384),
            ("num_hidden_layers", self.num_hidden_layers, 0..=1024),
            ("intermediate_size", self.intermediate_size, 1..=MOST_INNER),
            (
                "frequency_embedding_size",
                self.frequency_embedding_size,
                2..=65_536,
            ),
        ];
        let mut numbers = numbers.into_iter();
        let wrong = numbers.find_map(|(key, value, range)| within(key, value, range));
        wrong
            .or_else(|| positive("rms_norm_eps", self.rms_norm_eps, 1.0))
            .or_else(|| positive("diffusion_max_period", self.diffusion_max_period, 1e12))
    }
}

/// `VibeVoiceConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VibeVoiceJson {
    /// The acoustic tokenizer.
    pub audio_config: TokenizerJson,
    /// The semantic tokenizer's encoder.
    pub semantic_model_config: TokenizerJson,
    /// The language model.
    pub text_config: LanguageModelJson,
    /// The diffusion head.
    pub diffusion_head_config: DiffusionHeadJson,
    /// The token in whose place latents stand.
    pub audio_token_id: u32,
    /// The token that opens a run of latents.
    pub audio_bos_token_id: u32,
    /// The token that closes it.
    pub audio_eos_token_id: u32,
    /// The token that ends a text.
    pub eos_token_id: u32,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Rest,
}

impl VibeVoiceJson {
    /// The model's configuration.
    pub fn model(&self) -> VibeVoiceConfig {
        let width = self.text_config.hidden_size;
        let connector = |json: &TokenizerJson| {
            LatentAdapterConfig::new(json.hidden_size, width).with_connector(true)
        };
        VibeVoiceConfig {
            codec: self.audio_config.codec(),
            semantic: self.semantic_model_config.codec(),
            acoustic_connector: connector(&self.audio_config),
            semantic_connector: connector(&self.semantic_model_config),
            tokens: TokenAdapterConfig::new(self.text_config.vocab_size, width)
                .with_tied(self.text_config.tie_word_embeddings),
            backbone: self.text_config.backbone(),
            head: self.diffusion_head_config.head(),
            control: ControlTokens {
                begin: self.audio_bos_token_id,
                end: self.audio_eos_token_id,
                more: self.audio_token_id,
            },
            end_of_text: self.eos_token_id,
        }
    }

    /// The first key whose value this crate does not support, as a message; `None` if there is none.
    pub(crate) fn unsupported(&self) -> Option<String> {
        let (audio, semantic) = (&self.audio_config, &self.semantic_model_config);
        let head = &self.diffusion_head_config;
        let parts = [
            ("audio_config", audio.unsupported()),
            ("semantic_model_config", semantic.unsupported()),
            ("text_config", self.text_config.unsupported()),
            ("diffusion_head_config", head.unsupported()),
        ];
        unsupported_part(parts).or_else(|| self.wrong_token())
    }

    fn wrong_token(&self) -> Option<String> {
        let (more, begin, end) = (
            self.audio_token_id,
            self.audio_bos_token_id,
            self.audio_eos_token_id,
        );
        let unknown = self.text_config.unknown_token(&[
            ("audio_token_id", more),
            ("audio_bos_token_id", begin),
            ("audio_eos_token_id", end),
            ("eos_token_id", self.eos_token_id),
        ]);
        let differ = more != begin && more != end && begin != end;
        let wrong = "audio_token_id, audio_bos_token_id and audio_eos_token_id must differ";
        unknown.or_else(|| (!differ).then(|| wrong.into()))
    }
}

/// What is wrong with one of several parts of a model, if anything, behind the part's name.
pub(crate) fn unsupported_part<const N: usize>(
    parts: [(&str, Option<String>); N],
) -> Option<String> {
    let mut parts = parts.into_iter();
    parts.find_map(|(part, what)| Some(format!("{part}: {}", what?)))
}

/// What is wrong with a whole number outside of a range, if anything.
fn within(key: &str, value: usize, range: RangeInclusive<usize>) -> Option<String> {
    let (least, most) = (range.start(), range.end());
    let wrong = !range.contains(&value);
    wrong.then(|| format!("{key} must be from {least} to {most}, not {value}"))
}

/// What is wrong with a number outside of a range, if anything.
fn between(key: &str, value: f64, range: RangeInclusive<f64>) -> Option<String> {
    let (least, most) = (range.start(), range.end());
    let wrong = !range.contains(&value);
    wrong.then(|| format!("{key} must be from {least} to {most}, not {value}"))
}

/// What is wrong with a number that must be positive, if anything.
fn positive(key: &str, value: f64, most: f64) -> Option<String> {
    let fine = value > 0.0 && value <= most;
    (!fine).then(|| format!("{key} must be above 0 and at most {most}, not {value}"))
}

/// What is wrong with a key that has only one supported value, if anything.
fn wants(key: &str, value: &str, supported: &str) -> Option<String> {
    (value != supported).then(|| format!("{key} `{value}` is not supported, only `{supported}` is"))
}
