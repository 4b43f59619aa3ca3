//! Compatibility with runs of an earlier version, whose language models had other types: they must draw and
//! speak the same results, and resume with the same losses. `tests/earlier-runs/README.md` tells how these
//! runs were made.

use std::fs;
use std::path::{Path, PathBuf};

use super::latentlm;

/// The parent of the runs' folder. The recipes of the runs name data relative to it.
pub fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

pub fn run(name: &str) -> PathBuf {
    tests().join("earlier-runs").join(name)
}

fn succeed(args: &[&str]) {
    let output = latentlm(&tests(), args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {text}");
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Pixels may differ by one: another order of additions changes the last bits of a number before rounding.
fn same_picture(name: &str, found: &Path) {
    let [expected, found] =
        [&run(name).join("drawn.png"), found].map(|path| image::open(path).unwrap().into_rgb8());
    assert_eq!(expected.dimensions(), found.dimensions());
    for (a, b) in expected.iter().zip(found.iter()) {
        assert!(a.abs_diff(*b) <= 1, "{a} and {b}");
    }
}

#[test]
fn they_draw_and_speak_what_they_did() {
    let dir = tempfile::tempdir().unwrap();
    let (picture, sound) = (dir.path().join("a.png"), dir.path().join("a.wav"));
    let [picture_path, sound_path] = [&picture, &sound].map(|path| path.to_str().unwrap());
    let out = ["--seed", "5", "--out", picture_path];
    let image = ["sample-image", "--run", "earlier-runs/image", "--grid"];
    let sizes = ["--count", "2", "--scale", "1"];
    succeed(&[&image[..], &sizes, &out].concat());
    same_picture("image", &picture);

    let prompt = ["--prompt", "red 2 <image>"];
    let generate = ["generate", "--run", "earlier-runs/mllm"];
    succeed(&[&generate[..], &prompt, &out].concat());
    same_picture("mllm", &picture);

    let speak = ["speak", "--run", "earlier-runs/speech", "--text", "ab"];
    succeed(&[&speak[..], &["--seed", "5", "--out", sound_path]].concat());
    let [expected, found] = [run("speech").join("spoken.wav"), sound].map(|path| {
        let samples = hound::WavReader::open(path).unwrap().into_samples::<i16>();
        samples.map(Result::unwrap).collect::<Vec<i16>>()
    });
    assert_eq!(expected.len(), found.len());
    for (a, b) in expected.iter().zip(&found) {
        assert!(a.abs_diff(*b) <= 1, "{a} and {b}");
    }
}

/// The losses of a step, from the log of a run.
fn losses(run: &Path, step: u64) -> Vec<f64> {
    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let records = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let own = records.filter(|record: &serde_json::Value| {
        record["stage"] == "lm" && record["step"] == step && record["loss"].is_number()
    });
    let losses = own.flat_map(|record| ["loss", "token_loss"].map(|name| record[name].as_f64()));
    losses.flatten().collect()
}

/// The earlier version took two steps. A third step from its optimizer state must have the expected loss.
#[test]
fn they_go_on_as_they_did() {
    let dir = tempfile::tempdir().unwrap();
    for (name, command, count) in [
        ("image", "train-image", 1),
        ("mllm", "train-mllm", 2),
        ("speech", "train-tts", 2),
    ] {
        let copied = dir.path().join(name);
        copy(&run(name), &copied);
        let expected = losses(&copied, 3);
        assert_eq!(expected.len(), count, "{name}");
        let path = copied.to_str().unwrap();
        succeed(&[command, "--run", path, "--resume", "--progress", "silent"]);
        for (expected, found) in expected.iter().zip(losses(&copied, 3)) {
            // float32; only the threads may change the order of additions.
            assert!(
                (found / expected - 1.0).abs() < 1e-5,
                "{name}: {found} for {expected}"
            );
        }
        assert!(copied.join("checkpoints/lm/step-3").is_dir(), "{name}");
    }
}
