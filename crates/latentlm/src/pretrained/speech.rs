//! VibeVoice as `transformers` saves it.

use std::path::Path;

use burn::tensor::Device;
use latentlm_codec_audio::AudioSigmaVae;
use latentlm_core::bundle::BundleWriter;
use latentlm_core::{LatentCodecConfig, PartConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::config::{TokenizerJson, VibeVoiceJson};
use super::naming::{Joined, Naming};
use super::store::{Format, PretrainedError, StoredDType, load, read_json, save};
use crate::sizes::ModelError;
use crate::vibevoice::VibeVoice;

/// Parameters below one layer; the rule for the layer itself comes last.
const LAYER: [(&str, &str); 4] = [
    (".ffn.linear1", ".up"),
    (".ffn.linear2", ".down"),
    (".mixer.conv", ".mixer"),
    ("", ""),
];

/// Encoder (`conv`) or decoder (`convtr`) below the roots `theirs` and `ours`.
fn tower(naming: Naming, theirs: &str, ours: &str, conv: &str) -> Naming {
    let resampling = format!("conv_layers.{{}}.{conv}.{conv}");
    let naming = naming.and(
        theirs,
        ours,
        &[
            ("stem.conv.conv", "stem"),
            ("head.conv", "head"),
            (&resampling, "stages.{}.conv"),
        ],
    );
    let places = [
        ("stem.stage.{}", "layers.{}"),
        ("conv_layers.{}.stage.{}", "stages.{}.layers.{}"),
    ];
    places
        .iter()
        .fold(naming, |naming, (their_layer, our_layer)| {
            LAYER.iter().fold(naming, |naming, (their_part, our_part)| {
                let their_name = format!("{their_layer}{their_part}");
                let our_name = format!("{our_layer}{our_part}");
                naming.and(theirs, ours, &[(&their_name, &our_name)])
            })
        })
}

fn tokenizer(naming: Naming, theirs: &str, ours: &str) -> Naming {
    let below = |root: &str, part: &str| match root {
        "" => part.to_owned(),
        root => format!("{root}.{part}"),
    };
    ["encoder", "decoder"]
        .iter()
        .zip(["conv", "convtr"])
        .fold(naming, |naming, (part, conv)| {
            tower(naming, &below(theirs, part), &below(ours, part), conv)
        })
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

/// The typed form of `folder/config.json`.
fn read_config<T: DeserializeOwned>(folder: &Path) -> Result<T, PretrainedError> {
    let path = folder.join("config.json");
    let value = read_json(&path)?;
    serde_json::from_value(value).map_err(|error| PretrainedError::Json {
        path,
        reason: error.to_string(),
    })
}

fn refuse(folder: &Path, unsupported: Option<String>) -> Result<(), PretrainedError> {
    match unsupported {
        None => Ok(()),
        Some(reason) => Err(PretrainedError::Unsupported {
            path: folder.join("config.json"),
            reason,
        }),
    }
}

/// Reads and checks `folder/config.json` of an acoustic tokenizer.
///
/// # Errors
/// If it can't be read, lacks a key, or describes something that this crate does not have.
pub fn read_tokenizer_config(folder: &Path) -> Result<TokenizerJson, PretrainedError> {
    let json: TokenizerJson = read_config(folder)?;
    refuse(folder, json.unsupported())?;
    json.codec().validate().map_err(ModelError::from)?;
    Ok(json)
}

/// Loads a VibeVoice acoustic tokenizer from a folder as `transformers` saves it.
///
/// # Errors
/// If a file can't be read, the architecture is not supported, or a tensor is missing, unknown or
/// of another shape.
pub fn load_tokenizer(folder: &Path, device: &Device) -> Result<AudioSigmaVae, PretrainedError> {
    let codec = read_tokenizer_config(folder)?.codec().init(device);
    load(codec, folder, &tokenizer_format())
}

/// Reads and checks `folder/config.json` of a whole speech model.
///
/// # Errors
/// If it can't be read, lacks a key, or describes something that this crate does not have.
pub fn read_vibevoice_config(folder: &Path) -> Result<VibeVoiceJson, PretrainedError> {
    let json: VibeVoiceJson = read_config(folder)?;
    refuse(folder, json.unsupported())?;
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
    load(json.model().init(device), folder, &vibevoice_format(&json))
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
    let writer = BundleWriter::begin(folder)?;
    write_config(json, &writer, folder, dtype)?;
    save(codec, &writer, dtype, &tokenizer_format())?;
    writer.commit()?;
    Ok(())
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
    let writer = BundleWriter::begin(folder)?;
    write_config(json, &writer, folder, dtype)?;
    save(model, &writer, dtype, &vibevoice_format(json))?;
    writer.commit()?;
    Ok(())
}

fn write_config(
    json: &impl Serialize,
    writer: &BundleWriter,
    folder: &Path,
    dtype: StoredDType,
) -> Result<(), PretrainedError> {
    let text = serde_json::to_value(json).and_then(|mut value| {
        value["dtype"] = Value::from(dtype.name());
        serde_json::to_string_pretty(&value)
    });
    let text = text.map_err(|error| PretrainedError::Json {
        path: folder.join("config.json"),
        reason: error.to_string(),
    })?;
    writer.write("config.json", text.as_bytes())?;
    Ok(())
}
