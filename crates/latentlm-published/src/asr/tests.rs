//! Both formats of recognition, and configurations of other models.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use burn::store::ModuleSnapshot;
use burn::store::bridge::to_data;
use burn::tensor::TensorData;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use super::*;
use crate::naming::check_round_trip;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vibevoice-asr-one")
}

fn config() -> Value {
    let text = fs::read_to_string(shipped().join(CONFIG)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Refused configurations, with why.
fn refusal(config: &Value) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CONFIG), config.to_string()).unwrap();
    read_asr_config(dir.path()).unwrap_err().to_string()
}

fn parameters(model: &VibeVoiceAsr) -> BTreeMap<String, TensorData> {
    let tensors = model.collect(None, None, true);
    let named = |t: burn::store::burn_pack::Tensor| (t.name.clone(), to_data(&t).unwrap());
    tensors.into_iter().map(named).collect()
}

/// The shipped weights under other names, with some more, in a folder of their own.
fn renamed(config: &Value, more: &[&str], name_of: impl Fn(&str) -> String) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(CONFIG), config.to_string()).unwrap();
    let bytes = fs::read(shipped().join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let zeros = [0_u8; 8];
    let mut views: Vec<(String, TensorView<'_>)> = Vec::new();
    for (name, view) in file.tensors() {
        views.push((name_of(&name), view));
    }
    for name in more {
        let view = TensorView::new(Dtype::F32, vec![2], &zeros).unwrap();
        views.push(((*name).to_owned(), view));
    }
    let path = dir.path().join("model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    dir
}

#[test]
fn every_parameter_has_a_name_in_both_formats() {
    let json = read_asr_config(&shipped()).unwrap();
    let model = json.model().init(&Device::default());
    for dialect in [Dialect::Original, Dialect::Transformers] {
        let format = format(&json, dialect);
        check_round_trip(&model, &format.naming, format.own);
    }
}

/// The shipped configuration as the original repository writes it.
fn original_config() -> Value {
    let config = config();
    let encoder = |key: &str, fix_std: f64| {
        let config = &config[key];
        json!({
            "vae_dim": config["hidden_size"],
            "fix_std": fix_std,
            "encoder_n_filters": config["num_filters"],
            "encoder_ratios": [5, 4, 2],
            "encoder_depths": "1-1-1-1",
            "layernorm_eps": config["rms_norm_eps"],
            "layer_scale_init_value": config["layer_scale_init_value"],
            "mixer_layer": "depthwise_conv",
            "corpus_normalize": 0,
        })
    };
    json!({
        "architectures": ["VibeVoiceForASRTraining"],
        "model_type": "vibevoice",
        "acoustic_tokenizer_config": encoder("acoustic_tokenizer_encoder_config", 0.5),
        "semantic_tokenizer_config": encoder("semantic_tokenizer_encoder_config", 0.0),
        "decoder_config": config["text_config"],
        "diffusion_head_config": { "head_layers": 4 },
    })
}

/// A name of the shipped weights as the original repository has it, by the table of the specification.
fn original_name(name: &str) -> String {
    let mut name = name.to_owned();
    for part in ["acoustic", "semantic"] {
        let encoder = format!("{part}_tokenizer_encoder.");
        if let Some(rest) = name.strip_prefix(&encoder) {
            return format!("model.{part}_tokenizer.encoder.{}", original_layer(rest));
        }
        for (theirs, original) in [("linear_1", "fc1"), ("norm", "norm"), ("linear_2", "fc2")] {
            let theirs = format!("multi_modal_projector.{part}_{theirs}");
            name = name.replace(&theirs, &format!("model.{part}_connector.{original}"));
        }
    }
    name.replace("language_model.model", "model.language_model")
        .replace("language_model.lm_head", "lm_head")
}

fn original_layer(name: &str) -> String {
    let (resolution, rest) = match name.strip_prefix("conv_layers.") {
        Some(rest) => {
            let (stage, rest) = rest.split_once('.').unwrap();
            (stage.parse::<usize>().unwrap() + 1, rest)
        }
        None => (0, name.strip_prefix("stem.").unwrap_or(name)),
    };
    if let Some(rest) = rest.strip_prefix("conv.conv.") {
        format!("downsample_layers.{resolution}.0.conv.conv.{rest}")
    } else if let Some(rest) = rest.strip_prefix("stage.") {
        let rest = rest.replace("mixer.conv", "mixer.conv.conv.conv");
        format!("stages.{resolution}.{rest}")
    } else {
        rest.replace("head.conv", "head.conv.conv")
    }
}

#[test]
fn the_originals_folder_has_the_same_model() {
    let unused = [
        "model.acoustic_tokenizer.decoder.head.conv.conv.weight",
        "model.prediction_head.cond_proj.weight",
        "model.speech_bias_factor",
    ];
    let device = Device::default();
    let expected = load_asr(&shipped(), WeightType::Float32, &device).unwrap();
    let dir = renamed(&original_config(), &unused, original_name);
    let loaded = load_asr(dir.path(), WeightType::Float32, &device).unwrap();
    assert_eq!(parameters(&loaded), parameters(&expected));
    let (json, dialect) = read(dir.path()).unwrap();
    assert_eq!(dialect, Dialect::Original);
    let config = json.model();
    assert_eq!(config.acoustic.ratios, [2, 4, 5]);
    assert_eq!(
        (config.acoustic.vae_std, config.semantic.vae_std),
        (0.625, 0.0)
    );
    assert_eq!(config.piece_samples, 1_440_000);

    let unknown = ["model.acoustic_tokenizer.decoders.weight"];
    let dir = renamed(&original_config(), &unknown, original_name);
    let message = load_asr(dir.path(), WeightType::Float32, &device)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("unknown `model.acoustic_tokenizer.decoders"),
        "{message}"
    );
}

#[test]
fn names_with_their_model_in_front_are_read() {
    let longer = |name: &str| match name {
        "language_model.lm_head.weight" => "lm_head.weight".to_owned(),
        name => format!(
            "model.{}",
            name.replace("language_model.model", "language_model")
        ),
    };
    let device = Device::default();
    let dir = renamed(&config(), &[], longer);
    let loaded = load_asr(dir.path(), WeightType::Float32, &device).unwrap();
    let expected = load_asr(&shipped(), WeightType::Float32, &device).unwrap();
    assert_eq!(parameters(&loaded), parameters(&expected));
}

#[test]
fn other_models_are_refused_by_what_they_are() {
    let with = |key: &str, value: Value| {
        let mut config = config();
        config[key] = value;
        refusal(&config)
    };
    for (key, value, part) in [
        (
            "architectures",
            json!(["VibeVoiceForASRStreamingTraining"]),
            "VibeVoice-ASR-Streaming",
        ),
        (
            "architectures",
            json!(["VibeVoiceForConditionalGeneration"]),
            "speaks",
        ),
        ("architectures", json!(["Qwen2"]), "`Qwen2` is no model"),
        (
            "quantization_config",
            json!({ "bits": 4 }),
            "weights are quantized",
        ),
        ("audio_token_id", json!(332), "audio_token_id 332"),
    ] {
        let message = with(key, value);
        assert!(message.contains(part), "`{part}` in {message}");
    }
    let mut config = original_config();
    config["acoustic_tokenizer_config"]["causal"] = json!(false);
    let message = refusal(&config);
    assert!(
        message.contains("acoustic_tokenizer_config: causal false"),
        "{message}"
    );
    config["acoustic_tokenizer_config"] = json!({});
    assert!(refusal(&config).contains("missing field `vae_dim`"));
}

#[test]
fn tokens_come_from_the_folder_or_the_tokenizer() {
    let json = read_asr_config(&shipped()).unwrap();
    let generation = json!({ "eos_token_id": [320, 322] });
    let tokens = json.tokens(&generation, |_| None).unwrap();
    assert_eq!((tokens.begin, tokens.audio, tokens.close), (323, 325, 324));
    assert_eq!(tokens.ends, [320, 322]);
    let refused = json.tokens(&Value::Null, |_| None).unwrap_err();
    assert!(refused.to_string().contains("`<|endoftext|>`"), "{refused}");
    let bare = AsrJson {
        audio_bos_token_id: None,
        ..json
    };
    let id_of = |name: &str| u32::try_from(name.len()).ok();
    let tokens = bare.tokens(&json!({ "eos_token_id": 7 }), id_of).unwrap();
    assert_eq!((tokens.begin, tokens.audio), (20, 325));
    assert_eq!(tokens.ends, [7]);
    assert_eq!(bare.tokens(&Value::Null, id_of).unwrap().ends, [13]);
    assert_eq!(bare.max_positions(), 512);
}
