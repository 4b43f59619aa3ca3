//! Dialogues of a published model. A reference case stands for one: its folder is as people have it.

use std::fs;
use std::io::Write;
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

/// What nobody has asked for is drawn, and told so that it can be asked for.
#[test]
fn a_seed_is_drawn_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let script = case().join("script.txt");
    let say = |more: &[&str]| said(dir.path(), &script, &[&["--frames", "4"], more].concat());
    let (first, told) = say(&[]);
    let seed = told.lines().find_map(|line| line.strip_prefix("--seed "));
    let seed = seed.expect("the seed is told");
    let (again, silent) = say(&["--seed", seed]);
    assert!(first == again && !silent.contains("--seed"), "{silent}");
    assert!(first != say(&[]).0, "another seed");
}

#[test]
fn a_solver_is_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let script = case().join("script.txt");
    let say = |more: &[&str]| {
        let same = ["--frames", "4", "--seed", "1"];
        said(dir.path(), &script, &[&same[..], more].concat()).0
    };
    let default = say(&[]);
    assert!(default == say(&["--sampler", "dpm"]), "the default");
    let noisy = say(&["--sampler", "sde"]);
    assert!(noisy == say(&["--sampler", "sde"]), "noise of the seed");
    assert!(default != noisy, "the same sound");
}

/// The original's folder of the same weights says the same.
#[test]
fn the_originals_format_is_spoken() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let script = case().join("script.txt");
    let original = case().with_file_name("vibevoice-original-two");
    let flags = ["--frames", "4", "--seed", "1", "--steps", "3"];
    let speak_original = |folder: &Path| {
        let mut command = latentlm(dir, &["speak", "--out", "said.wav", "--model"]);
        command.arg(folder).arg("--script").arg(&script).args(flags);
        command
    };
    let output = speak_original(&original).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    let sound = fs::read(dir.join("said.wav")).unwrap();
    let (expected, _) = said(dir, &script, &flags[..4]);
    assert!(sound == expected, "another sound");

    let published = dir.join("published");
    fs::create_dir(&published).unwrap();
    for entry in fs::read_dir(&original).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "tokenizer.json" {
            fs::copy(&path, published.join(name)).unwrap();
        }
    }
    let part = "of Qwen/Qwen2.5-1.5B and put it there, or name it with --tokenizer";
    expect(&mut speak_original(&published), 1, part);
    let mut named = speak_original(&published);
    named
        .arg("--tokenizer")
        .arg(original.join("tokenizer.json"));
    assert!(named.output().unwrap().status.success());
    assert!(fs::read(dir.join("said.wav")).unwrap() == expected);
}

/// Nothing in a pipe can be changed later: its header leaves the length open.
#[cfg(unix)]
#[test]
fn a_named_pipe_is_a_stream() {
    use std::io::Read;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let script = case().join("script.txt");
    let flags = ["--frames", "4", "--seed", "1"];
    let (file, _) = said(dir, &script, &flags);
    let pipe = dir.join("pipe");
    assert!(
        Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    // Opened for both, a pipe waits for nobody, and the short sound fits into its buffer.
    let mut listener = fs::File::options()
        .read(true)
        .write(true)
        .open(&pipe)
        .unwrap();
    let output = speak(dir, &script, &[&flags[..], &["--out", "pipe"]].concat()).output();
    let output = output.unwrap();
    assert!(
        output.status.success() && output.stdout.is_empty(),
        "{output:?}"
    );
    let mut heard = vec![0; 1 << 16];
    let count = listener.read(&mut heard).unwrap();
    assert_eq!(count, file.len());
    assert_eq!(heard[40..44], [255; 4], "an open length");
    assert!(heard[44..count] == file[44..], "another sound");
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
