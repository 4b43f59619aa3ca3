//! Tests of the speech commands: texts from all sources, the codec, voices, and wrong input.

pub mod refusals;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use latentlm_data::speech::{wav_bytes, write_wav};

use crate::{BINARY, expect, latentlm};

/// Samples per latent.
const HOP: usize = 640;
const RATE: u32 = 16_000;
/// Latents at which speech is cut: 0.4 s.
const LONGEST: usize = 10;
/// A voice that trains in seconds. The learning rate is so high that it learns one thing: speech
/// does not end at its first latent.
pub const TINY: [&str; 29] = [
    "data.path=corpus",
    // One of six recordings is broken.
    "data.max_broken=1",
    "data.composed=0",
    "data.codec_seconds=0.2",
    "data.pack_positions=200",
    "data.max_seconds=2.0",
    "text.tokenizer=characters",
    "codec.ratios=[4, 4, 5, 8]",
    "codec.width=2",
    "codec.widths=[]",
    "codec.latent_dim=4",
    "codec.frames_per_latent=1",
    "codec.depths=[0, 1, 0, 0, 1]",
    "codec_loss.windows=[64, 256]",
    "codec_loss.mel_bands=[4, 8]",
    "codec_train.steps=2",
    "codec_train.batch_size=2",
    "codec_train.warmup_steps=2",
    "lm.width=32",
    "lm.depth=1",
    "lm.heads=2",
    "lm.kv_heads=1",
    "lm.head_depth=1",
    "lm_train.steps=20",
    "lm_train.warmup_steps=2",
    "lm_train.learning_rate=0.01",
    "lm_train.ema_decay=0.0",
    "sample.steps=2",
    "sample.max_seconds=0.4",
];

fn tone(rate: u32, seconds: f64) -> Vec<f32> {
    let count = (f64::from(rate) * seconds) as usize;
    let turn = std::f32::consts::TAU * 300.0 / rate as f32;
    (0..count).map(|i| 0.2 * (i as f32 * turn).sin()).collect()
}

/// Six recordings, one of them broken.
pub fn corpus(folder: &Path) {
    fs::create_dir(folder).unwrap();
    let mut lines = String::new();
    for index in 0..6 {
        let split = if index == 5 { "test" } else { "train" };
        let name = format!("{index}.wav");
        write_wav(&folder.join(&name), &tone(RATE, 1.0), RATE).unwrap();
        lines +=
            &format!(r#"{{"audio": "{name}", "text": "one two, three.", "split": "{split}"}}"#);
        lines += "\n";
    }
    fs::write(folder.join("metadata.jsonl"), lines).unwrap();
    fs::write(folder.join("2.wav"), "no sound").unwrap();
}

fn speak(folder: &Path, args: &[&str]) -> Command {
    let mut command = latentlm(folder, &["speak"]);
    command.args(args);
    command
}

/// The bytes of the WAV file that a command writes.
fn said(folder: &Path, args: &[&str]) -> Vec<u8> {
    let output = speak(folder, args).args(["--out", "said.wav"]).output();
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    fs::read(folder.join("said.wav")).unwrap()
}

#[test]
fn a_voice_speaks_and_refuses_what_it_cannot_say() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    corpus(&dir.join("corpus"));
    let train = ["train-tts", "--progress", "silent"];
    let output = latentlm(dir, &train).args(TINY).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("left out corpus/2.wav: "), "{text}");
    let list = fs::read_to_string(dir.join("runs/voice/skipped.txt")).unwrap();
    assert!(list.starts_with("corpus/2.wav\tis no "), "{list}");
    assert_eq!(list.lines().count(), 1);
    let again = latentlm(dir, &train).arg("--resume").output().unwrap();
    let text = String::from_utf8_lossy(&again.stdout);
    assert_eq!(text.matches("left out ").count(), 1, "{text}");

    the_same_is_said_from_every_source(dir);
    long_text_is_said_in_sentences(dir);
    standard_output_is_a_stream(dir);
    each_line_gets_its_file(dir);
    sound_goes_through_the_codec(dir);
    refusals::wrong_texts_exit_with_2(dir);
    refusals::voices_of_any_rate_are_taken(dir);
    refusals::unheard_words_are_named(dir);
    refusals::broken_voices_are_named(dir);
    full_disks_leave_nothing_behind(dir);
    broken_files_of_the_codec_are_named(dir);
    pipes_take_sound_and_latents(dir);
}

fn the_same_is_said_from_every_source(dir: &Path) {
    let argument = said(dir, &["--text", "two one", "--seed", "4"]);
    assert!(argument.len() > 44 + 2 * HOP, "something is said");
    assert_eq!(argument, said(dir, &["--text", "two one", "--seed", "4"]));
    assert_ne!(argument, said(dir, &["--text", "two one", "--seed", "5"]));
    fs::write(dir.join("text.txt"), "two one\n").unwrap();
    assert_eq!(argument, said(dir, &["--file", "text.txt", "--seed", "4"]));
    let mut child = speak(dir, &["--seed", "4", "--out", "piped.wav"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b" two one \n")
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(argument, fs::read(dir.join("piped.wav")).unwrap());
}

/// Each sentence has its own seed; between sentences is a quarter of a second of silence.
fn long_text_is_said_in_sentences(dir: &Path) {
    let first = "one two, three. ".repeat(7);
    let second = "two one three two one. ".repeat(3);
    let both = said(dir, &["--text", &(first.clone() + &second), "--seed", "2"]);
    let parts = [
        said(dir, &["--text", &first, "--seed", "2"]),
        said(dir, &["--text", &second, "--seed", "3"]),
    ];
    let pause = vec![0; 2 * RATE as usize / 4];
    let joined = [&parts[0][44..], &pause, &parts[1][44..]].concat();
    assert!(both[44..] == joined, "{} and {}", both.len(), joined.len());
}

fn standard_output_is_a_stream(dir: &Path) {
    let file = said(dir, &["--text", "three"]);
    let output = speak(dir, &["--text", "three", "--out", "-"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    // Speech of the largest length was cut, and a line on standard error says so.
    let told = if file.len() == 44 + 2 * LONGEST * HOP {
        "1 of 1 sentences did not end by themselves and were cut at 0.4 s (sample.max_seconds)\n"
    } else {
        ""
    };
    assert_eq!(String::from_utf8_lossy(&output.stderr), told);
    let stream = output.stdout;
    assert_eq!(
        (&stream[..4], &stream[40..44]),
        (&b"RIFF"[..], &[0xff; 4][..])
    );
    assert_eq!(stream[44..], file[44..]);

    // The reader has closed the pipe. Closed after its start, the command could be faster, and tell that it cut.
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = speak(dir, &["--text", "three", "--out", "-"]);
    let output = command.stdout(writer).output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}

/// Samples of a WAV file.
fn levels(path: &Path) -> Vec<i16> {
    let bytes = fs::read(path).unwrap();
    let words = bytes[44..].chunks_exact(2);
    words.map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
}

/// A line that is spoken together with others sounds as if it were spoken alone, with the seed of its place.
/// Products of more rows add numbers in another order: differences of 16 levels of 65,536 are allowed.
fn each_line_gets_its_file(dir: &Path) {
    let texts = ["two one", "three", "one two, three."];
    fs::write(dir.join("lines.txt"), texts.join(" \n\n ")).unwrap();
    let each = |args: &[&str], out: &str| {
        let mut command = speak(dir, args);
        command.args(["--each", "--seed", "3", "--out", out]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let told = each(&["--file", "lines.txt"], "spoken");
    assert_eq!(told.lines().count(), 3, "{told}");
    assert_eq!(fs::read_dir(dir.join("spoken")).unwrap().count(), 3);
    let [first, second, third] = texts;
    let args = ["--text", first, "--text", second, "--text", third];
    each(&args, "again");
    for ((text, seed), number) in texts.into_iter().zip(3..).zip(1..) {
        let name = format!("00{number}.wav");
        // Empty lines count.
        let line = format!("00{}.wav", 2 * number - 1);
        assert!(told.contains(&format!("{line}: ")), "{told}");
        said(dir, &["--text", text, "--seed", &format!("{seed}")]);
        let alone = levels(&dir.join("said.wav"));
        let within = levels(&dir.join("spoken").join(&line));
        assert_eq!(within, levels(&dir.join("again").join(&name)), "{name}");
        assert_eq!(within.len(), alone.len(), "{name}");
        let pairs = within.iter().zip(&alone);
        let error = pairs.map(|(a, b)| a.abs_diff(*b)).max();
        assert!(error < Some(16), "{name}: {error:?}");
    }

    let refuse = |args: &[&str], code: i32, part: &str| {
        expect(speak(dir, &["--each"]).args(args), code, part);
    };
    refuse(&["--text", "one", "--out", "-"], 1, "name a folder");
    refuse(&["--text", " ", "--out", "none"], 2, "nothing to say");
    let late = ["--text", "one", "--text", "seven", "--out", "none"];
    refuse(&late, 2, "outside the vocabulary");
    assert!(!dir.join("none").exists());
    let file = ["--text", "one", "--out", "said.wav"];
    refuse(&file, 1, "cannot write said.wav: ");
}

#[cfg(not(unix))]
fn pipes_take_sound_and_latents(_: &Path) {}

/// A pipe takes what a file gets, and is a pipe afterwards.
#[cfg(unix)]
fn pipes_take_sound_and_latents(dir: &Path) {
    use std::io::Read;

    let codec = |args: &[&str]| {
        let output = latentlm(dir, &["codec"]).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output
    };
    let made = Command::new("mkfifo").arg(dir.join("pipe")).status();
    assert!(made.unwrap().success());
    // Opened for both, a pipe waits for nobody, and half a second fits into its buffer.
    let mut both = fs::File::options();
    let mut reader = both.read(true).write(true).open(dir.join("pipe")).unwrap();
    for (command, input, file) in [
        ("encode", "sound.wav", "sound.safetensors"),
        ("decode", "sound.safetensors", "decoded.wav"),
        ("reconstruct", "sound.wav", "again.wav"),
    ] {
        codec(&[command, input, file]);
        let output = codec(&[command, input, "pipe"]);
        // Standard output may be the pipe.
        assert!(output.stdout.is_empty(), "{output:?}");
        let mut bytes = vec![0; 1 << 16];
        let count = reader.read(&mut bytes).unwrap();
        assert!(
            bytes[..count] == fs::read(dir.join(file)).unwrap(),
            "{file}"
        );
    }
    let missing = ["codec", "decode", "sound.safetensors", "nowhere/a.wav"];
    let told = "cannot write in nowhere: ";
    expect(&mut latentlm(dir, &missing), 1, told);
}

/// `encode` and `decode` through a file give the same sound as `reconstruct`.
fn sound_goes_through_the_codec(dir: &Path) {
    let codec = |args: &[&str]| {
        let output = latentlm(dir, &["codec"]).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    write_wav(&dir.join("sound.wav"), &tone(RATE, 0.5), RATE).unwrap();
    let told = codec(&["encode", "sound.wav", "sound.safetensors"]);
    assert!(told.contains("13 latents of 4"), "{told}");
    let told = codec(&["decode", "sound.safetensors", "decoded.wav"]);
    assert!(told.contains("decoded.wav: 0.52 s"), "{told}");
    let told = codec(&["reconstruct", "sound.wav", "again.wav"]);
    for part in ["again.wav: 0.50 s", "mel distance ", "SI-SDR "] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let decoded = levels(&dir.join("decoded.wav"));
    let again = levels(&dir.join("again.wav"));
    assert_eq!((decoded.len(), again.len()), (13 * HOP, 8000));
    assert!(decoded[..8000] == again[..], "not the same sound");
    assert!(again.iter().any(|level| *level != 0), "silence");
}

#[cfg(not(target_os = "linux"))]
fn full_disks_leave_nothing_behind(_: &Path) {}

/// A full disk, simulated by a limit on the size of files and by `/dev/full`.
#[cfg(target_os = "linux")]
fn full_disks_leave_nothing_behind(dir: &Path) {
    let files = || fs::read_dir(dir).unwrap().count();
    let before = (files(), fs::read(dir.join("said.wav")).unwrap());
    let script = format!(
        "trap '' XFSZ; ulimit -f 0; exec {BINARY} speak --text one --seed 9 --out said.wav"
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).current_dir(dir);
    expect(&mut shell, 1, "cannot write said.wav: ");
    let after = (files(), fs::read(dir.join("said.wav")).unwrap());
    assert!(before == after, "what was there before stays");
    let out = |path: &'static str| ["--text", "one", "--out", path];
    expect(
        &mut speak(dir, &out("/dev/full")),
        1,
        "cannot write /dev/full: ",
    );
    assert!(Path::new("/dev/full").exists(), "and is no file now");
    expect(
        &mut speak(dir, &out("nowhere/a.wav")),
        1,
        "cannot write in nowhere: ",
    );
    expect(&mut speak(dir, &out("corpus")), 1, "cannot write corpus: ");
}

fn broken_files_of_the_codec_are_named(dir: &Path) {
    for (command, input, part) in [
        ("encode", "empty.wav", "empty.wav: is an empty file"),
        ("reconstruct", "header.wav", "header.wav: is cut short"),
        ("encode", "against.wav", "cancel each other out"),
        ("reconstruct", "against.wav", "cancel each other out"),
        ("decode", "text.wav", "text.wav: no file of latents"),
        (
            "decode",
            "gone.safetensors",
            "cannot read gone.safetensors: ",
        ),
    ] {
        let output = if command == "encode" {
            "none.safetensors"
        } else {
            "none.wav"
        };
        let args = ["codec", command, input, output];
        expect(&mut latentlm(dir, &args), 1, part);
        assert!(!dir.join(output).exists());
    }
    // The recording would be lost.
    let args = ["codec", "encode", "corpus/0.wav", "corpus/0.wav"];
    let part = "cannot write a file of latents to `corpus/0.wav`";
    expect(&mut latentlm(dir, &args), 2, part);
    if Path::new("/dev/zero").exists() {
        let args = ["codec", "decode", "/dev/zero", "none.wav"];
        let part = "cannot read /dev/zero: it has more than 268435456 bytes";
        expect(&mut latentlm(dir, &args), 1, part);
    }
    expect(
        &mut latentlm(
            dir,
            &[
                "data",
                "espeak",
                "--out",
                "synthetic",
                "--program",
                "no-such-program",
            ],
        ),
        1,
        "is not installed",
    );
    assert!(!dir.join("synthetic").exists(), "nothing was spoken");
}
