//! What the runs of all kinds share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use burn::tensor::Device;
use latentlm_pipelines::{MetricsLog, Recipe, RunFolder, Wanted};
use latentlm_train::{Interrupter, ProgressMode, RunEnd, RunOptions, TrainError};

/// A command that trains.
pub type Train<R> = fn(R, RunOptions) -> Result<RunEnd, TrainError>;

/// Parameters are drawn from the device's generator, which all threads share: runs whose weights
/// are compared take turns.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub fn run_options(path: &Path, resume: bool, stop: bool) -> RunOptions {
    let interrupter = Interrupter::new();
    if stop {
        // Asked to stop from the beginning, a run takes one step, saves and ends.
        interrupter.stop(None);
    }
    RunOptions {
        path: path.into(),
        resume,
        accept_changed_data: false,
        device: Device::default(),
        more_devices: Vec::new(),
        progress: ProgressMode::Silent,
        interrupter,
        within: String::new(),
    }
}

/// Header and numbers of a safetensors file; its metadata is in no fixed order.
pub fn tensors(path: &Path) -> (serde_json::Value, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (header, bytes[8 + length..].to_vec())
}

/// A file of the newest checkpoint of a run's language model.
pub fn checkpoint_file<R: Recipe>(run: &Path, name: &str) -> PathBuf {
    let (run, _) = RunFolder::<R>::open(run).unwrap();
    let found = run.require("lm", Wanted::Everything).unwrap();
    found.folder.join(name)
}

/// Runs a recipe in one call, and stopped after every step: weights and log are the same.
pub fn check_resumes<R: Recipe>(recipe: &R, train: Train<R>, least_calls: usize) {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let run = |path: &Path, resume, stop| {
        let options = run_options(path, resume, stop);
        train(recipe.clone(), options).unwrap()
    };
    let end = run(&whole, false, false);
    assert!(matches!(end, RunEnd::Finished { .. }), "{end:?}");
    let mut calls = 1;
    let mut end = run(&parts, false, true);
    while end == RunEnd::Stopped {
        end = run(&parts, true, true);
        calls += 1;
        assert!(calls < 20, "a stopped run does not get on");
    }
    assert!(
        calls >= least_calls,
        "the run was stopped {calls} times only"
    );
    for name in [
        "model.safetensors",
        "model-ema.safetensors",
        "codec.safetensors",
    ] {
        let read = |run| tensors(&checkpoint_file::<R>(run, name));
        assert!(read(&whole) == read(&parts), "{name} differs after resumes");
    }
    let log = |run: &Path| fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    assert_eq!(log(&parts), log(&whole), "the logged curves differ");
}

/// Runs a recipe in float32 and in bfloat16: the language model's losses are nearly the same, and
/// weights are kept in float32.
pub fn check_bf16<R: Recipe>(recipe: impl Fn(&str) -> R, train: Train<R>) {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let losses = ["f32", "bf16"].map(|precision| {
        let path = dir.path().join(precision);
        let recipe = recipe(&format!("lm.precision={precision}"));
        train(recipe, run_options(&path, false, false)).unwrap();
        let lines = MetricsLog::read(&path.join("metrics.jsonl")).unwrap();
        let lines = lines.into_iter().filter(|line| line.stage == "lm");
        let losses = lines.filter_map(|line| *line.values.get("loss")?);
        let (run, _) = RunFolder::<R>::open(&path).unwrap();
        let folder = run.require("lm", Wanted::Everything).unwrap().folder;
        let (header, _) = tensors(&folder.join("model.safetensors"));
        for (name, tensor) in header.as_object().unwrap() {
            assert!(name == "__metadata__" || tensor["dtype"] == "F32", "{name}");
        }
        losses.collect::<Vec<f64>>()
    });
    assert!(losses[0].len() > 2 && losses[0] != losses[1], "{losses:?}");
    for (exact, rounded) in losses[0].iter().zip(&losses[1]) {
        // 0 where a pack had nothing to denoise.
        assert!((rounded - exact).abs() <= 0.03 * exact, "{losses:?}");
    }
}

/// Runs a recipe on one device and on two: every batch is shared out, and every number in the log is
/// the same but for the order of additions.
pub fn check_two_devices<R: Recipe>(recipe: R, train: Train<R>) {
    let _turn = alone();
    let dir = tempfile::tempdir().unwrap();
    let logs = [0, 1].map(|more| {
        let path = dir.path().join(more.to_string());
        let mut options = run_options(&path, false, false);
        options.more_devices = vec![Device::default(); more];
        train(recipe.clone(), options).unwrap();
        MetricsLog::read(&path.join("metrics.jsonl")).unwrap()
    });
    assert!(logs[0].len() > 3 && logs[0].len() == logs[1].len());
    for (one, two) in logs[0].iter().zip(&logs[1]) {
        assert_eq!((&one.stage, one.step), (&two.stage, two.step));
        for (name, value) in &one.values {
            let (Some(one), Some(two)) = (value, two.values[name]) else {
                continue;
            };
            assert!(
                (one - two).abs() <= 1e-3 * one.abs(),
                "{name}: {one}, {two}"
            );
        }
    }
}
