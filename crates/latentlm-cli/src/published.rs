//! Shared code of the commands of published models: files beside the weights, and seeds.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use latentlm_args::{HeadNumbers, tell};
use latentlm_data::{DataError, TextTokenizer};
use latentlm_published::{PretrainedError, WeightType, find_tokenizer};
use serde_json::Value;

/// Samples per second of all published models.
pub(crate) const RATE_HZ: u32 = 24_000;

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String, DataError> {
    fs::read_to_string(path).map_err(|source| DataError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// `generation_config.json` of a model's folder, or nothing.
pub(crate) fn generation(folder: &Path) -> Result<Value> {
    let path = folder.join("generation_config.json");
    if !path.exists() {
        return Ok(Value::Null);
    }
    let parsed = serde_json::from_str(&read(&path)?);
    parsed.map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// The vocabulary of a model's folder, or the one that was given.
pub(crate) fn tokenizer(folder: &Path, given: Option<&Path>) -> Result<TextTokenizer> {
    let path = find_tokenizer(folder, given).map_err(with_flag)?;
    Ok(TextTokenizer::read(&path)?)
}

/// The error, with the flag that helps if it is a missing tokenizer.
pub(crate) fn with_flag(error: PretrainedError) -> anyhow::Error {
    match error {
        error @ PretrainedError::NoTokenizer { .. } => {
            anyhow!("{error}, or name it with --tokenizer")
        }
        other => other.into(),
    }
}

/// The type of a model's weights in memory: as it was asked for, or else that of the files.
///
/// # Errors
/// If the device has no products of the type.
pub(crate) fn weight_type(asked: Option<HeadNumbers>, device: &str) -> Result<WeightType> {
    if device != "cpu" {
        ensure!(
            asked != Some(HeadNumbers::Bf16),
            "--precision bf16 of a published model wants --device cpu; leave it out"
        );
        return Ok(WeightType::Float32);
    }
    Ok(match asked {
        None => WeightType::Stored,
        Some(HeadNumbers::F32) => WeightType::Float32,
        Some(HeadNumbers::Bf16) => WeightType::Bfloat16,
    })
}

/// A random seed.
pub(crate) fn drawn_seed() -> u64 {
    // The standard library seeds its hashes from the system. 32 bits are easier to type again.
    RandomState::new().hash_one(std::process::id()) >> 32
}

/// The given seed, or a random one, which is printed so that the result can be repeated.
pub(crate) fn seed(given: Option<u64>) -> u64 {
    given.unwrap_or_else(|| {
        let seed = drawn_seed();
        tell!("--seed {seed}");
        seed
    })
}
