//! Tests of corpora in every layout, valid and broken, and composed utterances.

mod compose;
mod corpora;
mod layouts;
mod left_out;

use std::fs;
use std::path::{Path, PathBuf};

use latentlm_data::Split;
use latentlm_data::speech::{SpeechDataset, SpeechSpec};

const RATE: u32 = 16_000;

const SPEC: SpeechSpec = SpeechSpec {
    sample_rate_hz: RATE,
    loudness_dbfs: None,
    trim_silence: false,
    min_seconds: 0.0,
    max_seconds: 100.0,
};

/// A sound file of the crate that decodes it.
fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../latentlm-media/tests/fixtures")
        .join(name)
}

/// A sine of 440 Hz and amplitude 0.5.
fn tone(rate: u32, count: usize) -> Vec<f32> {
    let turn = std::f64::consts::TAU * 440.0 / f64::from(rate);
    (0..count)
        .map(|i| (0.5 * (turn * i as f64).sin()) as f32)
        .collect()
}

fn largest_error(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().zip(expected);
    pairs.fold(0.0, |error, (a, b)| error.max((a - b).abs()))
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn open(path: &Path, split: Split) -> SpeechDataset {
    SpeechDataset::open(path, SPEC, split).unwrap()
}

fn metadata(folder: &Path, lines: &[&str]) {
    put(&folder.join("metadata.jsonl"), lines.join("\n").as_bytes());
}
