//! Dialogues of a published model. A reference case stands for one: its folder is as people have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{expect, latentlm};

/// Samples of a frame of the case's model.
const HOP: usize = 40;

fn case() -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join("vibevoice-generation-two")
}

fn speak(folder: &Path, script: &Path, args: &[&str]) -> Command {
    let mut command = latentlm(folder, &["speak", "--steps", "3", "--model"]);
    command.arg(case()).arg("--script").arg(script).args(args);
    command
}

/// The option for a voice of the case.
fn voice(speaker: u32, file: &str) -> String {
    format!("--voice={speaker}={}", case().join(file).display())
}

/// Bytes of the file that a command writes, and what it says beside it.
fn said(folder: &Path, script: &Path, args: &[&str]) -> (Vec<u8>, String) {
    let output = speak(folder, script, args)
        .args(["--out", "said.wav"])
        .output();
    let output = output.unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{told}");
    (fs::read(folder.join("said.wav")).unwrap(), told)
}

#[test]
fn a_dialogue_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let script = case().join("script.txt");
    let voices = [voice(0, "voice0.wav"), voice(1, "voice1.wav")];
    let voices = [voices[0].as_str(), voices[1].as_str()];
    let with = |more: &[&str]| said(dir, &script, &[&voices[..], more].concat());
    let (first, told) = with(&["--frames", "7", "--seed", "5"]);
    assert_eq!(first.len(), 44 + 2 * 7 * HOP);
    let sizes = [&first[4..8], &first[40..44]].map(|b| u32::from_le_bytes(b.try_into().unwrap()));
    assert_eq!(
        sizes.map(|size| size as usize),
        [first.len() - 8, first.len() - 44]
    );
    assert!(
        !told.contains("was cut") && !told.contains("no --voice"),
        "{told}"
    );
    assert!(first[44..].iter().any(|byte| *byte != 0), "silence");
    // The voices are less than a second long, which is told.
    assert_eq!(told.matches("hardly a voice").count(), 2, "{told}");

    assert!(
        first == with(&["--frames", "7", "--seed", "5"]).0,
        "the same seed"
    );
    assert!(
        first != with(&["--frames", "7", "--seed", "6"]).0,
        "another seed"
    );
    let swapped = [voice(1, "voice0.wav"), voice(0, "voice1.wav")];
    let swapped = [swapped[0].as_str(), swapped[1].as_str()];
    let frames = ["--frames", "7", "--seed", "5"];
    let other = said(dir, &script, &[&swapped[..], &frames].concat());
    assert!(first != other.0, "voices of the other speakers");
    let (alone, told) = said(dir, &script, &[&voices[..1], &frames].concat());
    assert!(
        first != alone && told.contains("speaker 1 has no --voice"),
        "{told}"
    );

    let output = speak(
        dir,
        &script,
        &[&voices[..], &frames, &["--out", "-"]].concat(),
    )
    .output();
    assert!(
        first[44..] == output.unwrap().stdout[44..],
        "the same on standard output"
    );
    // As long as the model likes, and no longer than asked for.
    let (cut, _) = with(&["--max-seconds", "0.005"]);
    assert!(cut.len() <= 44 + 2 * 3 * HOP, "{} bytes", cut.len());
}

#[test]
fn a_listener_may_leave() {
    let dir = tempfile::tempdir().unwrap();
    let script = case().join("script.txt");
    let mut child = speak(dir.path(), &script, &["--frames", "200", "--out", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("cut"), "{told}");
}

#[test]
fn what_cannot_be_said_is_told_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let script = dir.join("script.txt");
    let out = ["--out", "none.wav"];
    let refused = |text: &str, args: &[&str], part: &str| {
        fs::write(&script, text).unwrap();
        expect(
            &mut speak(dir, &script, &[&out[..], args].concat()),
            1,
            part,
        );
        assert!(!dir.join("none.wav").exists(), "{part}");
    };
    refused("Speaker 1:\n", &[], "the script has no words");
    let five: String = (1..6).map(|n| format!("Speaker {n}: one\n")).collect();
    refused(&five, &[], "5 speakers; 4 can speak at most");
    refused(&"word ".repeat(600), &[], "the model reads 512: shorten");
    let voice = case().join("voice0.wav");
    let voice = ["--voice", voice.to_str().unwrap()];
    refused("Speaker 1: a\nSpeaker 2: b", &voice, "several speakers");
    let missing = ["--tokenizer", "script.txt"];
    refused("one", &missing, "no tokenizer");
}
