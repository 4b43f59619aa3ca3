//! Weights of 8 and 4 bits: made at load time, written into a folder, and what is said of bad ones. Which matrices of codecs
//! are bfloat16 beside them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, Tensor};
#[cfg(unix)]
use latentlm_core::disk::locked_folder;
use latentlm_core::{CausalBackbone, LatentCodec, RandomStream};
use latentlm_kernels::{linear, without_kernels};
use latentlm_published::{
    Dialect, RandomOptions, RandomSizes, StoredDType, WeightBits, WeightType, load_asr,
    load_vibevoice_weights, make_random, quantize_folder, read_vibevoice_config,
};
use latentlm_vibevoice::{SpeechTokens, VibeVoice, VibeVoiceAsr};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

const BOTH: [WeightBits; 2] = [WeightBits::Eight, WeightBits::Four];

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vibevoice-asr-one")
}

fn load(folder: &Path, weights: WeightType) -> VibeVoiceAsr {
    load_asr(folder, weights, &Device::default()).unwrap()
}

/// All parameters, by name: type and numbers. Those of a quantized one are what it multiplies with.
#[derive(Default)]
struct Parameters {
    path: Vec<String>,
    found: BTreeMap<String, (DType, Vec<f32>)>,
}

impl ModuleVisitor for Parameters {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = param.val();
        let dtype = value.dtype();
        let data = if let DType::QFloat(_) = dtype {
            let weight = Tensor::<2>::from_dispatch(value.into_dispatch());
            let one = Tensor::<2>::eye(weight.dims()[0], &weight.device());
            without_kernels(|| linear(one, weight, None)).into_data()
        } else {
            value.into_data()
        };
        let numbers = data.convert::<f32>().try_to_vec().unwrap();
        self.found.insert(self.path.join("."), (dtype, numbers));
    }
}

fn parameters<M: Module>(model: &M) -> BTreeMap<String, (DType, Vec<f32>)> {
    let mut parameters = Parameters::default();
    model.visit(&mut parameters);
    parameters.found
}

fn is_quantized(dtype: DType) -> bool {
    matches!(dtype, DType::QFloat(_))
}

#[test]
fn the_backbone_is_quantized() {
    let exact = parameters(&load(&shipped(), WeightType::Float32));
    for (bits, steps) in [(WeightBits::Eight, 254.0), (WeightBits::Four, 14.0)] {
        let made = parameters(&load(&shipped(), WeightType::Quantized(bits)));
        assert_eq!(made.len(), exact.len());
        for (name, (dtype, numbers)) in &made {
            let expected = &exact[name].1;
            let is_projection = name.starts_with("backbone.")
                && name.ends_with(".weight")
                && (name.contains("attn.") || name.contains("mlp."));
            assert_eq!(is_quantized(*dtype), is_projection, "{name}");
            if !is_projection {
                continue;
            }
            // Half a step of int8 is a 254th of a group's largest magnitude, of which the matrix's is none smaller. Half a
            // step of int4 is a 14th, and numbers that its scale cuts off are further away.
            let most = expected.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            let bound = 4.0 * most / steps;
            for (got, expected) in numbers.iter().zip(expected) {
                assert!((got - expected).abs() <= bound, "{name}: {got}, {expected}");
            }
        }
        for other in [
            "acoustic_connector.projection.weight",
            "tokens.table.weight",
        ] {
            assert_eq!(made[other].0, DType::BF16, "{other}");
        }
    }
}

/// Hidden states of the backbone. An int8 weight is off by about 1/254/sqrt(3) of its group's largest, which is about 2.5
/// times the others: 0.6 % of the weight; so is its input. An int4 weight is off by 16 times as much, 9 %. Six products
/// follow each other, and the residual stream keeps what was there.
#[test]
fn hidden_states_stay_near() {
    let x = RandomStream::new(5).normal([1, 7, 64], &Device::default());
    let hidden = |weights| {
        let model = load(&shipped(), weights);
        let hidden = model.backbone.forward(x.clone()).into_data();
        hidden.try_to_vec::<f32>().unwrap()
    };
    let exact = hidden(WeightType::Float32);
    for (bits, bound) in [(WeightBits::Eight, 0.04), (WeightBits::Four, 0.5)] {
        let got = hidden(WeightType::Quantized(bits));
        let differences: f32 = got.iter().zip(&exact).map(|(a, b)| (a - b).powi(2)).sum();
        let size: f32 = exact.iter().map(|x| x * x).sum();
        let error = (differences / size).sqrt();
        assert!(error > 0.0 && error < bound, "{bits:?}: {error}");
    }
}

#[test]
fn a_folder_has_what_loading_makes() {
    let dir = tempfile::tempdir().unwrap();
    for bits in BOTH {
        let folder = dir.path().join(format!("{bits:?}"));
        let done = quantize_folder(&shipped(), &folder, bits).unwrap();
        assert!(done.matrices >= 7 && done.bytes < done.bytes_before);
        let made = parameters(&load(&shipped(), WeightType::Quantized(bits)));
        let stored = parameters(&load(&folder, WeightType::Stored));
        let widened = parameters(&load(&folder, WeightType::Float32));
        let again = parameters(&load(&folder, WeightType::Quantized(bits)));
        let mut count = 0;
        for (name, (dtype, numbers)) in &made {
            assert_eq!(again[name], made[name], "{name}");
            assert_eq!(is_quantized(stored[name].0), is_quantized(*dtype), "{name}");
            assert_eq!(widened[name].0, DType::F32, "{name}");
            if is_quantized(*dtype) {
                assert_eq!(&stored[name].1, numbers, "{name}");
                assert_eq!(&widened[name].1, numbers, "{name}");
                count += 1;
            }
        }
        assert!(count > 0);
        // The other files come along.
        for file in ["tokenizer.json", "generation_config.json"] {
            assert_eq!(
                fs::read(folder.join(file)).unwrap(),
                fs::read(shipped().join(file)).unwrap()
            );
        }
    }
}

/// What a killed process left of the folder goes, what one that lives is writing stays.
#[cfg(unix)]
#[test]
fn what_a_killed_quantize_left_is_swept_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let begin = || {
        let (folder, lock) = locked_folder(dir.path(), "int8").unwrap();
        fs::write(folder.path().join("config.json"), "{").unwrap();
        (folder.keep(), lock)
    };
    let (killed, lock) = begin();
    drop(lock);
    let (alive, _lock) = begin();
    let folder = dir.path().join("int8");
    quantize_folder(&shipped(), &folder, WeightBits::Eight).unwrap();
    assert!(!killed.exists() && alive.join("config.json").exists());
    assert!(folder.join("config.json").exists());
}

/// A scale that is infinite is told with its tensor, however the matrix is read.
#[test]
fn scales_that_are_not_finite_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for bits in BOTH {
        let folder = dir.path().join(format!("{bits:?}"));
        quantize_folder(&shipped(), &folder, bits).unwrap();
        let path = folder.join("model.safetensors");
        let whole = fs::read(&path).unwrap();
        let mut tensors = SafeTensors::deserialize(&whole).unwrap().tensors();
        let (name, scales) = tensors
            .iter_mut()
            .find(|(name, _)| name.ends_with("_scales"))
            .unwrap();
        let mut bytes = scales.data().to_vec();
        let last = bytes.len() - 2;
        bytes[last..].copy_from_slice(&[0x00, 0x7c]);
        let (name, shape) = (name.clone(), scales.shape().to_vec());
        *scales = TensorView::new(scales.dtype(), shape, &bytes).unwrap();
        safetensors::serialize_to_file(tensors, None, &path).unwrap();
        for weights in [
            WeightType::Stored,
            WeightType::Float32,
            WeightType::Bfloat16,
            WeightType::Quantized(bits),
        ] {
            let error = load_asr(&folder, weights, &Device::default()).unwrap_err();
            let message = error.to_string();
            let part = format!("`{name}` can't be read: it has numbers that are not finite");
            assert!(message.ends_with(&part), "{weights:?}: {message}");
            assert_eq!(message.lines().count(), 1);
        }
    }
}

fn config(folder: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(folder.join("config.json")).unwrap()).unwrap()
}

#[test]
fn bad_folders_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("int8");
    quantize_folder(&shipped(), &folder, WeightBits::Eight).unwrap();
    let twice = quantize_folder(&folder, &dir.path().join("twice"), WeightBits::Four);
    let message = twice.unwrap_err().to_string();
    assert!(message.contains("quantized already"), "{message}");

    let whole = config(&folder);
    assert_eq!(
        whole["quantization_config"],
        json!({ "quant_method": "latentlm", "weights": "int8", "group_size": 32 })
    );
    for (key, value, part) in [
        ("quant_method", json!("gptq"), "method `gptq`"),
        ("weights", json!("int3"), "does not know"),
        ("group_size", json!(64), "does not know"),
    ] {
        let mut changed = whole.clone();
        changed["quantization_config"][key] = value;
        fs::write(folder.join("config.json"), changed.to_string()).unwrap();
        let error = load_asr(&folder, WeightType::Stored, &Device::default()).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(part), "{message}");
    }
}

/// A speaking model with random weights, whose codecs have 64, 128 and 256 channels.
fn make_speaking(folder: &Path, dtype: StoredDType) {
    let sizes = RandomSizes {
        width: 24,
        depth: 1,
        heads: 4,
        kv_heads: 2,
        inner: 40,
        vocabulary: 40,
        context: 64,
        head_layers: 1,
        filters: 64,
        ratios: vec![2, 2],
        depths: vec![1, 1, 1],
        acoustic_dim: 6,
        semantic_dim: 5,
        tokens: SpeechTokens {
            start: 30,
            stop: 31,
            audio: 32,
            end: 33,
        },
        ..RandomSizes::speech_1_5b()
    };
    let options = RandomOptions {
        dialect: Dialect::Transformers,
        dtype,
        ..RandomOptions::default()
    };
    make_random(&sizes, folder, options).unwrap();
}

fn load_speaking(folder: &Path, weights: WeightType) -> VibeVoice {
    let json = read_vibevoice_config(folder).unwrap();
    load_vibevoice_weights(folder, &json, weights, &Device::default()).unwrap()
}

/// Matrices of a codec's layers and between its resolutions are bfloat16 if they have 2^17 numbers. A layer of 128 channels
/// has two of 2^16, one of 256 channels two of 2^18; the convolution between these has 4 x 128 x 256, just enough. All
/// others keep the digits of the file.
#[test]
fn small_matrices_of_codecs_stay_float32() {
    let dir = tempfile::tempdir().unwrap();
    for (dtype, weights) in [
        (StoredDType::Bfloat16, WeightType::Stored),
        (StoredDType::Float16, WeightType::Stored),
        (StoredDType::Float32, WeightType::Bfloat16),
        (
            StoredDType::Float32,
            WeightType::Quantized(WeightBits::Eight),
        ),
    ] {
        let folder = dir.path().join(dtype.name());
        make_speaking(&folder, dtype);
        let exact = parameters(&load_speaking(&folder, WeightType::Float32));
        let mut rounded = Vec::new();
        for (name, (dtype, numbers)) in parameters(&load_speaking(&folder, weights)) {
            if !name.starts_with("codec.") && !name.starts_with("semantic.") {
                continue;
            }
            if dtype == DType::BF16 {
                rounded.push(name);
            } else {
                assert_eq!((dtype, numbers), exact[&name], "{name}, {weights:?}");
            }
        }
        let expected = [
            "codec.decoder.layers.0.down.weight",
            "codec.decoder.layers.0.up.weight",
            "codec.decoder.stages.0.conv.weight",
            "codec.encoder.stages.1.conv.weight",
            "codec.encoder.stages.1.layers.0.down.weight",
            "codec.encoder.stages.1.layers.0.up.weight",
            "semantic.stages.1.conv.weight",
            "semantic.stages.1.layers.0.down.weight",
            "semantic.stages.1.layers.0.up.weight",
        ];
        assert_eq!(rounded, expected, "{weights:?}");
    }
}

/// Euclidean distance of tensors, as a part of the size of the second.
fn distance(a: Tensor<3>, b: Tensor<3>) -> f32 {
    let size: f32 = b.clone().square().sum().sqrt().into_scalar();
    let distance: f32 = (a - b).square().sum().sqrt().into_scalar();
    distance / size
}

/// Encoders and decoder with matrices in bfloat16, a whole signal and a stream. A matrix in another order would give
/// numbers that have nothing to do with the expected ones: a distance of one and more.
#[test]
fn codecs_compute_with_bfloat16() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("float32");
    make_speaking(&folder, StoredDType::Float32);
    let [exact, stored] =
        [WeightType::Float32, WeightType::Bfloat16].map(|weights| load_speaking(&folder, weights));
    let hop = exact.hop_samples();
    let sound = RandomStream::new(1).normal([1, 1, 5 * hop], &Device::default());
    let features = |model: &VibeVoice| model.audio_features(sound.clone());
    let heard = |model: &VibeVoice| model.semantic.forward(sound.clone());
    let step = |model: &VibeVoice| {
        let first = sound.clone().narrow(2, 0, hop);
        model.semantic.step(first, &mut Default::default())
    };
    let latents = features(&exact);
    let decoded = |model: &VibeVoice| model.codec.decode(latents.clone());
    for (what, distance) in [
        ("features", distance(features(&stored), features(&exact))),
        ("semantic", distance(heard(&stored), heard(&exact))),
        ("a step", distance(step(&stored), step(&exact))),
        ("sound", distance(decoded(&stored), decoded(&exact))),
    ] {
        assert!(distance > 0.0 && distance < 0.2, "{what}: {distance}");
    }
}
