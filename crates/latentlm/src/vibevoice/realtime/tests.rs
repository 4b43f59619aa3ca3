//! Texts that arrive in pieces, voices that do not fit, and files that mean harm.

use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use latentlm_core::RandomStream;
use latentlm_core::conformance::{assert_close, seeded};
use latentlm_data::TextTokenizer;

use super::*;
use crate::pretrained::{load_realtime, read_realtime_config};
use crate::vibevoice::{End, FrameNoise};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/vibevoice-realtime-one")
}

fn voice_bytes() -> Vec<u8> {
    std::fs::read(fixture().join("voice.pt")).unwrap()
}

fn voice() -> SavedVoice {
    SavedVoice::read(&fixture().join("voice.pt")).unwrap()
}

fn model() -> VibeVoiceRealtime {
    let load = |device: &Device| load_realtime(&fixture(), device).unwrap();
    seeded(1, &Device::default(), load)
}

fn options(frames: usize) -> RealtimeOptions {
    RealtimeOptions {
        forced_frames: Some(frames),
        ..RealtimeOptions::default()
    }
}

fn noise() -> FrameNoise {
    FrameNoise::Drawn(RandomStream::new(3))
}

fn tokenizer() -> TextTokenizer {
    TextTokenizer::read(&fixture().join("tokenizer.json")).unwrap()
}

const TEXT: &str =
    "  It's 12 o'clock, na\u{ef}ve e\u{301}t al. say: \u{4f60}\u{597d}\u{ff0c}yes ... \n no?\t ";

/// What was read and heard of a text that comes in pieces of so many characters, each when the stream waits.
fn spoken(model: &VibeVoiceRealtime, size: usize) -> (Vec<u32>, Vec<f32>) {
    let tokenizer = tokenizer();
    let encode = |text: &str| tokenizer.encode_exact(text);
    let characters: Vec<char> = TEXT.chars().collect();
    let mut pieces = characters.chunks(size);
    let mut text = Some(RealtimeText::default());
    let mut stream = model.speak(&voice(), options(300), noise()).unwrap();
    let (mut read, mut heard) = (Vec::new(), Vec::new());
    while let Some(step) = stream.next_step() {
        match step {
            RealtimeStep::Text(window) => read.extend(window.tokens),
            RealtimeStep::Frame(frame) => {
                heard.extend(frame.sound.into_data().try_to_vec::<f32>().unwrap());
            }
            RealtimeStep::Waits => {
                let open = text
                    .as_mut()
                    .expect("a stream does not wait behind the end");
                if let Some(piece) = pieces.next() {
                    let piece: String = piece.iter().collect();
                    stream.push(&open.push(&piece, encode).unwrap());
                } else if let Some(text) = text.take() {
                    stream.push(&text.finish(encode).unwrap());
                    stream.end_text();
                }
            }
        }
    }
    assert_eq!(stream.end(), Some(End::Forced));
    (read, heard)
}

#[test]
fn it_does_not_matter_when_text_comes() {
    let model = model();
    let whole = spoken(&model, usize::MAX);
    let at_once = tokenizer().encode_exact(&format!("{}\n", TEXT.trim()));
    assert_eq!(whole.0, at_once.unwrap());
    assert_eq!(whole.1.len(), 300 * model.hop_samples());
    for size in [1, 2, 7] {
        assert!(spoken(&model, size) == whole, "pieces of {size}");
    }
}

/// Frames of a text without end: while it is open, windows alternate, and the stream waits in between.
#[test]
fn windows_of_text_and_speech_alternate() {
    let model = model();
    let mut stream = model.speak(&voice(), options(100), noise()).unwrap();
    let kinds = |stream: &mut RealtimeStream<'_>| -> String {
        let mut kinds = String::new();
        loop {
            match stream.next_step() {
                Some(RealtimeStep::Text(window)) => {
                    kinds.push_str(&window.tokens.len().to_string())
                }
                Some(RealtimeStep::Frame(_)) => kinds.push('f'),
                Some(RealtimeStep::Waits) | None => return kinds,
            }
        }
    };
    stream.push(&[1, 2, 3, 4]);
    assert_eq!(kinds(&mut stream), "");
    stream.push(&[5, 6, 7]);
    assert_eq!(kinds(&mut stream), "5ffffff");
    assert_eq!(kinds(&mut stream), "");
    stream.push(&[8]);
    stream.end_text();
    let rest = kinds(&mut stream);
    assert!(rest.starts_with("3ffffffffffff"), "{rest}");
    assert_eq!(rest.matches('f').count(), 94);
}

/// Limits end the stream, each by its name.
#[test]
fn limits_are_kept() {
    let model = model();
    let end = |options: RealtimeOptions, noise: FrameNoise| {
        let mut stream = model.speak(&voice(), options, noise).unwrap();
        stream.push(&[1, 2, 3]);
        stream.end_text();
        let mut frames = 0;
        while let Some(step) = stream.next_step() {
            frames += usize::from(matches!(step, RealtimeStep::Frame(_)));
        }
        (frames, stream.end().unwrap())
    };
    let forced = options(1000);
    let few = RealtimeOptions {
        max_frames: 2,
        ..forced
    };
    assert_eq!(end(few, noise()), (2, End::Frames));
    let given = FrameNoise::Given(Tensor::zeros([4, 6], &Device::default()));
    assert_eq!(end(forced, given), (4, End::Frames));
    // The voice takes 10 positions, the text 3.
    let short = RealtimeOptions {
        max_positions: 20,
        ..forced
    };
    assert_eq!(end(short, noise()), (7, End::Positions));
    let tiny = RealtimeOptions {
        max_positions: 9,
        ..forced
    };
    let refused = model.speak(&voice(), tiny, noise()).unwrap_err();
    let message = refused.to_string();
    assert!(
        message.ends_with("takes 10 positions, the model reads 9"),
        "{message}"
    );
    let nan = Tensor::full([4, 6], f32::NAN, &Device::default());
    let (_, why) = end(forced, FrameNoise::Given(nan));
    assert_eq!(why, End::NotFinite);
}

/// The caches of a voice are read as if the model had read them itself.
#[test]
fn a_step_behind_a_voice_is_a_step_behind_its_keys() {
    let model = model();
    let device = Device::default();
    let saved = voice();
    let x: Tensor<3> = RandomStream::new(1).normal([1, 4, 48], &device);
    let whole = latentlm_core::CausalBackbone::step(
        &model.speech_lm,
        x.clone(),
        &mut saved.speech().cache(64, &device),
    );
    let mut cache = saved.speech().cache(10, &device);
    for position in 0..4 {
        cache.reserve(1, 64);
        let one = x.clone().narrow(1, position, 1);
        let one = latentlm_core::CausalBackbone::step(&model.speech_lm, one, &mut cache);
        let expected = whole.clone().narrow(1, position, 1);
        assert_close("a position", one, expected, 1e-5);
    }
}

#[test]
fn a_voice_of_another_model_is_refused_with_both_shapes() {
    let config = read_realtime_config(&fixture()).unwrap().model();
    let device = Device::default();
    let refusal = |config: RealtimeConfig| {
        let model = seeded(1, &device, |device| config.init(device));
        let refused = model.speak(&voice(), RealtimeOptions::default(), noise());
        refused.map(drop).unwrap_err().to_string()
    };
    let mut heads = config.clone();
    heads.backbone.kv_heads = 4;
    let message = refusal(heads);
    let part = "`lm` has 1 layers of [1, 2, 3, 12], the model 1 layers of [1, 4, 3, 12]";
    assert!(message.contains(part), "{message}");
    let mut layers = config.clone();
    layers.backbone.depth = 4;
    layers.speech_depth = 3;
    let message = refusal(layers);
    let part = "`tts_lm` has 2 layers of [1, 2, 10, 12], the model 3 layers of [1, 2, 10, 12]";
    assert!(message.contains(part), "{message}");
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
    for name in voice::CONTEXTS {
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
