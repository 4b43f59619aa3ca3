//! Texts that a published Realtime model speaks while they arrive. A reference case stands for the model.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::dialogue::{HOP, case, speak, wait_for_frames};
use crate::{expect, latentlm};

fn realtime() -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join("vibevoice-realtime-one")
}

/// A command that speaks with the Realtime case's model; the voice is a path or a name in its folder.
fn speak_realtime(folder: &Path, voice: &str, args: &[&str]) -> Command {
    let mut command = latentlm(folder, &["speak", "--out", "said.wav", "--model"]);
    command.arg(realtime()).arg("--voice");
    command.arg(realtime().join(voice)).args(args);
    command
}

/// The same text and seed give the same sound: at once, on standard input at once or word by word, and with the
/// voice in the other format.
#[test]
fn a_text_is_spoken_while_it_arrives() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = "Hello, it\u{2019}s one two three four.";
    let frames = ["--frames", "40", "--seed", "3"];
    let said = |command: &mut Command, input: &[&str]| {
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for part in input {
            stdin.write_all(part.as_bytes()).unwrap();
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        fs::read(dir.join("said.wav")).unwrap()
    };
    let at_once = [&frames[..], &["--text", text]].concat();
    let first = said(&mut speak_realtime(dir, "voice.pt", &at_once), &[]);
    assert_eq!(first.len(), 44 + 2 * 40 * HOP);
    assert!(first[44..].iter().any(|byte| *byte != 0), "silence");
    let piped = said(&mut speak_realtime(dir, "voice.pt", &frames), &[text]);
    assert!(first == piped, "on standard input");
    let words: Vec<&str> = text.split_inclusive(' ').collect();
    let piped = said(&mut speak_realtime(dir, "voice.pt", &frames), &words);
    assert!(first == piped, "word by word");

    // There is sound before there is all of the text.
    let mut command = speak_realtime(dir, "voice.pt", &frames);
    fs::remove_file(dir.join("said.wav")).unwrap();
    command.stdin(Stdio::piped());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (begin, rest) = text.split_at(text.find(" three").unwrap());
    stdin.write_all(begin.as_bytes()).unwrap();
    // A window of speech.
    wait_for_frames(dir, 6);
    assert!(child.try_wait().unwrap().is_none(), "it waits for more");
    stdin.write_all(rest.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert!(first == fs::read(dir.join("said.wav")).unwrap(), "in parts");

    let converted = dir.join("voice.safetensors");
    let mut convert = latentlm(dir, &["convert-voice"]);
    convert.arg(realtime().join("voice.pt")).arg(&converted);
    assert!(convert.output().unwrap().status.success());
    let voice = converted.to_str().unwrap();
    let other = said(&mut speak_realtime(dir, voice, &at_once), &[]);
    assert!(first == other, "the voice as safetensors");
}

/// As a dialogue has them.
#[test]
fn a_realtime_model_draws_a_seed_and_has_solvers() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let said = |more: &[&str]| {
        let same = ["--frames", "4", "--text", "one two"];
        let args = [&same[..], more].concat();
        let output = speak_realtime(dir, "voice.pt", &args).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        (fs::read(dir.join("said.wav")).unwrap(), told)
    };
    let (first, told) = said(&[]);
    let seed = told.lines().find_map(|line| line.strip_prefix("--seed "));
    let seed = seed.expect("the seed is told");
    let (again, silent) = said(&["--seed", seed]);
    assert!(first == again && !silent.contains("--seed"), "{silent}");
    let (noisy, _) = said(&["--seed", seed, "--sampler", "sde"]);
    assert!(first != noisy, "the same sound");
}

#[test]
fn the_wrong_kind_of_voice_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let recording = case().join("voice0.wav");
    let recording = recording.to_str().unwrap();
    let text = ["--text", "one"];
    expect(
        &mut speak_realtime(dir, recording, &text),
        1,
        "the encoder is not published",
    );
    let mut none = latentlm(
        dir,
        &["speak", "--out", "said.wav", "--text", "a", "--model"],
    );
    expect(none.arg(realtime()), 1, "speaks with one saved voice");
    let script = case().join("script.txt");
    let saved = realtime().join("voice.pt");
    let saved = format!("--voice=0={}", saved.display());
    let mut dialogue = speak(dir, &script, &["--out", "said.wav", &saved]);
    expect(&mut dialogue, 1, "reads a recording of a voice");
    let mut nothing = speak_realtime(dir, "voice.pt", &["--text", "  "]);
    expect(&mut nothing, 1, "the text is empty");
    let mut unscripted = latentlm(
        dir,
        &["speak", "--out", "said.wav", "--text", "a", "--model"],
    );
    expect(unscripted.arg(case()), 2, "give --script");
    assert!(!dir.join("said.wav").exists());
}
