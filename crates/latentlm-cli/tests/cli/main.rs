//! Tests of the binary from outside: wrong input gives one clear line and the right exit code, and no
//! checkpoint is lost, however a run ends.

mod clips;
#[cfg(feature = "compare")]
mod codes;
mod dialogue;
mod earlier;
mod kills;
mod mllm;
mod output;
mod pictures;
mod promises;
mod realtime;
mod resumes;
mod runs;
mod speech;
#[cfg(unix)]
mod sweep;
mod transcribe;
mod video;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_latentlm");

/// Longest time until a process does what it does in a second on a machine that does nothing else.
const LONGEST_START: Duration = Duration::from_secs(600);

/// A model that trains in seconds.
const TINY: [&str; 18] = [
    "codec.vit.encoder_width=16",
    "codec.vit.decoder_width=16",
    "codec.vit.encoder_depth=1",
    "codec.vit.decoder_depth=1",
    "codec_train.steps=3",
    "codec_train.batch_size=8",
    "codec_train.log_every=1",
    "codec_train.checkpoint_every=1",
    "lm.width=32",
    "lm.depth=1",
    "lm.heads=2",
    "lm.head_depth=1",
    "lm_train.batch_size=8",
    "lm_train.log_every=1",
    "lm_train.checkpoint_every=1",
    "lm_train.steps=3",
    "sample.steps=2",
    "sample.per_class=1",
];

fn digits() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
    format!("data.path={}", path.display())
}

fn latentlm(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(folder).args(args).stdin(Stdio::null());
    command
}

fn train(folder: &Path, args: &[&str]) -> Command {
    let mut command = latentlm(folder, &["train-image"]);
    command.args(TINY).arg(digits()).args(args);
    command
}

/// The exit code of a failed command, and its error message, which must be one line.
fn failure(output: &Output) -> (i32, String) {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("error")).collect();
    assert_eq!(lines.len(), 1, "one line: {text}");
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().unwrap_or(-1), lines[0].to_owned())
}

fn expect(command: &mut Command, code: i32, part: &str) {
    let (got, line) = failure(&command.output().unwrap());
    assert!(line.contains(part), "{line}");
    assert_eq!(got, code, "{line}");
}

/// Waits until a process has come as far as `has_come` looks for; `what` names that in a failure.
fn wait_for(what: &str, mut has_come: impl FnMut() -> bool) {
    let started = Instant::now();
    while !has_come() {
        assert!(started.elapsed() < LONGEST_START, "{what} never comes");
        thread::sleep(Duration::from_millis(10));
    }
}

fn png(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let digit = image::GrayImage::from_fn(28, 28, |x, y| image::Luma([(x * y) as u8]));
    digit.save(path).unwrap();
}

fn newest(folder: &Path, stage: &str) -> PathBuf {
    let stage = folder.join("runs/mnist/checkpoints").join(stage);
    let name = fs::read_to_string(stage.join("latest")).unwrap();
    stage.join(name)
}

#[test]
fn wrong_words_exit_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    expect(
        &mut train(dir, &["lm.widht=3"]),
        2,
        "did you mean `lm.width`?",
    );
    expect(
        &mut train(dir, &["lm.width=33"]),
        2,
        "not a multiple of heads",
    );
    expect(&mut train(dir, &["--device", "tpu"]), 2, "no device `tpu`");
    expect(&mut train(dir, &["--config", "none.toml"]), 2, "none.toml");
    let unknown = latentlm(dir, &["sample-image", "--run", "x"])
        .output()
        .unwrap();
    assert_eq!(
        unknown.status.code(),
        Some(2),
        "--class or --grid, and --out, are missing"
    );
    assert!(!dir.join("runs").exists(), "nothing was begun");
}

#[test]
fn broken_data_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    expect(
        &mut train(dir, &["data.path=nowhere", "--run", "a"]),
        1,
        "nowhere",
    );

    for i in 0..30 {
        png(&dir.join(format!("pictures/cat/{i}.png")));
    }
    let cut = dir.join("pictures/cat/7.png");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let whole = "data.max_broken=0";
    let command = &mut train(dir, &["data.path=pictures", "--run", "b", whole]);
    expect(command, 1, "7.png");
    expect(
        &mut latentlm(dir, &["data", "check", "pictures"]),
        1,
        "1 problems",
    );

    let part =
        "0.png: is a file, and a dataset is a folder: name the one that it lies in, pictures/cat";
    let file = ["data", "check", "pictures/cat/0.png"];
    expect(&mut latentlm(dir, &file), 1, part);

    fs::create_dir(dir.join("pictures/dog")).unwrap();
    expect(
        &mut train(dir, &["data.path=pictures", "--run", "c"]),
        1,
        "dog holds no PNG",
    );
    expect(
        &mut latentlm(dir, &["data", "check", "nowhere"]),
        1,
        "nowhere",
    );
}

#[test]
fn reference_numbers_decide_the_exit_code() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let dir = tempfile::tempdir().unwrap();
    let verify = |case: &Path| latentlm(dir.path(), &["verify-reference", case.to_str().unwrap()]);
    let output = verify(&cases.join("vibevoice-small")).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("head_out") && !text.contains("OVER"),
        "{text}"
    );

    // One changed number of the reference must be reported, also by the exit code.
    let copy = dir.path().join("schedule");
    fs::create_dir(&copy).unwrap();
    fs::copy(cases.join("schedule/config.json"), copy.join("config.json")).unwrap();
    let mut bytes = fs::read(cases.join("schedule/io.safetensors")).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&99f32.to_le_bytes());
    fs::write(copy.join("io.safetensors"), bytes).unwrap();
    expect(&mut verify(&copy), 1, "over their bounds");
    fs::remove_file(copy.join("config.json")).unwrap();
    expect(&mut verify(&copy), 1, "config.json");
    expect(&mut verify(&dir.path().join("none")), 1, "none");
}

#[test]
fn a_run_trains_samples_and_refuses_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    expect(
        &mut latentlm(dir, &["sample-image", "--grid", "--out", "x.png"]),
        1,
        "is no run",
    );

    let output = train(dir, &["--progress", "plain"]).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        lines.contains("codec 3/3") && lines.contains("lm 3/3"),
        "{lines}"
    );

    let sample = [
        "sample-image",
        "--class",
        "7",
        "--count",
        "4",
        "--out",
        "sevens.png",
    ];
    assert!(latentlm(dir, &sample).status().unwrap().success());
    assert_eq!(
        image::open(dir.join("sevens.png")).unwrap().width(),
        (2 * 33 + 1) * 2
    );
    let sample = ["sample-image", "--class", "eleven", "--out", "x.png"];
    expect(&mut latentlm(dir, &sample), 2, "no class `eleven`");
    let words = "sample-image --grid --count 10000 --scale 64 --out x.png";
    let words: Vec<&str> = words.split(' ').collect();
    let part = "a picture of 21120064 x 21184 pixels is too large";
    expect(&mut latentlm(dir, &words), 2, part);
    expect(&mut train(dir, &[]), 1, "--resume");
}

/// A run that was killed at any moment continues from its last checkpoint.
#[test]
fn a_killed_run_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let long = "codec_train.steps=40";
    let mut child = train(dir, &["--progress", "silent", long]).spawn().unwrap();
    let latest = dir.join("runs/mnist/checkpoints/codec/latest");
    wait_for("a checkpoint", || latest.exists());
    thread::sleep(Duration::from_millis(150));
    child.kill().unwrap();
    child.wait().unwrap();

    let resume = ["train-image", "--resume", "--progress", "silent"];
    let output = latentlm(dir, &resume).output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(newest(dir, "lm").ends_with("step-3"));
}

/// The disk is full during a checkpoint. Simulated by a limit on the size of files.
#[cfg(unix)]
#[test]
fn a_full_disk_loses_no_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let stop = ["codec_train.steps=1", "--progress", "silent"];
    assert!(train(dir, &stop).status().unwrap().success());
    let before = newest(dir, "lm");
    let weights = fs::read(before.join("model.safetensors")).unwrap();

    // Again from the start, in a shell that forbids files of more than 8 KiB.
    fs::remove_file(dir.join("runs/mnist/checkpoints/lm/latest")).unwrap();
    let script = format!("trap '' XFSZ; ulimit -f 16; exec {BINARY} train-image --resume");
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir)
        .output()
        .unwrap();
    let (code, line) = failure(&output);
    assert_eq!(code, 1, "{line}");
    assert!(line.contains("cannot write"), "{line}");
    assert_eq!(fs::read(before.join("model.safetensors")).unwrap(), weights);
    for entry in fs::read_dir(before.parent().unwrap()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(".writing"), "{name} was left behind");
    }

    let resume = ["train-image", "--resume", "--progress", "silent"];
    assert!(latentlm(dir, &resume).status().unwrap().success());
}

/// Ctrl-C saves a checkpoint and ends cleanly.
#[cfg(unix)]
#[test]
fn ctrl_c_saves_and_exits() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // So many steps take minutes: the signal does not come too late.
    let long = [
        "codec_train.steps=100000",
        "codec_train.checkpoint_every=100000",
    ];
    let child = train(dir, &long)
        .args(["--progress", "plain"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = dir.join("runs/mnist/metrics.jsonl");
    wait_for("a step", || fs::metadata(&log).is_ok_and(|m| m.len() > 0));
    let id = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("stopped; continue with"), "{text}");
    assert!(newest(dir, "codec").join("model.safetensors").is_file());
}
