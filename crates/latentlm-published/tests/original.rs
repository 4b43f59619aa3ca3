//! The original repository's format, folders of random weights in both formats, and what is said of files that
//! are not whole. That the numbers agree is `latentlm-verify`'s business.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::ModuleSnapshot;
use burn::store::bridge::to_data;
use burn::tensor::{Device, TensorData};
use latentlm_published::{
    Dialect, Member, PretrainedError, RandomOptions, RandomSizes, StoredDType, WeightType,
    load_asr, load_realtime, load_vibevoice, load_vibevoice_weights, make_random, read_asr_config,
    read_realtime_config, read_vibevoice_config, read_vibevoice_config_with, save_vibevoice,
};
use latentlm_vibevoice::{SpeechTokens, VibeVoice};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::{Value, json};

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join(name)
}

fn load(folder: &Path) -> Result<VibeVoice, PretrainedError> {
    load_vibevoice(folder, &Device::default())
}

fn refusal(folder: &Path) -> String {
    load(folder).unwrap_err().to_string()
}

/// All parameters by name.
fn parameters<M: Module>(model: &M) -> BTreeMap<String, TensorData> {
    let tensors = model.collect(None, None, true);
    let named = |t: burn::store::burn_pack::Tensor| (t.name.clone(), to_data(&t).unwrap());
    tensors.into_iter().map(named).collect()
}

/// A copy of a fixture's files, but for inputs and outputs of a run.
fn copied(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn change_json(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut json = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut json);
    fs::write(path, json.to_string()).unwrap();
}

/// A tensor on its way into a file: shape, bytes.
type Raw = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

/// Changes the tensors of a file of float32 weights.
fn change_weights(path: &Path, change: impl FnOnce(Raw) -> Raw) {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut raw = Raw::new();
    for (name, view) in file.tensors() {
        raw.insert(name, (view.shape().to_vec(), view.data().to_vec()));
    }
    let changed = change(raw);
    let views = changed.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// One model, saved in both formats. Reading the original's gives what `transformers` would save.
#[test]
fn both_formats_are_one_model() {
    let (original, modern) = (
        fixture("vibevoice-original-two"),
        fixture("vibevoice-generation-two"),
    );
    let (original, modern) = (load(&original).unwrap(), load(&modern).unwrap());
    assert_eq!(parameters(&original), parameters(&modern));
    assert_eq!(original.speech_tokens(), modern.speech_tokens());
    let [original_json, modern_json] = ["vibevoice-original-two", "vibevoice-generation-two"]
        .map(|name| read_vibevoice_config(&fixture(name)).unwrap());
    // Noise of the semantic encoder's latents, which are never drawn, is none in one format.
    let mut semantic = original_json.semantic_model_config.codec();
    semantic.vae_std = modern_json.semantic_model_config.vae_std;
    assert_eq!(semantic, modern_json.semantic_model_config.codec());
    let codec = original_json.audio_config.codec();
    assert_eq!(codec, modern_json.audio_config.codec());

    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("saved");
    save_vibevoice(&original, &original_json, &saved, StoredDType::Float32).unwrap();
    assert_eq!(parameters(&load(&saved).unwrap()), parameters(&modern));
}

/// Names that other versions of `transformers` write, and a softmax head that is the embedding's table.
#[test]
fn other_spellings_are_read() {
    let dir = copied("vibevoice-generation-tied");
    change_weights(&dir.path().join("model.safetensors"), |raw| {
        let mut changed = Raw::new();
        for (name, tensor) in raw {
            let name = name
                .replace("timestep_proj.fc1", "timestep_embedder.layer_1")
                .replace("timestep_proj.fc2", "timestep_embedder.layer_2")
                .replace("model.language_model.", "language_model.model.")
                .replace("model.audio_tower.", "audio_tower.");
            if name == "language_model.model.embed_tokens.weight" {
                changed.insert("lm_head.weight".into(), tensor.clone());
            }
            changed.insert(name, tensor);
        }
        changed
    });
    let expected = load(&fixture("vibevoice-generation-tied")).unwrap();
    assert_eq!(
        parameters(&load(dir.path()).unwrap()),
        parameters(&expected)
    );
}

/// The original has no ids of tokens: they are those of the vocabulary, wherever that lies.
#[test]
fn tokens_are_those_of_the_vocabulary() {
    let dir = copied("vibevoice-original-two");
    let own = dir.path().join("tokenizer.json");
    let elsewhere = dir.path().join("elsewhere.json");
    fs::rename(&own, &elsewhere).unwrap();
    let message = refusal(dir.path());
    let part = "tokenizer.json is missing: fetch the tokenizer.json of Qwen/Qwen2.5-1.5B";
    assert!(message.contains(part), "{message}");
    let json = read_vibevoice_config_with(dir.path(), Some(&elsewhere)).unwrap();
    let device = Device::default();
    let model = load_vibevoice_weights(dir.path(), &json, WeightType::Float32, &device).unwrap();
    let expected = load(&fixture("vibevoice-original-two")).unwrap();
    assert_eq!(model.speech_tokens(), expected.speech_tokens());
    fs::write(&own, r#"{"added_tokens": []}"#).unwrap();
    let message = refusal(dir.path());
    assert!(message.contains("no token `<|vision_start|>`"), "{message}");
}

#[test]
fn unsupported_variants_of_the_original_are_refused() {
    let text = fs::read_to_string(fixture("vibevoice-original-two").join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let acoustic = "/acoustic_tokenizer_config";
    let head = "/diffusion_head_config";
    let dir = copied("vibevoice-original-two");
    // No weight is read: there are none.
    for shard in ["model-00001-of-00002", "model-00002-of-00002"] {
        fs::remove_file(dir.path().join(format!("{shard}.safetensors"))).unwrap();
    }
    for (part, key, value) in [
        (acoustic, "mixer_layer", json!("conv")),
        (acoustic, "layernorm", json!("LN")),
        (acoustic, "disable_last_norm", json!(false)),
        (acoustic, "conv_norm", json!("weight_norm")),
        (acoustic, "causal", json!(false)),
        (acoustic, "pad_mode", json!("reflect")),
        (acoustic, "corpus_normalize", json!(0.5)),
        (acoustic, "decoder_depths", json!("1-1-1-2")),
        (acoustic, "encoder_depths", json!("1-a")),
        ("/semantic_tokenizer_config", "conv_bias", json!(false)),
        (head, "prediction_type", json!("epsilon")),
        (head, "ddpm_beta_schedule", json!("linear")),
        (
            "/decoder_config",
            "rope_scaling",
            json!({ "rope_type": "yarn" }),
        ),
    ] {
        let mut changed = config.clone();
        changed.pointer_mut(part).unwrap()[key] = value;
        fs::write(dir.path().join("config.json"), changed.to_string()).unwrap();
        let message = refusal(dir.path());
        let key = if key == "encoder_depths" {
            "depths"
        } else {
            key
        };
        assert!(message.contains(key), "`{key}` in {message}");
        assert!(message.contains("config.json"), "{message}");
    }
    let mut lacking = config.clone();
    lacking["acoustic_tokenizer_config"]
        .as_object_mut()
        .unwrap()
        .remove("vae_dim");
    fs::write(dir.path().join("config.json"), lacking.to_string()).unwrap();
    assert!(refusal(dir.path()).contains("missing field `vae_dim`"));
}

/// What is said of a shard that is not whole: which, what, bytes there and wanted.
#[test]
fn shards_that_are_not_whole_are_named() {
    let name = "model-00002-of-00002.safetensors";
    let dir = copied("vibevoice-original-two");
    let path = dir.path().join(name);
    let bytes = fs::read(&path).unwrap();
    let told = |parts: &[&str]| {
        let message = refusal(dir.path());
        for part in [&[name][..], parts].concat() {
            assert!(message.contains(part), "`{part}` in {message}");
        }
    };
    let wanted = format!("{} are wanted", bytes.len());
    fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    let there = format!("is cut: {} bytes are there", bytes.len() - 10);
    told(&[there.as_str(), wanted.as_str()]);
    fs::write(&path, &bytes[..100]).unwrap();
    told(&["is cut: 100 bytes are there, at least"]);
    fs::write(&path, b"").unwrap();
    told(&["is empty: 0 bytes are there, at least"]);
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
        "0".repeat(64),
        bytes.len()
    );
    fs::write(&path, pointer).unwrap();
    told(&["is a Git LFS pointer", wanted.as_str()]);
    fs::remove_file(&path).unwrap();
    // The index tells the bytes of all tensors; the other file has the rest.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let data = format!("at least {} are wanted", bytes.len() - 8 - header);
    told(&["is missing: 0 bytes are there", data.as_str()]);
}

/// As in the hub's cache, where all files are links.
#[cfg(unix)]
#[test]
fn links_are_followed() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let blobs = dir.path().join("blobs");
    let snapshot = dir.path().join("snapshots");
    fs::create_dir(&blobs).unwrap();
    fs::create_dir(&snapshot).unwrap();
    for entry in fs::read_dir(fixture("vibevoice-original-two")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        fs::copy(&path, blobs.join(name)).unwrap();
        symlink(Path::new("../blobs").join(name), snapshot.join(name)).unwrap();
    }
    let expected = load(&fixture("vibevoice-original-two")).unwrap();
    let linked = load(&snapshot).unwrap();
    assert_eq!(parameters(&linked), parameters(&expected));
    fs::remove_file(blobs.join("model-00001-of-00002.safetensors")).unwrap();
    let message = refusal(&snapshot);
    assert!(message.contains("is a link to ../blobs/"), "{message}");
}

#[test]
fn a_fine_tune_without_encoder_is_refused() {
    let modern = "vibevoice-generation-tied";
    let original = "vibevoice-original-two";
    for (name, encoder, part) in [
        (modern, "acoustic", "audio_tower.encoder."),
        (modern, "semantic", "semantic_tokenizer_encoder."),
        (original, "acoustic", "acoustic_tokenizer.encoder."),
        (original, "semantic", "semantic_tokenizer.encoder."),
    ] {
        let dir = copied(name);
        for entry in fs::read_dir(dir.path()).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy();
            if file.starts_with("model") && file.ends_with(".safetensors") {
                change_weights(&path, |mut raw| {
                    raw.retain(|name, _| !name.contains(part));
                    raw
                });
            }
        }
        let message = refusal(dir.path());
        let lacking = format!("lack the {encoder} encoder (`{part}`)");
        assert!(message.contains(&lacking), "{message}");
    }
}

#[test]
fn a_model_that_recognizes_does_not_speak() {
    let dir = copied("vibevoice-original-two");
    change_json(&dir.path().join("config.json"), |config| {
        config["architectures"] = json!(["VibeVoiceForASRTraining"]);
    });
    let message = refusal(dir.path());
    assert!(message.contains("recognizes speech"), "{message}");
}

fn tiny() -> RandomSizes {
    RandomSizes {
        width: 24,
        depth: 2,
        heads: 4,
        kv_heads: 2,
        inner: 40,
        vocabulary: 40,
        context: 64,
        head_layers: 1,
        filters: 4,
        ratios: vec![2, 3],
        depths: vec![1, 2, 1],
        acoustic_dim: 6,
        semantic_dim: 5,
        tokens: SpeechTokens {
            start: 30,
            stop: 31,
            audio: 32,
            end: 33,
        },
        ..RandomSizes::speech_1_5b()
    }
}

fn vocabulary(folder: &Path) {
    let mut added = Vec::new();
    for (id, content) in [
        (30, "<|vision_start|>"),
        (31, "<|vision_end|>"),
        (32, "<|vision_pad|>"),
        (33, "<|endoftext|>"),
    ] {
        added.push(json!({ "id": id, "content": content }));
    }
    let text = json!({ "added_tokens": added }).to_string();
    fs::write(folder.join("tokenizer.json"), text).unwrap();
}

/// What is made can be loaded, in either format, in one file or several, tied or not.
#[test]
fn random_weights_make_a_model() {
    let dir = tempfile::tempdir().unwrap();
    for (index, (dialect, dtype, tied, shard_bytes)) in [
        (Dialect::Original, StoredDType::Bfloat16, true, 20_000),
        (Dialect::Original, StoredDType::Float32, false, u64::MAX),
        (Dialect::Transformers, StoredDType::Bfloat16, true, u64::MAX),
        (Dialect::Transformers, StoredDType::Float16, false, 20_000),
    ]
    .into_iter()
    .enumerate()
    {
        let folder = dir.path().join(index.to_string());
        let sizes = RandomSizes { tied, ..tiny() };
        let options = RandomOptions {
            dialect,
            dtype,
            seed: 3,
            shard_bytes,
        };
        let made = make_random(&sizes, &folder, options).unwrap();
        assert_eq!(made.files > 1, shard_bytes < u64::MAX, "{made:?}");
        if dialect == Dialect::Transformers {
            // It takes nothing but an integer here.
            let config = fs::read_to_string(folder.join("config.json")).unwrap();
            assert!(
                config.contains("\"diffusion_max_period\": 10000,"),
                "{config}"
            );
        }
        vocabulary(&folder);
        let model = load(&folder).unwrap();
        let tensors = parameters(&model);
        let count: usize = tensors
            .values()
            .map(|data| data.shape().iter().product::<usize>())
            .sum();
        // The semantic connector's whitening is not in the files.
        assert_eq!(count as u64, made.parameters + 2);
        let tokens = model.speech_tokens();
        assert_eq!((tokens.start, tokens.end), (30, 33));
        let scale = &tensors["lm.latents.0.whitening.scale"];
        assert!((scale.iter::<f32>().next().unwrap() - 0.2).abs() < 1e-3);
        // Uniform numbers with a variance of one over the inputs.
        let table = &tensors["lm.tokens.table.weight"];
        let squares: f32 = table.iter::<f32>().map(|x| x * x).sum();
        let variance = squares / (40.0 * 24.0);
        assert!((variance * 24.0 - 1.0).abs() < 0.2, "{variance}");
        let again = dir.path().join(format!("{index}-again"));
        make_random(&sizes, &again, options).unwrap();
        vocabulary(&again);
        assert_eq!(parameters(&load(&again).unwrap()), tensors);
    }
}

/// Numbers of a tensor.
fn numbers(data: &TensorData) -> Vec<f32> {
    data.iter::<f32>().collect()
}

/// Random weights of the models that say no dialogues: what is made can be loaded as what it is, and as nothing
/// else.
#[test]
fn random_weights_make_the_other_members() {
    let dir = tempfile::tempdir().unwrap();
    let device = Device::default();
    let options = RandomOptions {
        dtype: StoredDType::Float32,
        shard_bytes: 20_000,
        ..RandomOptions::default()
    };

    let realtime = RandomSizes {
        member: Member::Realtime,
        upper_depth: 1,
        ..tiny()
    };
    let speaks = dir.path().join("realtime");
    let made = make_random(&realtime, &speaks, options).unwrap();
    assert!(made.files > 1, "{made:?}");
    let model = load_realtime(&speaks, WeightType::Float32, &device).unwrap();
    assert_eq!((model.hop_samples(), model.vocabulary()), (6, 40));
    let tensors = parameters(&model);
    let count: usize = tensors.values().map(|data| numbers(data).len()).sum();
    assert_eq!(count as u64, made.parameters);
    assert_eq!(numbers(&tensors["latents.whitening.scale"]), [0.2]);
    assert_eq!(numbers(&tensors["latents.whitening.bias"]), [-0.05]);
    let config = read_realtime_config(&speaks).unwrap();
    assert_eq!(config.max_positions(), Some(64));
    let model = config.model();
    assert_eq!((model.backbone.depth, model.speech_depth), (2, 1));

    let recognition = RandomSizes {
        member: Member::Recognition,
        tied: false,
        ..tiny()
    };
    let hears = dir.path().join("recognition");
    let made = make_random(&recognition, &hears, options).unwrap();
    let model = load_asr(&hears, WeightType::Float32, &device).unwrap();
    assert_eq!(model.hop_samples(), 6);
    // Whitening of both connectors is ours alone; the decoder in the files is left out.
    let decoder = read_asr_config(&hears).unwrap().model().acoustic;
    let decoder = decoder.decoder_parameter_count();
    let count: usize = parameters(&model)
        .values()
        .map(|data| numbers(data).len())
        .sum();
    assert_eq!((count + decoder) as u64, made.parameters + 4);
    assert_eq!(read_asr_config(&hears).unwrap().max_positions(), 64);

    for (folder, part) in [
        (&speaks, "speaks with saved voices"),
        (&hears, "recognizes speech"),
    ] {
        let message = refusal(folder);
        assert!(message.contains(part), "{message}");
    }
    let message = load_asr(&speaks, WeightType::Float32, &device)
        .unwrap_err()
        .to_string();
    assert!(message.contains("wanted is VibeVoice-ASR"), "{message}");
    let message = load_realtime(&hears, WeightType::Float32, &device)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("wanted is VibeVoice-Realtime"),
        "{message}"
    );
}

/// `transformers` has no Realtime, and recognition is made in the original's format alone.
#[test]
fn other_members_are_made_in_the_originals_format() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("none");
    let options = RandomOptions {
        dialect: Dialect::Transformers,
        ..RandomOptions::default()
    };
    for member in [Member::Realtime, Member::Recognition] {
        let sizes = RandomSizes {
            member,
            upper_depth: 1,
            ..tiny()
        };
        let message = make_random(&sizes, &folder, options).unwrap_err();
        let part = "is made in the original's format only";
        assert!(message.to_string().contains(part), "{message}");
        assert!(!folder.exists());
    }
}
