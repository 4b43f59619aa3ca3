//! Saved voices: their caches, both formats, and files that mean harm.

use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use latentlm_backbone::{CacheNumbers, RopeLayout};
use latentlm_core::bounds::MOST_HEADER_VALUES;
use latentlm_core::conformance::{assert_close, seeded};
use latentlm_core::{CausalBackbone, RandomStream};

use super::*;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vibevoice-realtime-one")
}

fn voice_bytes() -> Vec<u8> {
    std::fs::read(fixture().join("voice.pt")).unwrap()
}

fn voice() -> SavedVoice {
    SavedVoice::read(&fixture().join("voice.pt")).unwrap()
}

/// The caches of a voice are read as if the model had read them itself.
#[test]
fn a_step_behind_a_voice_is_a_step_behind_its_keys() {
    let device = Device::default();
    // The sizes of the upper model that the voice was made with.
    let config = BackboneConfig::new(48, 2, 4)
        .with_kv_heads(2)
        .with_mlp_width(80)
        .with_norm_weight(true)
        .with_qkv_bias(true)
        .with_rope_layout(RopeLayout::HalfSplit)
        .with_rope_theta(1e6)
        .with_condition_layer(false);
    let speech_lm = seeded(1, &device, |device| config.init(device));
    let saved = voice();
    let x: Tensor<3> = RandomStream::new(1).normal([1, 4, 48], &device);
    let whole = speech_lm.step(
        x.clone(),
        &mut saved.speech().cache(64, CacheNumbers::F32, &device),
    );
    let mut cache = saved.speech().cache(10, CacheNumbers::F32, &device);
    for position in 0..4 {
        cache.reserve(1, 64);
        let one = x.clone().narrow(1, position, 1);
        let one = speech_lm.step(one, &mut cache);
        let expected = whole.clone().narrow(1, position, 1);
        assert_close("a position", one, expected, 1e-5);
    }
}

/// Both formats hold the same, and a copy is written as its original.
#[test]
fn a_voice_is_the_same_as_safetensors() {
    let voice = voice();
    let bytes = voice.to_safetensors().unwrap();
    let again = SavedVoice::from_bytes(&bytes, Path::new("a.safetensors")).unwrap();
    assert!(voice.tensors() == again.tensors());
    assert_eq!(again.to_safetensors().unwrap(), bytes);
    let shapes: Vec<Vec<usize>> = voice
        .tensors()
        .iter()
        .map(|(_, data)| data.shape().as_slice().to_vec())
        .collect();
    assert_eq!(shapes.len(), 4 + 2 * (1 + 2 + 1 + 2));
    assert_eq!(shapes[..2], [vec![1, 3, 48], vec![1, 2, 3, 12]]);
}

#[test]
fn a_voice_with_a_header_of_too_many_values_is_refused() {
    let header = format!("{{{}", ",".repeat(MOST_HEADER_VALUES));
    let length = (header.len() as u64).to_le_bytes();
    let bytes = [length.as_slice(), header.as_bytes()].concat();
    let error = SavedVoice::from_bytes(&bytes, Path::new("a.safetensors")).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("its header has 2000008 v"), "{message}");
}

/// A zip archive of files, deflated if that is set.
fn zip(files: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let (mut bytes, mut directory): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let mut packed = content.to_vec();
        if deflated {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(content).unwrap();
            packed = encoder.finish().unwrap();
        }
        let method = if deflated { 8_u16 } else { 0 };
        let mut fields = method.to_le_bytes().to_vec();
        fields.extend([0; 8]);
        fields.extend((packed.len() as u32).to_le_bytes());
        fields.extend((content.len() as u32).to_le_bytes());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0; 2]);
        directory.extend(b"PK\x01\x02\0\0\0\0\0\0");
        directory.extend(&fields);
        directory.extend([0; 10]);
        directory.extend((bytes.len() as u32).to_le_bytes());
        directory.extend(name.as_bytes());
        bytes.extend(b"PK\x03\x04\0\0\0\0");
        bytes.extend(&fields);
        bytes.extend(name.as_bytes());
        bytes.extend(packed);
    }
    let start = bytes.len() as u32;
    bytes.extend(&directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    for count in [files.len() as u16; 2] {
        bytes.extend(count.to_le_bytes());
    }
    bytes.extend((directory.len() as u32).to_le_bytes());
    bytes.extend(start.to_le_bytes());
    bytes.extend([0; 2]);
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    let refused = SavedVoice::from_bytes(bytes, Path::new("v.pt"));
    let message = refused.map(drop).unwrap_err().to_string();
    assert!(!message.contains('\n') && message.len() < 400, "{message}");
    message
}

fn refusal_of(pickle: &[u8]) -> String {
    let files: [(&str, &[u8]); 2] = [("any/data.pkl", pickle), ("any/data/0", &[0; 8])];
    refusal(&zip(&files, false))
}

/// Text of a pickle.
fn word(text: &str) -> Vec<u8> {
    let mut bytes = vec![b'X'];
    bytes.extend((text.len() as u32).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// A tensor of a storage of 4 float32 that claims a shape and strides, each of numbers of 4 bytes.
fn tensor(shape: &[u32], strides: &[u32]) -> Vec<u8> {
    let mut bytes = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    bytes.extend(word("storage"));
    bytes.extend(b"ctorch\nFloatStorage\n");
    bytes.extend(word("0"));
    bytes.extend(word("cuda:0"));
    bytes.extend(b"K\x04tQK\0");
    for sizes in [shape, strides] {
        bytes.push(b'(');
        for size in sizes {
            bytes.push(b'J');
            bytes.extend(size.to_le_bytes());
        }
        bytes.push(b't');
    }
    bytes.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    bytes
}

/// The layout of plain dictionaries: every context with one layer of a position.
fn plain(hidden: &[u8], key: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x80\x02}(".to_vec();
    for name in context::CONTEXTS {
        bytes.extend(word(name));
        bytes.extend(b"}(");
        bytes.extend(word("last_hidden_state"));
        bytes.extend(hidden);
        bytes.extend(word("past_key_values"));
        bytes.extend(b"}(");
        for list in ["key_cache", "value_cache"] {
            bytes.extend(word(list));
            bytes.extend(b"](");
            bytes.extend(key);
            bytes.push(b'e');
        }
        bytes.extend(b"uu");
    }
    bytes.extend(b"u.");
    bytes
}

#[test]
fn plain_dictionaries_are_read_stored_and_deflated() {
    let pickle = plain(
        &tensor(&[1, 1, 4], &[4, 4, 1]),
        &tensor(&[1, 2, 1, 2], &[9, 1, 7, 2]),
    );
    let numbers: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect();
    let files: [(&str, &[u8]); 3] = [
        ("a_b/byteorder", b"little"),
        ("a_b/data.pkl", &pickle),
        ("a_b/data/0", &numbers),
    ];
    for deflated in [false, true] {
        let bytes = zip(&files, deflated);
        let voice = SavedVoice::from_bytes(&bytes, Path::new("v.pt")).unwrap();
        let tensors = voice.tensors();
        assert_eq!(tensors.len(), 12);
        let values = |index: usize| tensors[index].1.try_to_vec::<f32>().unwrap();
        assert_eq!(values(0), [1.0, 2.0, 3.0, 4.0]);
        // Strides of 1 between heads and of 2 within: transposed.
        assert_eq!(values(1), [1.0, 3.0, 2.0, 4.0]);
    }
    let big: [(&str, &[u8]); 2] = [("a/byteorder", b"big"), ("a/data.pkl", &pickle)];
    assert!(refusal(&zip(&big, false)).contains("other order of bytes"));
    let none: [(&str, &[u8]); 1] = [("a/data.pkl", &pickle)];
    assert!(refusal(&zip(&none, false)).contains("lacks the file of the storage `0`"));
}

#[test]
fn nothing_in_a_pickle_is_run() {
    let harm = b"\x80\x02cos\nsystem\nX\x02\0\0\0ls\x85R.";
    let message = refusal_of(harm);
    assert!(message.contains("asks for `os.system`"), "{message}");
    assert!(message.contains("nothing of it was run"), "{message}");
    let mut stacked = b"\x80\x04".to_vec();
    stacked.extend([&word("builtins")[..], &word("eval"), b"\x93."].concat());
    assert!(refusal_of(&stacked).contains("`builtins.eval`"));
    let long = format!("c{}\nb\n.", "a\u{1b}".repeat(5000));
    refusal_of(long.as_bytes());
    // An instance of a class, and a value by an extension's code.
    for opcode in [
        b"(ios\nsystem\n.".as_slice(),
        b"\x82\x01.",
        b"(cos\nsystem\no.",
    ] {
        refusal_of(opcode);
    }
}

#[test]
fn claims_make_no_memory() {
    let hidden = tensor(&[1, 1, 4], &[4, 4, 1]);
    for (shape, strides) in [
        // An expanded axis: many numbers out of one.
        ([1, 2, 1, 1 << 30], [0, 0, 0, 0]),
        ([1, 2, 1, 4], [4, 4, 4, 1]),
        ([i32::MAX as u32; 4], [i32::MAX as u32; 4]),
        ([1, 0, 1, 2], [1, 1, 1, 1]),
    ] {
        let pickle = plain(&hidden, &tensor(&shape, &strides));
        let files: [(&str, &[u8]); 2] = [("data.pkl", &pickle), ("data/0", &[0; 16])];
        let message = refusal(&zip(&files, false));
        assert!(message.contains("storage of 4 numbers"), "{message}");
    }
    // A text, a file and an archive that say they are longer than they are.
    assert!(refusal_of(b"\x80\x02X\xff\xff\xff\x7fab.").contains("cut short"));
    let files: [(&str, &[u8]); 1] = [("a/data.pkl", b"N.")];
    let mut bytes = zip(&files, true);
    let directory = bytes.len() - 22 - 46 - "a/data.pkl".len();
    bytes[directory + 24..][..4].copy_from_slice(&0x7fff_fff0_u32.to_le_bytes());
    assert!(
        refusal(&bytes).contains("unpacks to over"),
        "{}",
        refusal(&bytes)
    );
    bytes[directory + 24..][..4].copy_from_slice(&1000_u32.to_le_bytes());
    assert!(refusal(&bytes).contains("damaged"));
    refusal(&vec![0; (128 << 20) + 1]);
}

#[test]
fn recursion_ends() {
    // A list in itself, ten thousand lists in each other, and a dictionary that is its own context.
    let nested = [
        b"\x80\x02".as_slice(),
        &b"](".repeat(10_000),
        &b"e".repeat(10_000),
        b".",
    ]
    .concat();
    refusal_of(&nested);
    assert!(refusal_of(b"\x80\x02]q\0h\0a.").contains("lacks `lm`"));
    let own = [b"\x80\x02}q\0".as_slice(), &word("lm"), b"h\0s."].concat();
    assert!(refusal_of(&own).contains("lacks `last_hidden_state`"));
    for odd in [
        b"t.".as_slice(),
        b"a.",
        b"(.",
        b"h\x07.",
        b"NN\x87.",
        b"]Nb.",
        b"NQ.",
        b"",
    ] {
        refusal_of(odd);
    }
}

/// A file that is cut anywhere is refused.
#[test]
fn a_cut_file_is_refused() {
    let whole = voice_bytes();
    for keep in (0..whole.len()).step_by(97) {
        refusal(&whole[..keep]);
    }
    assert!(refusal(&whole[..whole.len() / 2]).contains("cut short or damaged"));
    let recording = b"RIFF\x24\0\0\0WAVEfmt ";
    let message = refusal(recording);
    assert!(message.contains("can't be made into one"), "{message}");
}
