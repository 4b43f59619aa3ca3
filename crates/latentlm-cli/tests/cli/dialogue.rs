//! Dialogues of a published model. A reference case stands for one: its folder is as people have it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use latentlm_data::speech::{read_audio, wav_bytes};
use safetensors::SafeTensors;

use crate::{expect, latentlm, wait_for};

/// Samples of a frame of the case's model.
pub const HOP: usize = 40;

pub fn case() -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    fixtures.join("vibevoice-generation-two")
}

pub fn speak(folder: &Path, script: &Path, args: &[&str]) -> Command {
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
    let silent = dir.join("silent.wav");
    fs::write(&silent, wav_bytes(&[], 24_000)).unwrap();
    let silent = ["--voice", silent.to_str().unwrap()];
    refused("one", &silent, "holds no sound");
    let missing = ["--tokenizer", "script.txt"];
    refused("one", &missing, "no tokenizer");
}

/// A copy of the case's folder, but for its weights.
fn without_weights(folder: &Path) -> PathBuf {
    let copy = folder.join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(case()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        if name != "model.safetensors" {
            fs::copy(&path, copy.join(name)).unwrap();
        }
    }
    copy
}

/// What does not fit is told before the weights are read: here they are missing.
#[test]
fn a_script_that_is_too_long_waits_for_no_weights() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = without_weights(dir);
    let say = |text: &str, part: &str| {
        fs::write(dir.join("script.txt"), text).unwrap();
        let mut command = latentlm(dir, &["speak", "--script", "script.txt", "--out", "a.wav"]);
        expect(command.arg("--model").arg(&model), 1, part);
    };
    say(&"word ".repeat(600), "the model reads 512: shorten");
    say("one", "model.safetensors is missing: 0 bytes are there");
    assert!(!dir.join("a.wav").exists());
}

/// Settings in a model's folder that no solver can follow: told before the weights are read, which are missing.
#[test]
fn absurd_settings_of_a_folder_are_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = without_weights(dir);
    fs::write(dir.join("script.txt"), "one").unwrap();
    let say = |settings: &str, args: &[&str], part: &str| {
        fs::write(model.join("generation_config.json"), settings).unwrap();
        let mut command = latentlm(dir, &["speak", "--script", "script.txt", "--out", "a.wav"]);
        expect(command.arg("--model").arg(&model).args(args), 1, part);
    };
    let steps = "solver steps must be in 1..1000, not ";
    say(r#"{"num_diffusion_steps": 0}"#, &[], steps);
    say(r#"{"num_diffusion_steps": 1000000000}"#, &[], steps);
    let guidance = "the guidance must be a number from -1000 to 1000, not ";
    say(r#"{"guidance_scale": 1e300}"#, &[], guidance);
    let missing = "model.safetensors is missing: 0 bytes are there";
    let settings = r#"{"num_diffusion_steps": 0, "guidance_scale": 1e300}"#;
    say(settings, &["--steps", "3", "--guidance", "2"], missing);
    assert!(!dir.join("a.wav").exists());
}

#[test]
fn weights_that_lead_to_no_numbers_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let model = without_weights(dir);
    let mut bytes = fs::read(case().join("model.safetensors")).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let (start, end) = metadata.info("lm_head.weight").unwrap().data_offsets;
    for number in bytes[8 + header..][start..end].chunks_exact_mut(4) {
        number.copy_from_slice(&f32::MAX.to_le_bytes());
    }
    fs::write(model.join("model.safetensors"), bytes).unwrap();
    fs::write(dir.join("script.txt"), "one").unwrap();
    let mut command = latentlm(dir, &["speak", "--script", "script.txt", "--out", "a.wav"]);
    let command = command.arg("--model").arg(&model);
    expect(command, 1, "the model's numbers are not finite");
}

#[test]
fn a_voice_of_nobody_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let script = case().join("script.txt");
    let voices = [voice(7, "voice0.wav"), voice(1, "voice1.wav")];
    let voices = [voices[0].as_str(), voices[1].as_str()];
    let args = [&voices[..], &["--frames", "1", "--seed", "1"]].concat();
    let (_, told) = said(dir.path(), &script, &args);
    assert_eq!(told.matches("the script has no speaker 7").count(), 1);
    assert_eq!(told.matches("speaker 0 has no --voice").count(), 1);
}

/// The model of the case reads 512 positions.
#[test]
fn a_full_context_cuts_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let script = case().join("script.txt");
    let (cut, told) = said(dir.path(), &script, &["--frames", "500", "--seed", "1"]);
    assert!(
        told.contains("the dialogue was cut: the model's context is full"),
        "{told}"
    );
    let frames = (cut.len() - 44) / (2 * HOP);
    assert!((300..500).contains(&frames), "{frames} frames");
}

/// Frames of [`long`].
const LONG_FRAMES: usize = 300;

/// A dialogue that takes seconds, once some of it has been written.
fn long(folder: &Path) -> Child {
    let frames = LONG_FRAMES.to_string();
    let mut command = latentlm(folder, &["speak", "--steps", "999", "--frames", &frames]);
    command.args(["--seed", "1", "--out", "said.wav", "--model"]);
    command.arg(case()).arg("--script");
    command.arg(case().join("script.txt"));
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for_frames(folder, 4);
    child
}

/// Waits until so many frames of `said.wav` are written.
pub fn wait_for_frames(folder: &Path, frames: usize) {
    let bytes = (44 + 2 * frames * HOP) as u64;
    wait_for("speech", || {
        let file = fs::metadata(folder.join("said.wav"));
        file.is_ok_and(|file| file.len() >= bytes)
    });
}

/// The header tells of the frames that are there.
#[test]
fn a_killed_dialogue_can_be_heard() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = long(dir.path());
    child.kill().unwrap();
    child.wait().unwrap();
    let heard = read_audio(&dir.path().join("said.wav")).unwrap();
    let frames = heard.samples.len() / HOP;
    // The header may be one frame behind.
    assert!((3..=LONG_FRAMES).contains(&frames), "{frames} frames");
    assert_eq!(heard.samples.len(), frames * HOP);
}

#[cfg(unix)]
#[test]
fn a_signal_ends_a_dialogue_with_a_whole_file() {
    for signal in ["-TERM", "-INT"] {
        let dir = tempfile::tempdir().unwrap();
        let child = long(dir.path());
        let mut kill = Command::new("kill");
        let id = child.id().to_string();
        assert!(kill.args([signal, &id]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        assert!(
            told.contains("the dialogue was cut: it was stopped"),
            "{told}"
        );
        let bytes = fs::read(dir.path().join("said.wav")).unwrap();
        let sound = bytes.len() - 44;
        assert_eq!(bytes[40..44], (sound as u32).to_le_bytes());
        assert_eq!(sound % (2 * HOP), 0);
        assert!(sound / (2 * HOP) < LONG_FRAMES, "{sound} bytes");
    }
}
