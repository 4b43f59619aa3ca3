//! GGUF files as vibevoice.cpp writes them: models, vocabulary and voice, against what they were made from.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::ModuleSnapshot;
use burn::store::bridge::to_data;
use burn::tensor::{DType, Device, TensorData, f16};
use latentlm_data::TextTokenizer;
use latentlm_published::{
    Dialect, Member, Published, WeightType, gguf_tokenizer, load_asr, load_realtime,
    load_vibevoice, load_vibevoice_weights, read_realtime_config, read_vibevoice_config,
    read_voice,
};
use latentlm_vibevoice::{FrameNoise, RealtimeOptions};

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join(name)
}

/// All parameters by name.
fn parameters<M: Module>(model: &M) -> BTreeMap<String, TensorData> {
    let tensors = model.collect(None, None, true);
    let named = |t: burn::store::burn_pack::Tensor| (t.name.clone(), to_data(&t).unwrap());
    tensors.into_iter().map(named).collect()
}

fn values(data: &TensorData) -> Vec<f32> {
    data.clone().convert::<f32>().try_to_vec().unwrap()
}

/// Numbers as the file keeps them, which has all but single ones in float16.
fn halved(numbers: &[f32]) -> Vec<f32> {
    if numbers.len() == 1 {
        return numbers.to_vec();
    }
    let halves = numbers.iter().map(|number| f16::from_f32(*number));
    halves.map(f16::to_f32).collect()
}

/// Bytes of all parameters.
fn bytes(parameters: &BTreeMap<String, TensorData>) -> usize {
    parameters.values().map(|data| data.as_bytes().len()).sum()
}

#[test]
fn a_realtime_model_is_that_of_its_folder() {
    let (file, folder) = (
        fixture("gguf/realtime.gguf"),
        fixture("vibevoice-realtime-one"),
    );
    let published = Published::read(&file).unwrap();
    assert_eq!(
        (published.member, published.dialect),
        (Member::Realtime, Dialect::Original)
    );
    let [own, expected] = [&file, &folder].map(|path| read_realtime_config(path).unwrap().model());
    assert_eq!(format!("{own:?}"), format!("{expected:?}"));
    let load = |path: &Path, weights| {
        let model = load_realtime(path, weights, &Device::default());
        parameters(&model.unwrap())
    };
    let exact = load(&file, WeightType::Float32);
    let expected = load(&folder, WeightType::Float32);
    assert_eq!(exact.len(), expected.len());
    for (name, data) in &expected {
        assert_eq!(exact[name].shape(), data.shape(), "{name}");
        assert_eq!(values(&exact[name]), halved(&values(data)), "{name}");
    }
    // Matrices stay as small as they are in the file.
    let stored = load(&file, WeightType::Stored);
    let size = fs::metadata(&file).unwrap().len() as f64;
    assert!(bytes(&stored) as f64 <= 1.2 * size, "{size}");
    assert_eq!(
        stored["text_lm.blocks.0.attn.qkv.weight"].dtype(),
        DType::BF16
    );
    for (name, data) in &stored {
        for (rounded, number) in values(data).into_iter().zip(values(&exact[name])) {
            // bfloat16 has 8 significant bits.
            assert!((rounded - number).abs() <= number.abs() / 256.0, "{name}");
        }
        // Small matrices of the codec keep all digits.
        if name.starts_with("decoder.") {
            assert_eq!(data, &exact[name], "{name}");
        }
    }
}

/// Float16 with blocks in two matrices, whose numbers are off by half a step at most.
#[test]
fn a_speaking_model_is_that_of_its_folder() {
    let (file, folder) = (
        fixture("gguf/speech.gguf"),
        fixture("vibevoice-original-two"),
    );
    let [own, expected] = [&file, &folder].map(|path| read_vibevoice_config(path).unwrap());
    let (model, wanted) = (own.model(), expected.model());
    assert_eq!(model.codec, wanted.codec);
    assert_eq!(model.semantic, wanted.semantic);
    assert_eq!(model.end_of_text, wanted.end_of_text);
    for (own, expected) in [
        (
            format!("{:?}", model.backbone),
            format!("{:?}", wanted.backbone),
        ),
        (format!("{:?}", model.head), format!("{:?}", wanted.head)),
        (
            format!("{:?}", model.tokens),
            format!("{:?}", wanted.tokens),
        ),
        (
            format!("{:?}", model.control),
            format!("{:?}", wanted.control),
        ),
    ] {
        assert_eq!(own, expected);
    }
    let device = Device::default();
    let read = load_vibevoice_weights(&file, &own, WeightType::Float32, &device).unwrap();
    let expected = parameters(&load_vibevoice(&folder, &device).unwrap());
    let mut in_blocks = 0;
    for (name, data) in &parameters(&read) {
        let wanted = values(&expected[name]);
        // Levels of 8 bits go from -127 to 127, those of 4 bits from -8 to 7.
        let steps = match name.as_str() {
            "lm.backbone.blocks.0.mlp.down.weight" => 127.0,
            "lm.backbone.blocks.1.mlp.down.weight" => 8.0,
            _ => {
                assert_eq!(values(data), halved(&wanted), "{name}");
                continue;
            }
        };
        in_blocks += 1;
        let largest = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        // Half a step, and what float16 rounds the scale by. In 4 bits the largest number of the other sign may be a
        // whole step off.
        let bound = largest / steps * if steps > 8.0 { 0.57 } else { 1.01 };
        for (number, wanted) in values(data).iter().zip(&wanted) {
            assert!((number - wanted).abs() <= bound, "{name}");
        }
    }
    assert_eq!(in_blocks, 2);
    // Matrices of blocks stay small: what they are in memory is a matter of `gguf/tests.rs`.
    assert!(load_vibevoice_weights(&file, &own, WeightType::Stored, &device).is_ok());
}

#[test]
fn a_vocabulary_is_that_of_its_json() {
    let path = fixture("gguf/tokenizer.gguf");
    let json = gguf_tokenizer(&path).unwrap().unwrap();
    let own = TextTokenizer::from_bytes(json.as_bytes(), &path).unwrap();
    let original = fixture("vibevoice-original-two/tokenizer.json");
    assert_eq!(gguf_tokenizer(&original).unwrap(), None);
    let expected = TextTokenizer::read(&original).unwrap();
    assert_eq!(own.vocabulary(), expected.vocabulary());
    for text in [
        " Voice input:\n Speaker 0: Text output, na\u{ef}ve e\u{301}t al. 12\n",
        "<|vision_start|> each  espeaker\r\n\r\n\u{4f60}\u{597d}",
    ] {
        let tokens = own.encode_exact(text).unwrap();
        assert_eq!(tokens, expected.encode_exact(text).unwrap());
        assert_eq!(
            own.decode_exact(&tokens).unwrap(),
            expected.decode_exact(&tokens).unwrap()
        );
    }
    for token in ["<|vision_pad|>", "<|endoftext|>", "a"] {
        assert_eq!(own.id_of(token), expected.id_of(token), "{token}");
    }
}

#[test]
fn a_voice_has_its_numbers_in_their_places() {
    let voice = read_voice(&fixture("gguf/voice.gguf")).unwrap();
    let tensors: BTreeMap<String, &TensorData> = voice.tensors().into_iter().collect();
    assert_eq!(tensors.len(), 16);
    let keys = tensors["tts_lm.key.1"];
    assert_eq!(keys.shape().as_slice(), [1, 2, 10, 12]);
    // Made as position + head / 16 + number / 256 + layer.
    let (head, position, number) = (1, 3, 5);
    let place = (head * 10 + position) * 12 + number;
    let expected = 3.0 + 1.0 / 16.0 + 5.0 / 256.0 + 1.0;
    assert_eq!(values(keys)[place], expected);
    assert_eq!(values(tensors["tts_lm.value.1"])[place], -expected);
    let hidden = values(tensors["lm.last_hidden_state"]);
    assert_eq!(hidden[2 * 48 + 7], (2.0 * 48.0 + 7.0) / 512.0);
    let file = fixture("gguf/realtime.gguf");
    let model = load_realtime(&file, WeightType::Stored, &Device::default()).unwrap();
    let noise = FrameNoise::Drawn(latentlm::RandomStream::new(3));
    assert!(
        model
            .speak(&voice, RealtimeOptions::default(), noise)
            .is_ok()
    );
    // The other formats are read as ever.
    assert!(read_voice(&fixture("vibevoice-realtime-one/voice.pt")).is_ok());
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let (speech, tokenizer) = (fixture("gguf/speech.gguf"), fixture("gguf/tokenizer.gguf"));
    let published = |path: &Path| Published::read(path).unwrap_err().to_string();
    let part = "has the architecture `vibevoice-tokenizer`; wanted is `vibevoice`";
    assert!(published(&tokenizer).contains(part));
    let readme = fixture("README.md");
    assert!(published(&readme).ends_with("README.md is no GGUF file"));
    let device = Device::default();
    let message = load_asr(&speech, WeightType::Stored, &device);
    let message = message.unwrap_err().to_string();
    assert!(message.contains("wanted is VibeVoice-ASR"), "{message}");
    let message = read_voice(&speech).unwrap_err().to_string();
    assert!(message.contains("wanted is `vibevoice-voice`"), "{message}");

    let dir = tempfile::tempdir().unwrap();
    let pointer = dir.path().join("pointer.gguf");
    let text = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1234\n";
    fs::write(&pointer, text).unwrap();
    let message = published(&pointer);
    assert!(message.contains("is a Git LFS pointer"), "{message}");

    // A model that its file has not the numbers for is refused before it takes memory.
    let claim = dir.path().join("claim.gguf");
    let mut bytes = fs::read(fixture("gguf/realtime.gguf")).unwrap();
    let key = b"vibevoice.vocab_size";
    let place = bytes.windows(key.len()).position(|part| part == key);
    let place = place.unwrap() + key.len() + 4;
    bytes[place..place + 4].copy_from_slice(&(1_u32 << 24).to_le_bytes());
    fs::write(&claim, bytes).unwrap();
    let message = load_realtime(&claim, WeightType::Stored, &device);
    let message = message.unwrap_err().to_string();
    assert!(message.contains("the model of its metadata"), "{message}");
}
