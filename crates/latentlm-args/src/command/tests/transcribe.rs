//! Arguments of `transcribe`.

use super::*;
use crate::Transcript;

#[test]
fn a_transcript_has_a_model_and_a_recording() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for file in ["model", "a.wav", "t.json"] {
        fs::write(dir.join(file), "").unwrap();
    }
    let words = ["transcribe", "--model", "model", "--audio", "a.wav"];
    let command = parse(&words).unwrap();
    command.check(&Project::at(dir)).unwrap();
    let Command::Transcribe(args) = command else {
        panic!("another command");
    };
    assert_eq!((args.seed, args.format), (None, Transcript::Text));
    let json = ["--tokenizer", "t.json", "--format", "json", "--seed", "3"];
    let command = parse(&[&words[..], &json].concat()).unwrap();
    command.check(&Project::at(dir)).unwrap();
    for missing in [
        ["transcribe", "--model", "gone", "--audio", "a.wav"],
        ["transcribe", "--model", "model", "--audio", "gone"],
    ] {
        let (usage, message) = complaint(dir, &missing);
        assert!(
            !usage && message.starts_with("cannot read gone: "),
            "{message}"
        );
    }
    let (usage, message) = complaint(dir, &[&words[..], &["--device", "tpu"]].concat());
    assert!(usage && message.contains("no device `tpu`"), "{message}");
}
