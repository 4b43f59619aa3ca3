//! VibeVoice as `transformers` saves it, and as the original repository published it.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use latentlm_codec_audio::AudioSigmaVae;
use latentlm_core::bundle::BundleWriter;
use latentlm_core::{LatentCodecConfig, PartConfig};
use latentlm_vibevoice::{VibeVoice, VibeVoiceError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::config::{TokenizerJson, VibeVoiceJson};
use super::error::{PretrainedError, json_error};
use super::family::{Dialect, Member, Published};
use super::gguf;
use super::member::{CONFIG, find_tokenizer};
use super::naming::{LANGUAGE_MODEL, Naming, below};
use super::original;
use super::place::WeightType;
use super::shards::{Contents, contents, read_json};
use super::store::{Format, StoredDType, check_claim, load, save};

/// Names below one layer of an encoder or decoder; the rule for the layer itself comes last.
const LAYER: [(&str, &str); 4] = [
    ("ffn.linear1", "up"),
    ("ffn.linear2", "down"),
    ("mixer.conv", "mixer"),
    ("", ""),
];

/// Encoder (`conv`) or decoder (`convtr`) below the roots `theirs` and `ours`.
pub(crate) fn tower(naming: Naming, theirs: &str, ours: &str, conv: &str) -> Naming {
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
        skipped: &[],
    }
}

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

/// Names of the parts that some versions of `transformers` write otherwise.
const SPELLINGS: [(&str, &str); 12] = [
    ("language_model.model", "model.language_model"),
    ("language_model.lm_head", "lm_head"),
    ("model.language_model.model", "model.language_model"),
    ("audio_tower", "model.audio_tower"),
    (
        "semantic_tokenizer_encoder",
        "model.semantic_tokenizer_encoder",
    ),
    ("multi_modal_projector", "model.multi_modal_projector"),
    ("semantic_connector", "model.semantic_connector"),
    ("latent_bias_factor", "model.latent_bias_factor"),
    ("latent_scaling_factor", "model.latent_scaling_factor"),
    ("diffusion_head", "model.diffusion_head"),
    (
        "model.diffusion_head.timestep_embedder.layer_1",
        "model.diffusion_head.timestep_proj.fc1",
    ),
    (
        "model.diffusion_head.timestep_embedder.layer_2",
        "model.diffusion_head.timestep_proj.fc2",
    ),
];

/// Names of the whole model in `transformers`.
pub(crate) fn vibevoice_naming() -> Naming {
    let naming = tokenizer(Naming::default(), "model.audio_tower", "codec");
    tower(
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
    .and("model.diffusion_head", "lm.heads.0", &HEAD)
    .also_spelled(&SPELLINGS)
}

fn vibevoice_format(json: &VibeVoiceJson, dialect: Dialect) -> Format {
    let naming = match dialect {
        Dialect::Original => original::speech_naming(json),
        Dialect::Transformers => vibevoice_naming(),
    };
    let text = &json.text_config;
    Format {
        naming,
        joined: Some(text.joined()),
        pixels: &[],
        own: &[
            "semantic_connector.whitening.bias",
            "semantic_connector.whitening.scale",
        ],
        // Some write the softmax head although it is the embedding's table.
        skipped: if text.tie_word_embeddings {
            &["lm.tokens.output"]
        } else {
            &[]
        },
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
    json.codec().validate().map_err(VibeVoiceError::from)?;
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
    let format = tokenizer_format();
    load(config.init(device), folder, &format, WeightType::Float32)
}

/// Reads and checks `folder/config.json` of a whole speech model in either format. The original's needs
/// `tokenizer.json` in the folder, which has the ids of tokens.
///
/// # Errors
/// If a file can't be read, lacks a key, or describes something that this crate does not have.
pub fn read_vibevoice_config(folder: &Path) -> Result<VibeVoiceJson, PretrainedError> {
    read_vibevoice_config_with(folder, None)
}

/// [`read_vibevoice_config`] with the path of a `tokenizer.json` outside the folder. The tokenizer is read only if
/// `config.json` has no ids of tokens.
///
/// # Errors
/// As [`read_vibevoice_config`].
pub fn read_vibevoice_config_with(
    folder: &Path,
    tokenizer: Option<&Path>,
) -> Result<VibeVoiceJson, PretrainedError> {
    let published = Published::read(folder)?.expect(Member::Speech)?;
    let Published {
        dialect,
        config,
        path,
        ..
    } = published;
    let json: VibeVoiceJson = match dialect {
        Dialect::Original => {
            let tokens = original::speech_tokens(&find_tokenizer(folder, tokenizer)?)?;
            original::speech(config, tokens, &path)?
        }
        Dialect::Transformers => {
            serde_json::from_value(config).map_err(|error| json_error(&path, error))?
        }
    };
    if let Some(reason) = json.unsupported() {
        return Err(PretrainedError::Unsupported { path, reason });
    }
    json.model().validate()?;
    Ok(json)
}

/// Loads a whole VibeVoice model from a folder in either format: as `transformers` saves it, or as the original
/// repository published it, with a `tokenizer.json` beside. Weights become float32.
///
/// # Errors
/// If a file can't be read, the architecture is not supported, or a tensor is missing, unknown or
/// of another shape.
pub fn load_vibevoice(folder: &Path, device: &Device) -> Result<VibeVoice, PretrainedError> {
    let json = read_vibevoice_config(folder)?;
    load_vibevoice_weights(folder, &json, WeightType::Float32, device)
}

/// [`load_vibevoice`] with a configuration that was read before, and with a type for the weights.
///
/// # Errors
/// As [`load_vibevoice`].
pub fn load_vibevoice_weights(
    folder: &Path,
    json: &VibeVoiceJson,
    weights: WeightType,
    device: &Device,
) -> Result<VibeVoice, PretrainedError> {
    let published = Published::read(folder)?.expect(Member::Speech)?;
    let config = json.model();
    config.validate()?;
    refuse_parts_of_models(folder, published.dialect)?;
    check_claim(folder, config.parameter_count(device), CONFIG)?;
    let format = vibevoice_format(json, published.dialect);
    load(config.init(device), folder, &format, weights)
}

/// Refuses a folder that lacks an encoder, before a weight is read.
fn refuse_parts_of_models(folder: &Path, dialect: Dialect) -> Result<(), PretrainedError> {
    let [acoustic, semantic] = match dialect {
        Dialect::Original => ["acoustic_tokenizer.encoder.", "semantic_tokenizer.encoder."],
        Dialect::Transformers => ["audio_tower.encoder.", "semantic_tokenizer_encoder."],
    };
    let contents = if gguf::is_gguf(folder) {
        Contents::of_names(gguf::tensor_names(folder)?)
    } else {
        contents(folder)?
    };
    for (what, encoder, task) in [
        ("acoustic", acoustic, "reads voices"),
        ("semantic", semantic, "hears what was said"),
    ] {
        if !contents.has(encoder) {
            return Err(PretrainedError::Unsupported {
                path: folder.to_owned(),
                reason: format!(
                    "its weights lack the {what} encoder (`{encoder}`), which {task}: it is a part of a model, such as \
                     a fine-tune that left it out; add the encoder of the model it was made from"
                ),
            });
        }
    }
    Ok(())
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
    let format = vibevoice_format(json, Dialect::Transformers);
    save_folder(model, json, folder, dtype, &format)
}

/// Writes `config.json` and `model.safetensors`, both or neither.
fn save_folder<M: Module>(
    module: &M,
    json: &impl Serialize,
    folder: &Path,
    dtype: StoredDType,
    format: &Format,
) -> Result<(), PretrainedError> {
    let writer = BundleWriter::begin_alone(folder)?;
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
