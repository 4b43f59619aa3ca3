//! Tests of the built `xtask` from outside: what needs no binary is answered within a second, and nothing is built.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);
/// The fastest of so many tries counts: the machine may be busy with other tests.
const TRIES: usize = 5;
/// Name of a run that is not there.
const NOBODY: &str = "no-run-has-this-name";

/// Exit code and output of a command. It takes less than a second, and neither starts cargo nor makes a file.
fn answer(words: &[&str]) -> (Option<i32>, String) {
    let target = tempfile::tempdir().unwrap();
    let (mut code, mut told, mut fastest) = (None, String::new(), Duration::MAX);
    for _ in 0..TRIES {
        let begun = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .args(words)
            // A build would fail with this name.
            .env("CARGO", target.path().join("no-cargo"))
            .env("CARGO_TARGET_DIR", target.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        fastest = fastest.min(begun.elapsed());
        code = output.status.code();
        told = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat();
        if fastest < SECOND {
            break;
        }
    }
    assert!(fastest < SECOND, "{words:?}: {fastest:?}");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0, "{words:?}");
    (code, told)
}

fn refuse(words: &[&str], code: i32, part: &str) {
    let (got, told) = answer(words);
    assert!(told.contains(part), "{words:?}: {told}");
    assert_eq!(got, Some(code), "{words:?}: {told}");
    assert!(!told.contains("building"), "{words:?}: {told}");
    let lines = told.lines().filter(|line| line.starts_with("error"));
    assert_eq!(lines.count(), 1, "{words:?}: {told}");
}

#[test]
fn help_is_there_at_once() {
    for words in [
        &["--help"][..],
        &["train-image", "--help"],
        &["speak", "--help"],
        &["data", "check", "--help"],
        &["fork", "--help"],
    ] {
        let (code, told) = answer(words);
        assert_eq!(code, Some(0), "{words:?}: {told}");
        assert!(told.contains("Usage: cargo xtask"), "{words:?}: {told}");
    }
}

#[test]
fn wrong_words_are_refused_at_once() {
    refuse(&["trian-image"], 2, "'trian-image'");
    refuse(&["train-image", "--stepz", "3"], 2, "'--stepz'");
    let guidance = ["speak", "--out", "a.wav", "--guidance", "nan"];
    refuse(&guidance, 2, "invalid value 'nan'");
    for (change, part) in [
        ("lm.widht=9", "did you mean `lm.width`?"),
        ("lm.width=0", "`lm.width` must be a whole number"),
        ("lm.width", "of the form key=value"),
    ] {
        refuse(&["train-image", "--run", NOBODY, change], 2, part);
    }
}

/// For every flag that takes a path. The model's folder is one that is there, and is read by the binary.
#[test]
fn paths_are_refused_at_once() {
    let train = ["train-image", "--run", NOBODY];
    let config = [&train[..], &["--config", "gone.toml"]].concat();
    refuse(&config, 2, "gone.toml");
    let data = [&train[..], &["data.path=gone"]].concat();
    refuse(&data, 1, "cannot open the dataset gone: ");
    let run = ["eval-image", "--run", NOBODY];
    refuse(&run, 1, "is no run");
    refuse(&["data", "check", "gone"], 1, "the dataset gone: ");
    refuse(&["verify-reference", "gone"], 1, "cannot read gone: ");
    let voice = ["convert-voice", "gone.pt", "a.safetensors"];
    refuse(&voice, 1, "cannot read gone.pt: ");
    let model = ["--model", "tests/fixtures"];
    let audio = ["transcribe", "--model", "tests/fixtures", "--audio", "gone"];
    refuse(&audio, 1, "cannot read gone: ");
    let speak = [&["speak"][..], &model].concat();
    let script = ["--script", "README.md"];
    for (flags, part) in [
        (&["--out", "a.wav", "--script", "gone"][..], "read gone: "),
        (&["--out", "a.wav", "--voice", "1=gone"], "read gone: "),
        (&["--out", "a.wav", "--tokenizer", "gone"], "read gone: "),
        (&["--out", "a.wav", "--voice", "docs"], "read docs: "),
        (&["--out", "gone/a.wav"], "cannot write in gone: "),
        (&["--out", "docs"], "cannot write docs: "),
    ] {
        let mut words = [&speak[..], flags].concat();
        if !flags.contains(&"--script") {
            words.extend(script);
        }
        refuse(&words, 1, part);
    }
    let other = ["speak", "--model", "gone", "--out", "a.wav"];
    refuse(&other, 1, "cannot read gone: ");
    let below = "README.md/a";
    let made = ["make-model", "vibevoice-1.5b", "--out", below];
    refuse(&made, 1, "cannot write in README.md: ");
    let corpus = ["data", "espeak", "--out", "README.md"];
    refuse(&corpus, 1, "cannot write README.md: ");
    let program = ["data", "espeak", "--out", "new", "--program", "gone/espeak"];
    refuse(&program, 1, "cannot run gone/espeak: ");
    refuse(
        &["build", "--pack", below],
        1,
        "cannot write in README.md: ",
    );
}

#[test]
fn devices_are_refused_at_once() {
    let unknown = ["train-image", "--run", NOBODY, "--device", "tpu"];
    refuse(&unknown, 2, "no device `tpu`");
    for device in ["cuda", "vulkan", "wgpu"] {
        let (code, told) = answer(&["bench-decode", "--device", device]);
        // Where the driver is installed, the build begins.
        if !told.contains("no-cargo") {
            let start = format!("error: no {device} adapter: ");
            assert!(told.starts_with(&start), "{told}");
            assert_eq!((code, told.lines().count()), (Some(2), 1), "{told}");
        }
    }
}
