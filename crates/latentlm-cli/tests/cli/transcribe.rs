//! Transcripts by a published model. A reference case stands for one: its folder is as people have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::speech::refusals::cancelling;
use crate::{expect, latentlm};

fn case() -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join("vibevoice-asr-one")
}

fn transcribe(folder: &Path, audio: &Path, args: &[&str]) -> Command {
    let mut command = latentlm(folder, &["transcribe", "--model"]);
    command.arg(case()).arg("--audio").arg(audio).args(args);
    command
}

#[test]
fn a_recording_is_transcribed() {
    let dir = tempfile::tempdir().unwrap();
    let audio = case().join("audio.wav");
    let written = |args: &[&str]| {
        let output = transcribe(dir.path(), &audio, args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        (String::from_utf8(output.stdout).unwrap(), told)
    };
    let (json, told) = written(&["--format", "json", "--seed", "5"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(list.is_array(), "{json}");
    // At most one warning.
    assert!(told.lines().count() <= 1, "{told}");
    assert_eq!(written(&["--format", "json", "--seed", "5"]).0, json);
    let (srt, _) = written(&["--format", "srt", "--seed", "5"]);
    let count = list.as_array().map_or(0, Vec::len);
    assert_eq!(srt.matches(" --> ").count(), count, "{srt}");
    let (_, told) = written(&["--context", "Anna, Ben"]);
    assert!(told.starts_with("--seed "), "{told}");
}

#[test]
fn what_does_not_fit_is_refused_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let audio = dir.path().join("long.wav");
    // The model reads 512 positions of 40 samples.
    let samples = vec![0.1; 512 * 40];
    fs::write(&audio, latentlm_data::speech::wav_bytes(&samples, 24_000)).unwrap();
    let part = "the recording lasts 0.85 s; the model reads 512 positions";
    expect(&mut transcribe(dir.path(), &audio, &[]), 1, part);
    let against = dir.path().join("against.wav");
    fs::write(&against, cancelling()).unwrap();
    let part = "its channels cancel each other out";
    expect(&mut transcribe(dir.path(), &against, &[]), 1, part);
    let missing = ["--tokenizer", "long.wav"];
    expect(
        &mut transcribe(dir.path(), &case().join("audio.wav"), &missing),
        1,
        "no tokenizer",
    );
}
