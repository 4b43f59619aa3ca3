//! Training end to end on a few steps: what is written, and that a stopped run continues exactly.

mod compare;
mod image;
mod mixed;
mod speech;

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use burn::tensor::Device;
use latentlm_train::{Interrupter, ProgressMode, RunOptions};

/// Parameters are drawn from the device's generator, which all threads share: runs whose weights
/// are compared take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn run_options(path: &Path, resume: bool, stop: bool) -> RunOptions {
    let interrupter = Interrupter::new();
    if stop {
        // Asked to stop from the beginning, a run takes one step, saves and ends.
        interrupter.stop(None);
    }
    RunOptions {
        path: path.into(),
        resume,
        device: Device::default(),
        progress: ProgressMode::Silent,
        interrupter,
    }
}

/// Header and numbers of a safetensors file; its metadata is in no fixed order.
fn tensors(path: &Path) -> (serde_json::Value, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    (header, bytes[8 + length..].to_vec())
}
