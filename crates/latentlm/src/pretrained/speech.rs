//! VibeVoice as `transformers` saves it.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use latentlm_codec_audio::AudioSigmaVae;
use latentlm_core::bundle::BundleWriter;
use latentlm_core::{LatentCodecConfig, PartConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::config::{TokenizerJson, VibeVoiceJson};
use super::naming::{Joined, Naming, below};
use super::store::{
    Format, PretrainedError, StoredDType, check_claim, json_error, load, read_json, save,
};
use crate::sizes::ModelError;
use crate::vibevoice::VibeVoice;

/// The file that describes a published model.
const CONFIG: &str = "config.json";

/// Names below one layer of an encoder or decoder; the rule for the layer itself comes last.
const LAYER: [(&str, &str); 4] = [
    ("ffn.linear1", "up"),
    ("ffn.linear2", "down"),
    ("mixer.conv", "mixer"),
    ("", ""),
];

/// Encoder (`conv`) or decoder (`convtr`) below the roots `theirs` and `ours`.
fn tower(naming: Naming, theirs: &str, ours: &str, conv: &str) -> Naming {
    let resampling = format!("conv_layers.{{}}.{conv}.{conv}");
    let rules = [
        ("stem.conv.conv", "stem"),
        ("head.conv", "head"),
        (resampling.as_str(), "stages.{}.conv"),
    ];
    let mut naming = naming.and(theirs, ours, &rules);
    for (their_layer, our_layer) in [
        ("stem.stage.{}", "layers.{}"),
        ("conv_layers.{}.stage.{}", "stages.{}.layers.{}"),
    ] {
        naming = naming.and(&below(theirs, their_layer), &below(ours, our_layer), &LAYER);
    }
    naming
}

/// Encoder and decoder of a codec.
fn tokenizer(mut naming: Naming, theirs: &str, ours: &str) -> Naming {
    for (part, conv) in [("encoder", "conv"), ("decoder", "convtr")] {
        naming = tower(naming, &below(theirs, part), &below(ours, part), conv);
    }
    naming
}

fn tokenizer_format() -> Format {
    Format {
        naming: tokenizer(Naming::default(), "", ""),
        joined: None,
        pixels: &[],
        own: &[],
    }
}

/// Names of the published language model and of the backbone.
const LANGUAGE_MODEL: [(&str, &str); 8] = [
    ("layers.{}.input_layernorm", "blocks.{}.norm1"),
    ("layers.{}.post_attention_layernorm", "blocks.{}.norm2"),
    ("layers.{}.self_attn.o_proj", "blocks.{}.attn.proj"),
    ("layers.{}.self_attn", "blocks.{}.attn"),
    ("layers.{}.mlp.gate_proj", "blocks.{}.mlp.up.linear_inner"),
    ("layers.{}.mlp.up_proj", "blocks.{}.mlp.up.linear_outer"),
    ("layers.{}.mlp.down_proj", "blocks.{}.mlp.down"),
    ("norm", "norm"),
];

/// Names of the published diffusion head and of ours.
const HEAD: [(&str, &str); 11] = [
    ("noisy_images_proj", "input"),
    ("cond_proj", "condition"),
    ("timestep_proj.fc1", "timestep.up"),
    ("timestep_proj.fc2", "timestep.down"),
    ("layers.{}.ffn.gate_proj", "layers.{}.up.linear_inner"),
    ("layers.{}.ffn.up_proj", "layers.{}.up.linear_outer"),
    ("layers.{}.ffn.down_proj", "layers.{}.down"),
    ("layers.{}.linear", "layers.{}.modulation"),
    ("layers.{}.norm", "layers.{}.norm"),
    ("final_layer.linear_1", "modulation"),
    ("final_layer.linear_2", "output"),
];

fn vibevoice_format(json: &VibeVoiceJson) -> Format {
    let naming = tokenizer(Naming::default(), "model.audio_tower", "codec");
    let naming = tower(
        naming,
        "model.semantic_tokenizer_encoder",
        "semantic",
        "conv",
    )
    .and("model.language_model", "lm.backbone", &LANGUAGE_MODEL)
    .and(
        "model",
        "lm",
        &[
            ("language_model.embed_tokens", "tokens.table"),
            ("multi_modal_projector.linear_1", "latents.0.projection"),
            ("multi_modal_projector.act", "latents.0.connector.norm"),
            (
                "multi_modal_projector.linear_2",
                "latents.0.connector.linear",
            ),
            ("latent_bias_factor", "latents.0.whitening.bias"),
            ("latent_scaling_factor", "latents.0.whitening.scale"),
        ],
    )
    .and(
        "model.semantic_connector",
        "semantic_connector",
        &[
            ("linear_1", "projection"),
            ("act", "connector.norm"),
            ("linear_2", "connector.linear"),
        ],
    )
    .and("", "", &[("lm_head", "lm.tokens.output")])
    .and("model.diffusion_head", "lm.heads.0", &HEAD);
    let text = &json.text_config;
    let head_dim = text.hidden_size / text.num_attention_heads;
    let kv_rows = text.num_key_value_heads * head_dim;
    Format {
        naming,
        joined: Some(Joined {
            theirs: ["q_proj", "k_proj", "v_proj"],
            ours: "qkv",
            rows: [text.num_attention_heads * head_dim, kv_rows, kv_rows],
        }),
        pixels: &[],
        own: &[
            "semantic_connector.whitening.bias",
            "semantic_connector.whitening.scale",
        ],
    }
}

/// The typed form of `folder/config.json`, if `unsupported` finds nothing in it.
fn read_config<T: DeserializeOwned>(
    folder: &Path,
    unsupported: fn(&T) -> Option<String>,
) -> Result<T, PretrainedError> {
    let path = folder.join(CONFIG);
    let json: T =
        serde_json::from_value(read_json(&path)?).map_err(|error| json_error(&path, error))?;
    match unsupported(&json) {
        None => Ok(json),
        Some(reason) => Err(PretrainedError::Unsupported { path, reason }),
    }
}

/// Reads and checks `folder/config.json` of an acoustic tokenizer.
///
/// # Errors
/// If it can't be read, lacks a key, or describes something that this crate does not have.
pub fn read_tokenizer_config(folder: &Path) -> Result<TokenizerJson, PretrainedError> {
    let json = read_config(folder, TokenizerJson::unsupported)?;
    json.codec().validate().map_err(ModelError::from)?;
    Ok(json)
}

/// Loads a VibeVoice acoustic tokenizer from a folder as `transformers` saves it.
///
/// # Errors
/// If a file can't be read, the architecture is not supported, or a tensor is missing, unknown or
/// of another shape.
pub fn load_tokenizer(folder: &Path, device: &Device) -> Result<AudioSigmaVae, PretrainedError> {
    let config = read_tokenizer_config(folder)?.codec();
    check_claim(folder, config.parameter_count(device), CONFIG)?;
    load(config.init(device), folder, &tokenizer_format())
}

/// Reads and checks `folder/config.json` of a whole speech model.
///
/// # Errors
/// If it can't be read, lacks a key, or describes something that this crate does not have.
pub fn read_vibevoice_config(folder: &Path) -> Result<VibeVoiceJson, PretrainedError> {
    let json = read_config(folder, VibeVoiceJson::unsupported)?;
    json.model().validate()?;
    Ok(json)
}

/// Loads a whole VibeVoice model from a folder as `transformers` saves it.
///
/// # Errors
/// If a file can't be read, the architecture is not supported, or a tensor is missing, unknown or
/// of another shape.
pub fn load_vibevoice(folder: &Path, device: &Device) -> Result<VibeVoice, PretrainedError> {
    let json = read_vibevoice_config(folder)?;
    let config = json.model();
    check_claim(folder, config.parameter_count(device), CONFIG)?;
    load(config.init(device), folder, &vibevoice_format(&json))
}

/// Writes a codec as `transformers` reads it: `config.json` and `model.safetensors`. A folder of
/// that name is replaced.
///
/// # Errors
/// If the folder can't be written.
pub fn save_tokenizer(
    codec: &AudioSigmaVae,
    json: &TokenizerJson,
    folder: &Path,
    dtype: StoredDType,
) -> Result<(), PretrainedError> {
    save_folder(codec, json, folder, dtype, &tokenizer_format())
}

/// Writes a speech model as `transformers` reads it: `config.json` and `model.safetensors`. A
/// folder of that name is replaced.
///
/// # Errors
/// If the folder can't be written.
pub fn save_vibevoice(
    model: &VibeVoice,
    json: &VibeVoiceJson,
    folder: &Path,
    dtype: StoredDType,
) -> Result<(), PretrainedError> {
    save_folder(model, json, folder, dtype, &vibevoice_format(json))
}

/// Writes `config.json` and `model.safetensors`, both or neither.
fn save_folder<M: Module>(
    module: &M,
    json: &impl Serialize,
    folder: &Path,
    dtype: StoredDType,
    format: &Format,
) -> Result<(), PretrainedError> {
    let writer = BundleWriter::begin(folder)?;
    let text = serde_json::to_value(json).and_then(|mut value| {
        value["dtype"] = Value::from(dtype.name());
        serde_json::to_string_pretty(&value)
    });
    let text = text.map_err(|error| json_error(&folder.join(CONFIG), error))?;
    writer.write(CONFIG, text.as_bytes())?;
    save(module, &writer, dtype, format)?;
    writer.commit()?;
    Ok(())
}
