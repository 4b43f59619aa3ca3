//! Files of blocks against what the library that writes them makes of them.

use super::*;
use burn::tensor::bf16;

fn fixture(name: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/gguf");
    fixtures.join(name)
}

/// Blocks of every type, bit for bit as PyPI's `gguf` reads them.
#[test]
fn numbers_are_those_of_the_reference() {
    let file = Gguf::open(&fixture("blocks.gguf"), "blocks").unwrap();
    let read = |name: &str| {
        let info = file.tensor(name).unwrap();
        assert_eq!(info.shape, [2, 512], "{name}");
        (
            info.packing,
            file.packed(info, &Unread::default()).read().unwrap(),
        )
    };
    let bits = |numbers: &[f32]| -> Vec<u32> { numbers.iter().map(|x| x.to_bits()).collect() };
    for (name, packing) in [
        ("f16", Packing::F16),
        ("bf16", Packing::Bf16),
        ("q8_0", Packing::Q8),
        ("q4_0", Packing::Q4),
        ("q4_k", Packing::Q4K),
        ("q5_k", Packing::Q5K),
        ("q6_k", Packing::Q6K),
    ] {
        let (own, bytes) = read(name);
        assert_eq!(own, packing);
        let (plain, expected) = read(&format!("{name}.numbers"));
        let expected = plain.numbers(&expected);
        assert_eq!(bits(&packing.numbers(&bytes)), bits(&expected), "{name}");
        let rounded: Vec<bf16> = expected.iter().map(|x| bf16::from_f32(*x)).collect();
        assert_eq!(packing.rounded(&bytes), rounded, "{name}");
        assert!(expected.iter().any(|x| *x < 0.0), "{name}");
    }
}

/// Q8_0 and Q4_0 keep their numbers; of others the nearest of 8 bits are taken.
#[test]
fn groups_have_the_numbers_of_blocks() {
    let file = Gguf::open(&fixture("blocks.gguf"), "blocks").unwrap();
    for (name, bits) in [
        ("q8_0", WeightBits::Eight),
        ("q4_0", WeightBits::Four),
        ("q4_k", WeightBits::Eight),
        ("q5_k", WeightBits::Eight),
        ("q6_k", WeightBits::Eight),
    ] {
        let info = file.tensor(name).unwrap();
        assert_eq!(info.packing.group_bits(), Some(bits), "{name}");
        let bytes = file.packed(info, &Unread::default()).read().unwrap();
        let groups = info.packing.groups(&bytes);
        let levels: Vec<f32> = if bits == WeightBits::Eight {
            let levels = groups.numbers.iter();
            levels.map(|x| f32::from(x.cast_signed())).collect()
        } else {
            let groups = groups.numbers.chunks(16);
            groups
                .flat_map(|group| {
                    let low = group.iter().map(|&x| f32::from(x & 15) - 8.0);
                    low.chain(group.iter().map(|&x| f32::from(x >> 4) - 8.0))
                })
                .collect()
        };
        let expected = info.packing.numbers(&bytes);
        assert_eq!(levels.len(), expected.len(), "{name}");
        let scales = groups.scales.chunks(2);
        let all = levels.chunks(32).zip(expected.chunks(32)).zip(scales);
        for ((levels, expected), scale) in all {
            let scale = burn::tensor::f16::from_le_bytes([scale[0], scale[1]]).to_f32();
            let largest = expected.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
            // Half a step, and what float16 rounds the scale by, 2^-11 of the number.
            let bound = match name {
                "q8_0" | "q4_0" => 0.0,
                _ => largest * (0.5 / 127.0 + 1.0 / 1024.0),
            };
            for (level, expected) in levels.iter().zip(expected) {
                let error = (level * scale - expected).abs();
                assert!(error <= bound, "{name}: {level} * {scale} for {expected}");
            }
        }
    }
}

/// A number or scale that is infinite is told with its tensor, whatever the block.
#[test]
fn scales_that_are_not_finite_are_told() {
    let whole = std::fs::read(fixture("blocks.gguf")).unwrap();
    let file = Gguf::open(&fixture("blocks.gguf"), "blocks").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("changed.gguf");
    // Places of scales in the first or second block.
    for (name, place) in [
        ("f16", 6),
        ("q8_0", 34),
        ("q4_0", 0),
        ("q4_k", 2),
        ("q5_k", 176),
        ("q6_k", 210 + 208),
    ] {
        let mut bytes = whole.clone();
        let start = file.tensor(name).unwrap().start as usize + place;
        bytes[start..start + 2].copy_from_slice(&[0x00, 0x7c]);
        std::fs::write(&path, bytes).unwrap();
        let changed = Gguf::open(&path, "blocks").unwrap();
        let unread = Unread::default();
        let packed = changed.packed(changed.tensor(name).unwrap(), &unread);
        assert!(packed.read().is_err(), "{name}");
        let message = unread.check().unwrap_err().to_string();
        let part = format!("`{name}` can't be read: it has numbers that are not finite");
        assert!(message.ends_with(&part), "{message}");
        assert_eq!(message.lines().count(), 1);
    }
}

/// A model's matrices of blocks are pairs as quantized folders have them, if they are wanted as they are stored.
#[test]
fn matrices_of_blocks_are_pairs() {
    let read = |weights| {
        let tensors = tensors(&fixture("speech.gguf"), weights, &Unread::default()).unwrap();
        let named = tensors.into_iter().map(|tensor| {
            let shape = tensor.shape.as_slice().to_vec();
            (tensor.name.clone(), (tensor.dtype, shape))
        });
        named.collect::<std::collections::BTreeMap<_, _>>()
    };
    let (stored, exact) = (read(WeightType::Stored), read(WeightType::Float32));
    for (layer, dtype, columns) in [(0, DType::I8, 96), (1, DType::U8, 48)] {
        let name = format!("model.language_model.layers.{layer}.mlp.down_proj.weight");
        assert_eq!(stored[&name], (dtype, vec![48, columns]));
        let scales = format!("{name}_scales");
        assert_eq!(stored[&scales], (DType::F16, vec![48, 3]));
        assert_eq!(exact[&name], (DType::F32, vec![48, 96]));
        assert!(!exact.contains_key(&scales));
    }
    assert_eq!(stored.len(), exact.len() + 2);
}

#[test]
fn metadata_have_types() {
    let file = Gguf::open(&fixture("blocks.gguf"), "blocks").unwrap();
    for (key, expected) in [
        ("some.integers", Value::Integers(vec![3, -1, 7])),
        ("some.floats", Value::Other),
        (
            "some.texts",
            Value::Texts(["a", "", "\u{e9}"].map(String::from).to_vec()),
        ),
        ("some.large", Value::Other),
        ("some.small", Value::Float(1e-6)),
        ("some.truth", Value::Truth(true)),
    ] {
        assert_eq!(file.value(key), Some(&expected), "{key}");
    }
}

fn refusal(bytes: &[u8]) -> String {
    Header::read(&mut &bytes[..], bytes.len() as u64).unwrap_err()
}

/// A file of version 3 with these counts, and what follows.
fn file(tensors: u64, keys: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF\x03\0\0\0".to_vec();
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(keys.to_le_bytes());
    bytes.extend(rest);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}

/// A key with a list of so many items of a type.
fn list(kind: u32, count: u64) -> Vec<u8> {
    let mut bytes = text("k");
    bytes.extend(9_u32.to_le_bytes());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    bytes
}

fn tensor(name: &str, axes: &[u64], code: u32, offset: u64) -> Vec<u8> {
    let mut bytes = text(name);
    bytes.extend((axes.len() as u32).to_le_bytes());
    bytes.extend(axes.iter().flat_map(|axis| axis.to_le_bytes()));
    bytes.extend(code.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

/// What a file says is compared with its size, before memory is taken.
#[test]
fn hostile_headers_are_refused_by_what_is_wrong() {
    let long = u64::MAX.to_le_bytes();
    for (bytes, part) in [
        (b"PK\x03\x04 and so on".to_vec(), "is no GGUF file"),
        (b"GGUF\x01\0\0\0".to_vec(), "is of version 1 of GGUF"),
        (b"GGUF\0\0\0\x03".to_vec(), "big-endian"),
        (b"GGUF\x03\0\0\0\x01".to_vec(), "is cut or damaged"),
        (file(u64::MAX, 0, &[]), "at most 65536 can be read"),
        (file(0, 1 << 40, &[]), "1099511627776 keys; at most 65536"),
        (file(0, 1, &long), "is cut or damaged"),
        (file(0, 1, &list(4, 1 << 40)), "a list of 1099511627776"),
        (file(0, 1, &list(0, 1 << 22)), "is cut or damaged"),
        (file(0, 1, &list(8, 9)), "is cut or damaged"),
        (file(0, 1, &list(9, 1)), "a list of lists"),
        (file(0, 1, &list(77, 1)), "a type 77"),
    ] {
        let message = refusal(&bytes);
        assert!(message.contains(part), "`{part}` in {message}");
    }
}

#[test]
fn hostile_tensors_are_refused_by_what_is_wrong() {
    let first = tensor("a", &[8], 0, 0);
    for (tensors, part) in [
        (vec![tensor("a", &[1; 5], 0, 0)], "`a` of 5 axes"),
        (
            vec![tensor("a", &[32], 6, 0)],
            "has `a` as Q5_0, which can't be read; F32, F16,",
        ),
        (vec![tensor("a", &[32], 99, 0)], "has `a` as type 99"),
        (
            vec![tensor("a", &[u64::MAX, 2], 0, 0)],
            "is larger than any",
        ),
        (
            vec![tensor("a", &[1 << 62], 0, 32)],
            "is larger than any file",
        ),
        (vec![tensor("a", &[8, 0], 0, 0)], "has no numbers"),
        (vec![tensor("a", &[48], 8, 0)], "no whole blocks of 32"),
        (vec![tensor("a", &[8], 0, 8)], "at a multiple of 32 bytes"),
        (vec![first.clone(), tensor("a", &[8], 0, 32)], "`a` twice"),
        (
            vec![tensor("a", &[9], 0, 0), tensor("b", &[8], 0, 32)],
            "`b` overlaps",
        ),
        (vec![tensor("a", &[1 << 20], 0, 0)], "is cut: "),
    ] {
        let mut bytes = file(tensors.len() as u64, 0, &tensors.concat());
        bytes.resize(bytes.len() + 256, 0);
        let message = refusal(&bytes);
        assert!(message.contains(part), "`{part}` in {message}");
    }
    let mut whole = file(2, 0, &[first, tensor("b", &[3, 2], 1, 32)].concat());
    whole.resize(whole.len() + 256, 0);
    let header = Header::read(&mut &whole[..], whole.len() as u64).unwrap();
    assert_eq!(header.tensors[1].shape, [2, 3]);
    assert_eq!(
        (header.tensors[1].bytes, header.tensors[1].numbers),
        (12, 6)
    );
    assert_eq!(header.tensors[1].start - header.tensors[0].start, 32);
    // Padding behind the last tensor may be missing.
    let end = header.tensors[1].start as usize + 12;
    assert!(Header::read(&mut &whole[..end], end as u64).is_ok());
    let message = refusal(&whole[..end - 1]);
    assert!(message.ends_with(&format!("{end} are wanted; fetch it again")));
}

#[test]
fn a_cut_file_is_told() {
    let whole = std::fs::read(fixture("voice.gguf")).unwrap();
    for length in (0..whole.len()).step_by(41) {
        refusal(&whole[..length]);
    }
    // Padding is the only thing that may be missing at the end.
    refusal(&whole[..whole.len() - 32]);
}

/// The metadata's `vibevoice.variant` tells which model a file has.
#[test]
fn variants_have_names() {
    let mut file = Gguf::open(&fixture("speech.gguf"), MODEL).unwrap();
    assert_eq!(file.text("vibevoice.variant").unwrap(), "1.5b");
    let variant = Value::Text("3b".into());
    let key = "vibevoice.variant".to_owned();
    file.header.metadata.insert(key, variant);
    let message = model::config(&file).unwrap_err().to_string();
    let part = "holds the variant `3b`; `1.5b`, `realtime-0.5b` and `asr-7b` are supported";
    assert!(message.ends_with(part), "{message}");
    let key = "vibevoice.variant".to_owned();
    let variant = Value::Text("asr-7b".into());
    file.header.metadata.insert(key, variant);
    let (member, config) = model::config(&file).unwrap();
    assert_eq!(member, crate::Member::Recognition);
    assert!(config.get("diffusion_head_config").is_none());
    file.header.metadata.remove("vibevoice.n_heads");
    let message = model::config(&file).unwrap_err().to_string();
    assert!(message.contains("lacks `vibevoice.n_heads`"), "{message}");
}
