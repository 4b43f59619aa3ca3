//! Arguments of `quantize`, and `--weights`.

use std::fs;

use super::{complaint, parse, refusal};
use crate::{Command, Project, QuantizedNumbers, WeightNumbers};

#[test]
fn a_quantized_model_takes_a_new_folder() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("model")).unwrap();
    let words = ["quantize", "--model", "model", "--out", "new"];
    let command = parse(&words).unwrap();
    command.check(&Project::at(dir)).unwrap();
    let Command::Quantize(args) = command else {
        panic!("another command")
    };
    assert_eq!(args.weights, QuantizedNumbers::Int8);
    for (words, start) in [
        (
            ["quantize", "--model", "gone", "--out", "new"],
            "cannot read gone: ",
        ),
        (
            ["quantize", "--model", "model", "--out", "model"],
            "cannot create model: ",
        ),
    ] {
        let (usage, message) = complaint(dir, &words);
        assert!(!usage && message.starts_with(start), "{message}");
    }
}

#[test]
fn weights_take_the_place_of_precision() {
    let speak = ["speak", "--model", "a", "--out", "b.wav"];
    let transcribe = ["transcribe", "--model", "a", "--audio", "b.wav"];
    for (name, expected) in [
        ("f32", WeightNumbers::F32),
        ("bf16", WeightNumbers::Bf16),
        ("int8", WeightNumbers::Int8),
        ("int4", WeightNumbers::Int4),
    ] {
        let flag = ["--weights", name];
        let Ok(Command::Speak(args)) = parse(&[&speak[..], &flag].concat()) else {
            panic!("{name}")
        };
        assert_eq!(args.dialogue.weights, Some(expected));
        let Ok(Command::Transcribe(args)) = parse(&[&transcribe[..], &flag].concat()) else {
            panic!("{name}")
        };
        assert_eq!(args.weights, Some(expected));
    }
    let both = ["--weights", "int8", "--precision", "bf16"];
    for words in [&speak[..], &transcribe] {
        let message = refusal(&[words, &both].concat());
        assert!(message.contains("cannot be used with"), "{message}");
    }
    let run = ["speak", "--out", "b.wav", "--weights", "int8"];
    assert!(refusal(&run).contains("required"));
}
