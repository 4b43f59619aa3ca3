//! Tests of sound files in every format, whole and damaged.

mod formats;
mod pipes;

use std::path::{Path, PathBuf};

const RATE: u32 = 16_000;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
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
