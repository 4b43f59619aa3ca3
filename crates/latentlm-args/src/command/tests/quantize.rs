//! Arguments of `quantize`, and `--weights`.

use std::fs;

use super::{complaint, parse, refusal};
use crate::{CacheType, Command, Project, QuantizedNumbers, WeightNumbers};

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

#[test]
fn other_models_and_caches_have_types_too() {
    let weights = ["--weights", "int4"];
    let image = ["sample-image", "--grid", "--out", "b.png"];
    let Ok(Command::SampleImage(args)) = parse(&[&image[..], &weights].concat()) else {
        panic!("weights of a run")
    };
    assert_eq!(args.weights, Some(WeightNumbers::Int4));
    let both = ["--weights", "int8", "--precision", "bf16"];
    let message = refusal(&[&image[..], &both].concat());
    assert!(message.contains("cannot be used with"), "{message}");
    for (name, expected) in [
        ("f32", CacheType::F32),
        ("bf16", CacheType::Bf16),
        ("int8", CacheType::Int8),
    ] {
        let cache = ["--kv-cache", name];
        let speak = ["speak", "--model", "a", "--out", "b.wav"];
        let Ok(Command::Speak(args)) = parse(&[&speak[..], &cache].concat()) else {
            panic!("{name}")
        };
        assert_eq!(args.dialogue.kv_cache, Some(expected));
        let transcribe = ["transcribe", "--model", "a", "--audio", "b.wav"];
        let Ok(Command::Transcribe(args)) = parse(&[&transcribe[..], &cache].concat()) else {
            panic!("{name}")
        };
        assert_eq!(args.kv_cache, Some(expected));
        let words = [&["bench-decode"][..], &cache, &weights].concat();
        let Ok(Command::BenchDecode(args)) = parse(&words) else {
            panic!("{name}")
        };
        assert_eq!(args.kv_cache, Some(expected));
        assert_eq!(args.weights, Some(WeightNumbers::Int4));
    }
    let run = ["speak", "--out", "b.wav", "--kv-cache", "int8"];
    assert!(refusal(&run).contains("required"));
}

#[test]
fn runs_are_measured_with_weights_of_each_type() {
    for command in ["eval-image", "eval-tts", "eval-mllm", "eval-video"] {
        let weights = |flags: &[&str]| match parse(&[&[command][..], flags].concat()) {
            Ok(Command::EvalImage(args)) => args.weights,
            Ok(Command::EvalTts(args)) => args.weights,
            Ok(Command::EvalMllm(args)) => args.weights,
            Ok(Command::EvalVideo(args)) => args.weights,
            other => panic!("{command} {flags:?}: {other:?}"),
        };
        assert_eq!(weights(&[]), None, "{command}");
        for (name, expected) in [
            ("f32", WeightNumbers::F32),
            ("bf16", WeightNumbers::Bf16),
            ("int8", WeightNumbers::Int8),
            ("int4", WeightNumbers::Int4),
        ] {
            assert_eq!(weights(&["--weights", name]), Some(expected), "{command}");
        }
        let both = [command, "--weights", "int8", "--precision", "bf16"];
        let message = refusal(&both);
        assert!(message.contains("cannot be used with"), "{message}");
    }
}
