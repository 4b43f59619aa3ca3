//! Tests of what a run goes on with: the same data, a whole checkpoint, the same recipe but for more steps.

use std::fs;
use std::path::Path;

use crate::earlier::{copy, run, tests};
use crate::pictures::{another, resume, succeed, train, trained};
use crate::{expect, latentlm, newest, speech};

/// The latent cache of the run `mnist`.
fn latents(folder: &Path) -> Vec<u8> {
    fs::read(folder.join("runs/mnist/latents.safetensors")).unwrap()
}

/// Pictures of the same size in bytes, with other pixels: names and sizes do not tell them apart.
#[test]
fn a_picture_replaced_by_one_of_its_size_is_named() {
    let dir = trained("3");
    let dir = dir.path();
    let path = dir.join("pictures/cat/3.png");
    let own = fs::read(&path).unwrap();
    fs::write(&path, another(&own)).unwrap();
    let other = "was trained on other data: 1 changed (";
    expect(&mut resume(dir, &[]), 1, other);
    expect(&mut resume(dir, &[]), 1, "cat/3.png)");
    expect(&mut resume(dir, &[]), 1, "--accept-changed-data");
    // What counts is what is in it, not when it was written.
    fs::write(&path, &own).unwrap();
    succeed(&mut resume(dir, &[]));

    let before = latents(dir);
    for index in 0..crate::pictures::EACH {
        let path = dir.join(format!("pictures/cat/{index}.png"));
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, another(&bytes)).unwrap();
    }
    let accept = ["--accept-changed-data", "lm_train.steps=5"];
    let told = succeed(&mut resume(dir, &accept));
    assert!(
        told.contains("continuing on changed data: 12 changed ("),
        "{told}"
    );
    assert!(newest(dir, "lm").ends_with("step-5"));
    assert!(latents(dir) != before, "learned from what is gone");
    // From now on these are the run's data.
    succeed(&mut resume(dir, &["lm_train.steps=6"]));
}

#[test]
fn missing_pictures_and_swapped_classes_are_named() {
    let dir = trained("3");
    let dir = dir.path();
    let set = dir.join("pictures");
    let path = set.join("dog/7.png");
    let own = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    expect(&mut resume(dir, &[]), 1, "other data: 1 gone (");
    expect(&mut resume(dir, &[]), 1, "dog/7.png)");
    fs::write(&path, &own[..own.len() / 2]).unwrap();
    expect(&mut resume(dir, &[]), 1, "dog/7.png can't be used now: ");
    fs::write(&path, &own).unwrap();
    for (from, to) in [("cat", "bird"), ("dog", "cat"), ("bird", "dog")] {
        fs::rename(set.join(from), set.join(to)).unwrap();
    }
    expect(&mut resume(dir, &[]), 1, "other data: 24 changed (");
    let told = succeed(&mut resume(dir, &["--accept-changed-data"]));
    assert!(told.contains("continuing on changed data"), "{told}");
    succeed(&mut resume(dir, &[]));
}

/// Runs of an older version have no list of their data: they go on, and have one then.
#[test]
fn runs_without_a_list_of_data_go_on() {
    let dir = tempfile::tempdir().unwrap();
    for (name, command) in [
        ("image", "train-image"),
        ("mllm", "train-mllm"),
        ("speech", "train-tts"),
    ] {
        let copied = dir.path().join(name);
        copy(&run(name), &copied);
        assert!(!copied.join("data.txt").exists());
        let words = [
            command,
            "--run",
            copied.to_str().unwrap(),
            "--resume",
            "--progress",
            "plain",
        ];
        let note = "begun by a version that kept no list of its data";
        let told = succeed(&mut latentlm(&tests(), &words));
        assert!(told.contains(note), "{name}: {told}");
        assert!(copied.join("data.txt").exists());
        let told = succeed(&mut latentlm(&tests(), &words));
        assert!(!told.contains(note), "{name}: {told}");
    }
}

/// Two students of one teacher: one has taken over its weights, the other learns its guidance at every step.
#[test]
fn another_teacher_is_named_where_it_matters() {
    const GUIDED: [&str; 2] = ["lm.distilled_guidance=fixed", "sample.guidance_scale=4.0"];
    let dir = trained("3");
    let dir = dir.path();
    let begin = ["--progress", "silent", "lm.from=runs/mnist", "--run"];
    succeed(train(dir, &begin).args(["runs/plain"]));
    succeed(train(dir, &begin).arg("runs/guided").args(GUIDED));
    let resume = |run: &str, changes: &[&str]| {
        let words = ["train-image", "--resume", "--progress", "plain", "--run"];
        let mut command = latentlm(dir, &words);
        command.arg(run).args(changes);
        command
    };
    let unknown = "a version that kept no hash of lm.from=runs/mnist";
    let told = succeed(&mut resume("runs/guided", &["lm_train.steps=4"]));
    assert!(!told.contains(unknown), "{told}");
    let list = dir.join("runs/guided/weights.txt");
    fs::remove_file(&list).unwrap();
    let told = succeed(&mut resume("runs/guided", &["lm_train.steps=5"]));
    assert!(told.contains(unknown) && list.is_file(), "{told}");

    fs::remove_dir_all(dir.join("runs/mnist")).unwrap();
    let again = ["--progress", "silent", "lm_train.steps=3", "seed=7"];
    succeed(&mut train(dir, &again));
    let more = "lm_train.steps=6";
    let other = "those of lm.from=runs/mnist changed";
    expect(&mut resume("runs/guided", &[more]), 1, other);
    let accepted = ["--accept-changed-data", more];
    let told = succeed(&mut resume("runs/guided", &accepted));
    assert!(told.contains("continuing with changed weights"), "{told}");
    let told = succeed(&mut resume("runs/plain", &["lm_train.steps=4"]));
    let unneeded = "that changes nothing, this run has taken over its weights";
    assert!(told.contains("has other weights than"), "{told}");
    assert!(told.contains(unneeded), "{told}");

    fs::remove_dir_all(dir.join("runs/mnist")).unwrap();
    let gone = "is no run any more (lm.from)";
    expect(&mut resume("runs/guided", &["lm_train.steps=7"]), 1, gone);
    let told = succeed(&mut resume("runs/plain", &["lm_train.steps=5"]));
    assert!(told.contains("lm.from=runs/mnist is gone: that"), "{told}");
}

/// Changes a file of a checkpoint, and returns what it was.
pub fn damage(file: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let whole = fs::read(file).unwrap();
    let mut bytes = whole.clone();
    change(&mut bytes);
    assert!(bytes != whole, "{} is as it was", file.display());
    fs::write(file, bytes).unwrap();
    whole
}

/// One bit in the middle.
pub fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
}

/// A page in the middle.
fn zero_page(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    let end = bytes.len().min(middle + 4096);
    bytes[middle..end].fill(0);
}

#[test]
fn a_damaged_checkpoint_of_pictures_is_passed_over() {
    let dir = trained("4");
    let dir = dir.path();
    let last = newest(dir, "lm");
    assert!(last.ends_with("step-4"));
    let weights = fs::read(last.join("model.safetensors")).unwrap();
    let draw = || {
        let words = [
            "sample-image",
            "--class",
            "cat",
            "--count",
            "1",
            "--out",
            "cat.png",
        ];
        succeed(&mut latentlm(dir, &words))
    };
    assert_eq!(draw(), "");

    let averaged = last.join("model-ema.safetensors");
    let whole = damage(&averaged, |bytes| flip(bytes));
    let told = draw();
    assert!(
        told.contains("model-ema.safetensors is damaged: its checksum differs"),
        "{told}"
    );
    assert!(told.contains("step-3 instead"), "{told}");
    if cfg!(feature = "compare") {
        let words = "compare sampling --run mnist --steps 2 --guidance 1 --samples 4";
        let words: Vec<&str> = words.split(' ').collect();
        let told = succeed(&mut latentlm(dir, &words));
        assert!(told.contains("step-3 instead"), "{told}");
    }
    fs::write(&averaged, whole).unwrap();
    let manifest = last.join("manifest.json");
    let whole = damage(&manifest, |bytes| bytes.truncate(bytes.len() / 2));
    let told = draw();
    assert!(told.contains("damaged manifest"), "{told}");
    assert!(told.contains("step-3 instead"), "{told}");
    fs::write(&manifest, whole).unwrap();

    // Drawing needs no optimizer; training does, and makes the last step anew.
    damage(&last.join("model-optimizer.bpk"), |bytes| zero_page(bytes));
    assert_eq!(draw(), "");
    let told = succeed(&mut resume(dir, &[]));
    assert!(
        told.contains("model-optimizer.bpk is damaged: its checksum differs"),
        "{told}"
    );
    assert!(told.contains("step-3 instead"), "{told}");
    assert_eq!(newest(dir, "lm"), last);
    let again = fs::read(last.join("model.safetensors")).unwrap();
    assert!(again == weights, "another step 4");
    succeed(&mut latentlm(dir, &["run", "check", "mnist"]));

    // The one before has all steps, so nothing is trained.
    damage(&last.join("model-optimizer.bpk"), |bytes| zero_page(bytes));
    let told = succeed(&mut resume(dir, &["lm_train.steps=3"]));
    assert!(told.contains("step-3 instead"), "{told}");
}

#[test]
fn a_damaged_checkpoint_of_a_voice_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    speech::corpus(&dir.join("corpus"));
    let words = ["train-tts", "--progress", "silent"];
    let often = "lm_train.checkpoint_every=10";
    succeed(latentlm(dir, &words).args(speech::TINY).arg(often));
    let stage = dir.join("runs/voice/checkpoints/lm");
    damage(&stage.join("step-20/model-ema.safetensors"), |bytes| {
        flip(bytes)
    });
    let speak = ["speak", "--text", "two one", "--out", "said.wav"];
    let told = succeed(&mut latentlm(dir, &speak));
    assert!(told.contains("model-ema.safetensors is damaged"), "{told}");
    assert!(told.contains("step-10 instead"), "{told}");
    assert!(dir.join("said.wav").is_file());
    damage(&stage.join("step-10/model-ema.safetensors"), |bytes| {
        flip(bytes)
    });
    expect(&mut latentlm(dir, &speak), 1, "is damaged");
}

/// The learning rate of a step of the language model, from the log.
fn learning_rate(folder: &Path, step: u64) -> f64 {
    let log = fs::read_to_string(folder.join("runs/mnist/metrics.jsonl")).unwrap();
    let mut records = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let own = records.find(|line| line["stage"] == "lm" && line["step"] == step);
    own.unwrap()["lr"].as_f64().unwrap()
}

/// Two steps of warm-up, then a cosine to 0. Step 5 begins after four steps: a third of the way from step 2 to step 8,
/// where the cosine is at 3/4 of its height.
#[test]
fn a_run_goes_on_with_more_steps_and_nothing_else() {
    let dir = trained("4");
    let dir = dir.path();
    let config = dir.join("runs/mnist/config.toml");
    let before = fs::read(&config).unwrap();
    for (change, part) in [
        ("lm_train.steps=3", "more than lm_train.steps=3"),
        ("codec_train.steps=9", "can't change any more"),
        ("lm.width=64", "was begun with another recipe"),
        (
            "lm_train.learning_rate=0.5",
            "was begun with another recipe",
        ),
    ] {
        expect(&mut resume(dir, &[change]), 1, part);
        assert!(fs::read(&config).unwrap() == before, "{change} is kept");
    }
    let peak = learning_rate(dir, 2);
    let told = succeed(&mut resume(dir, &["lm_train.steps=8"]));
    assert!(
        told.contains("continuing with lm_train.steps=8 instead of 4"),
        "{told}"
    );
    assert!(newest(dir, "lm").ends_with("step-8"));
    let rate = learning_rate(dir, 5);
    assert!((rate / peak - 0.75).abs() < 1e-9, "{rate} of {peak}");
    // What was learned before is not logged anew.
    assert!(learning_rate(dir, 4) < rate);
    expect(
        &mut resume(dir, &["lm_train.steps=4"]),
        1,
        "has taken 8 steps",
    );
    succeed(&mut resume(dir, &[]));
}
