//! Published checkpoints: in shards, in half precision, out again, and what is said of bad ones.
//! That the numbers agree is `latentlm-verify`'s business.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::store::ModuleSnapshot;
use burn::store::bridge::to_data;
use burn::tensor::{DType, Device, TensorData, bf16};
use latentlm_published::{
    PretrainedError, StoredDType, WeightType, load_vibevoice, load_vibevoice_weights,
    read_vibevoice_config, save_vibevoice,
};
use latentlm_vibevoice::VibeVoice;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vibevoice-small")
}

fn load(folder: &Path) -> Result<VibeVoice, PretrainedError> {
    load_vibevoice(folder, &Device::default())
}

/// All parameters by name.
fn parameters(model: &VibeVoice) -> BTreeMap<String, TensorData> {
    let tensors = model.collect(None, None, true);
    let named = |t: burn::store::burn_pack::Tensor| (t.name.clone(), to_data(&t).unwrap());
    tensors.into_iter().map(named).collect()
}

/// A tensor on its way into a file: shape, bytes.
type Raw = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn read_raw(folder: &Path) -> Raw {
    let bytes = fs::read(folder.join("model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let raw = |(name, view): (String, TensorView<'_>)| {
        (name, (view.shape().to_vec(), view.data().to_vec()))
    };
    file.tensors().into_iter().map(raw).collect()
}

fn write_raw(raw: &Raw, path: &Path) {
    let views = raw.iter().map(|(name, (shape, bytes))| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.clone(), view)
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

/// The shipped model with its weights changed, in a folder of its own.
fn changed(change: impl FnOnce(&mut Raw)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = shipped().join("config.json");
    fs::copy(config, dir.path().join("config.json")).unwrap();
    let mut raw = read_raw(&shipped());
    change(&mut raw);
    write_raw(&raw, &dir.path().join("model.safetensors"));
    dir
}

#[test]
fn shards_are_one_checkpoint() {
    let dir = changed(|_| ());
    let mut raw = read_raw(dir.path());
    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    let middle = raw.keys().nth(raw.len() / 2).unwrap().clone();
    let second = raw.split_off(&middle);
    let mut map = serde_json::Map::new();
    for (part, name) in [(&raw, "a.safetensors"), (&second, "b.safetensors")] {
        write_raw(part, &dir.path().join(name));
        map.extend(part.keys().map(|key| (key.clone(), name.into())));
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": map });
    let index_path = dir.path().join("model.safetensors.index.json");
    fs::write(&index_path, index.to_string()).unwrap();
    let model = load(dir.path()).unwrap();
    assert_eq!(parameters(&model), parameters(&load(&shipped()).unwrap()));

    fs::remove_file(dir.path().join("b.safetensors")).unwrap();
    let message = load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("b.safetensors"), "{message}");
    fs::write(&index_path, "{}").unwrap();
    let message = load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("weight_map"), "{message}");
}

/// What goes out in a type comes in as that type rounds it, and goes out the same again.
#[test]
fn every_type_makes_the_round_trip() {
    let json = read_vibevoice_config(&shipped()).unwrap();
    let model = load(&shipped()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (dtype, bits) in [
        (StoredDType::Float32, 24),
        (StoredDType::Float16, 11),
        (StoredDType::Bfloat16, 8),
    ] {
        let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
        save_vibevoice(&model, &json, &first, dtype).unwrap();
        let rounded = load(&first).unwrap();
        for (name, expected) in parameters(&model) {
            let got = parameters(&rounded).remove(&name).unwrap();
            for (a, b) in got.iter::<f32>().zip(expected.iter::<f32>()) {
                // Half a unit in the last place; small numbers of float16 are denormal.
                let bound = (b.abs() * 0.5f32.powi(bits)).max(3e-8);
                assert!((a - b).abs() <= bound, "{dtype:?} {name}: {a} {b}");
            }
        }
        save_vibevoice(&rounded, &json, &second, dtype).unwrap();
        for file in ["model.safetensors", "config.json"] {
            let [a, b] = [&first, &second].map(|folder| fs::read(folder.join(file)).unwrap());
            assert_eq!(a, b, "{dtype:?} {file}");
        }
        let config = fs::read_to_string(first.join("config.json")).unwrap();
        assert!(config.contains(&format!("\"dtype\": \"{}\"", dtype.name())));
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let query = "model.language_model.layers.1.self_attn.q_proj.weight";
    let stem = "model.audio_tower.encoder.stem.conv.conv.weight";
    let cases: [(tempfile::TempDir, &[&str]); 6] = [
        (changed(|raw| drop(raw.remove(stem))), &["lacks", stem]),
        (changed(|raw| drop(raw.remove(query))), &["lacks", query]),
        (
            changed(|raw| {
                let theirs = "model.diffusion_head.timestep_proj.fc1.weight";
                let other = "model.diffusion_head.timestep_embedder.layer_1.weight";
                let twin = raw[theirs].clone();
                raw.insert(other.into(), twin);
            }),
            &["has `model.diffusion_head.timestep_proj.fc1.weight` twice"],
        ),
        (
            changed(|raw| drop(raw.insert("model.extra.weight".into(), (vec![1], vec![0; 4])))),
            &["unknown", "model.extra.weight"],
        ),
        (
            changed(|raw| drop(raw.insert(stem.into(), (vec![4, 1, 5], vec![0; 80])))),
            &[stem, "the model wants"],
        ),
        (
            changed(|raw| drop(raw.insert(query.into(), (vec![2, 24], vec![0; 192])))),
            &["model.language_model.layers.1.self_attn", "q_proj"],
        ),
    ];
    for (dir, parts) in cases {
        let message = load(dir.path()).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "`{part}` in {message}");
        }
    }
}

/// A number that is none is told with its tensor, whether the tensor is placed as it is or turned first.
#[test]
fn weights_that_are_not_finite_are_named() {
    let device = Device::default();
    let json = read_vibevoice_config(&shipped()).unwrap();
    for name in [
        "model.language_model.layers.1.self_attn.k_proj.weight",
        "model.language_model.norm.weight",
        "model.language_model.embed_tokens.weight",
        "model.audio_tower.decoder.stem.conv.conv.weight",
        "model.latent_scaling_factor",
    ] {
        let dir = changed(|raw| {
            let bytes = &mut raw.get_mut(name).unwrap().1;
            let last = bytes.len() - 4;
            bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        });
        for weights in [WeightType::Float32, WeightType::Bfloat16] {
            let model = load_vibevoice_weights(dir.path(), &json, weights, &device);
            let message = model.unwrap_err().to_string();
            let part = format!(
                "model.safetensors: `{name}` can't be read: it has numbers that are not finite"
            );
            assert!(message.ends_with(&part), "{message}");
            assert_eq!(message.lines().count(), 1);
        }
    }
}

/// An architecture that is not ours is refused by name, before any weight is read.
#[test]
fn other_architectures_are_refused() {
    let text = fs::read_to_string(shipped().join("config.json")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (from, to, part) in [
        ("\"qwen2\"", "\"llama\"", "model_type `llama`"),
        ("\"gelu\"", "\"relu\"", "hidden_act `relu`"),
        ("\"default\"", "\"yarn\"", "rope_type `yarn`"),
        (
            "\"use_sliding_window\": false",
            "\"use_sliding_window\": true",
            "sliding",
        ),
        ("\"mlp_bias\": false", "\"mlp_bias\": true", "mlp_bias"),
        ("\"num_filters\"", "\"filters\"", "num_filters"),
        ("\"latent_size\": 6", "\"latent_size\": 7", "7 wide"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(dir.path().join("config.json"), text.replace(from, to)).unwrap();
        let message = load(dir.path()).unwrap_err().to_string();
        assert!(message.contains(part), "`{part}` in {message}");
    }
    fs::write(dir.path().join("config.json"), &text[..text.len() / 2]).unwrap();
    let message = load(dir.path()).unwrap_err().to_string();
    assert!(message.contains("config.json"), "{message}");
}

/// What is said of the shipped weights beside another `config.json`.
fn refused(config: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let weights = shipped().join("model.safetensors");
    fs::copy(weights, dir.path().join("model.safetensors")).unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    load(dir.path()).unwrap_err().to_string()
}

/// Files that once ended in a panic, an abort of the allocator or a model that can't be used.
#[test]
fn damaged_configurations_are_refused() {
    let crashes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/published");
    for (name, part) in [
        ("vv-0cb95b8f", "downsampling_ratios must be from 1 to 1024"),
        ("vv-0e095bf6", "semantic_model_config: kernel_size must be"),
        ("vv-0e7eb6f3", "hidden_size must be from 1 to 16384"),
        ("vv-219409e6", "audio_token_id 4000 is outside"),
        ("vv-28258cef", "num_filters must be from 1 to 65536"),
        ("vv-4752da7f", "channels must be from 1 to 64"),
        (
            "vv-4f847d14",
            "audio_config: kernel_size must be from 1 to 1024, not 2147483647",
        ),
        ("vv-57fa9df9", "not 18446744073709551615"),
    ] {
        let message = refused(&fs::read_to_string(crashes.join(name)).unwrap());
        assert!(message.contains(part), "{name}: `{part}` in {message}");
        assert!(message.contains("config.json"), "{name}: {message}");
    }
}

/// Each number has a range, and what is within the ranges is held against the size of the weights before a
/// model is made.
#[test]
fn absurd_sizes_are_refused() {
    let text = fs::read_to_string(shipped().join("config.json")).unwrap();
    let original: serde_json::Value = serde_json::from_str(&text).unwrap();
    let too_large = "model of its config.json needs";
    let bytes = fs::metadata(shipped().join("model.safetensors"));
    let size = format!("has {} bytes", bytes.unwrap().len());
    for (key, value, part) in [
        ("/text_config/num_hidden_layers", "1000000000", "to 4096"),
        ("/text_config/num_hidden_layers", "4096", too_large),
        ("/text_config/intermediate_size", "0", "intermediate_size"),
        ("/text_config/intermediate_size", "1048576", size.as_str()),
        ("/text_config/vocab_size", "0", "vocab_size"),
        ("/text_config/vocab_size", "4294967296", "vocab_size"),
        ("/text_config/vocab_size", "16000000", too_large),
        ("/text_config/rms_norm_eps", "0", "rms_norm_eps must be"),
        ("/text_config/rms_norm_eps", "-1e-6", "rms_norm_eps must be"),
        ("/text_config/num_attention_heads", "0", "attention_heads"),
        ("/text_config/num_key_value_heads", "0", "key_value_heads"),
        ("/text_config/hidden_size", "18446744073709551615", "hidden"),
        (
            "/text_config/rope_parameters/rope_theta",
            "0",
            "rope_theta must be",
        ),
        (
            "/diffusion_head_config/num_hidden_layers",
            "1000000000",
            "diffusion_head_config: num_hidden_layers",
        ),
        (
            "/diffusion_head_config/frequency_embedding_size",
            "0",
            "frequency_embedding_size",
        ),
        (
            "/diffusion_head_config/frequency_embedding_size",
            "255",
            "must be even",
        ),
        ("/diffusion_head_config/rms_norm_eps", "0", "rms_norm_eps"),
        ("/audio_config/rms_norm_eps", "0", "rms_norm_eps"),
        ("/audio_config/vae_std", "-1", "vae_std must be"),
        ("/audio_config/num_filters", "65536", too_large),
        ("/audio_config/depths", "[1, 1, 1000000000]", "depths must"),
        ("/audio_config/depths", "[1, 1, 1000]", too_large),
        ("/semantic_model_config/depths", "[1, 1, 1000]", too_large),
        ("/audio_token_id", "4294967295", "audio_token_id 4294967295"),
        ("/audio_bos_token_id", "40", "audio_bos_token_id 40"),
        ("/eos_token_id", "40", "eos_token_id 40"),
        ("/audio_token_id", "2", "must differ"),
    ] {
        let mut config = original.clone();
        *config.pointer_mut(key).unwrap() = serde_json::from_str(value).unwrap();
        let message = refused(&config.to_string());
        assert!(message.contains(part), "{key} {value}: {message}");
    }
    let mut config = original.clone();
    let many = serde_json::Value::from(vec![1; 70]);
    config["audio_config"]["downsampling_ratios"] = many;
    config["audio_config"]["depths"] = serde_json::Value::from(vec![1; 71]);
    let message = refused(&config.to_string());
    assert!(message.contains("has 70 numbers"), "{message}");
    let mut config = original;
    config["text_config"]["head_dim"] = serde_json::Value::from(u64::MAX);
    let message = refused(&config.to_string());
    assert!(message.contains("head_dim"), "{message}");
}

/// An index may name files of its folder alone, whether or not others exist.
#[test]
fn shards_outside_of_the_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, beside] = ["model", "beside"].map(|name| dir.path().join(name));
    for path in [&folder, &beside] {
        fs::create_dir(path).unwrap();
    }
    fs::copy(shipped().join("config.json"), folder.join("config.json")).unwrap();
    let weights = beside.join("a.safetensors");
    fs::copy(shipped().join("model.safetensors"), &weights).unwrap();
    let absolute = weights.to_str().unwrap();
    let index = folder.join("model.safetensors.index.json");
    for shard in [
        "../beside/a.safetensors",
        "x/../../beside/a.safetensors",
        "..",
        "",
        absolute,
    ] {
        let map = serde_json::json!({ "weight_map": { "a": shard } });
        fs::write(&index, map.to_string()).unwrap();
        let message = load(&folder).unwrap_err().to_string();
        let part = "outside of its folder: put it, or a link to it, into the folder, and name that";
        assert!(message.ends_with(part), "{message}");
        assert!(message.contains("index.json"), "{message}");
    }
    let parts = folder.join("parts");
    fs::create_dir(&parts).unwrap();
    fs::copy(&weights, parts.join("a.safetensors")).unwrap();
    let map = serde_json::json!({ "weight_map": { "a": "./parts/a.safetensors" } });
    fs::write(&index, map.to_string()).unwrap();
    assert_eq!(
        parameters(&load(&folder).unwrap()),
        parameters(&load(&shipped()).unwrap())
    );
}

/// What the user puts into the folder is the user's business: the hub's cache consists of links.
#[cfg(unix)]
#[test]
fn a_link_in_the_folder_leads_to_a_shard_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, beside] = ["model", "beside"].map(|name| dir.path().join(name));
    for path in [&folder, &beside] {
        fs::create_dir(path).unwrap();
    }
    fs::copy(shipped().join("config.json"), folder.join("config.json")).unwrap();
    let weights = beside.join("a.safetensors");
    fs::copy(shipped().join("model.safetensors"), &weights).unwrap();
    std::os::unix::fs::symlink(&weights, folder.join("b.safetensors")).unwrap();
    let map = serde_json::json!({ "weight_map": { "a": "b.safetensors" } });
    let index = folder.join("model.safetensors.index.json");
    fs::write(index, map.to_string()).unwrap();
    assert_eq!(
        parameters(&load(&folder).unwrap()),
        parameters(&load(&shipped()).unwrap())
    );
}

/// The values of float parameters of any type.
fn values(data: &TensorData) -> Vec<f32> {
    data.clone().convert::<f32>().try_to_vec().unwrap()
}

#[test]
fn matrices_stay_in_bfloat16() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("rounded");
    let json = read_vibevoice_config(&shipped()).unwrap();
    let whole = load(&shipped()).unwrap();
    save_vibevoice(&whole, &json, &folder, StoredDType::Bfloat16).unwrap();
    let in_float32 = parameters(&load(&folder).unwrap());
    let load_as = |folder: &Path, weights| {
        let model = load_vibevoice_weights(folder, &json, weights, &Device::default());
        parameters(&model.unwrap())
    };
    let stored = load_as(&folder, WeightType::Stored);
    let made = load_as(&shipped(), WeightType::Bfloat16);
    assert_eq!(stored.len(), in_float32.len());
    let mut kept = 0;
    for (name, expected) in &in_float32 {
        assert_eq!(values(&stored[name]), values(expected), "{name}");
        let is_matrix = stored[name].dtype() == DType::BF16;
        assert_eq!(made[name].dtype() == DType::BF16, is_matrix, "{name}");
        if is_matrix {
            // Rounded on loading as it was on writing.
            assert_eq!(values(&made[name]), values(expected), "{name}");
            kept += 1;
        }
    }
    for matrix in [
        "blocks.0.attn.qkv.weight",
        "tokens.table.weight",
        "linear_outer.weight",
    ] {
        let found = stored.iter().find(|(name, _)| name.ends_with(matrix));
        let (name, data) = found.unwrap_or_else(|| panic!("no {matrix}"));
        assert_eq!(data.dtype(), DType::BF16, "{name}");
    }
    for other in [
        "norm1.weight",
        "attn.qkv.bias",
        "stem.weight",
        "mixer.weight",
        // Small matrices of codecs.
        "codec.encoder.stages.0.conv.weight",
        "codec.decoder.layers.0.up.weight",
        "semantic.stages.1.conv.weight",
    ] {
        let found = stored.iter().find(|(name, _)| name.ends_with(other));
        let (name, data) = found.unwrap_or_else(|| panic!("no {other}"));
        assert_eq!(data.dtype(), DType::F32, "{name}");
    }
    assert!(kept > 10, "{kept} matrices");
    // A file in float32 has nothing to keep.
    let plain = load_as(&shipped(), WeightType::Stored);
    assert!(plain.values().all(|data| data.dtype() == DType::F32));
}

/// A model in float16 takes no more memory than its file: its matrices have 8 significant bits of 11. Float32 keeps all.
#[test]
fn float16_stays_as_small() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("halves");
    let json = read_vibevoice_config(&shipped()).unwrap();
    let whole = load(&shipped()).unwrap();
    save_vibevoice(&whole, &json, &folder, StoredDType::Float16).unwrap();
    let load_as = |weights| {
        let model = load_vibevoice_weights(&folder, &json, weights, &Device::default());
        parameters(&model.unwrap())
    };
    let (stored, exact) = (load_as(WeightType::Stored), load_as(WeightType::Float32));
    let made = load_as(WeightType::Bfloat16);
    let (mut kept, mut rounded) = (0, 0);
    for (name, data) in &stored {
        assert_eq!(data.dtype(), made[name].dtype(), "{name}");
        let expected = values(&exact[name]);
        if data.dtype() == DType::F32 {
            assert_eq!(values(data), expected, "{name}");
            continue;
        }
        kept += 1;
        for (number, exact) in values(data).into_iter().zip(expected) {
            assert_eq!(number, bf16::from_f32(exact).to_f32(), "{name}");
            rounded += usize::from(number != exact);
        }
    }
    assert!(
        kept > 10 && rounded > 0,
        "{kept} matrices, {rounded} numbers"
    );
}
