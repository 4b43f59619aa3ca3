//! Shared code of the commands of published models: files beside the weights, and seeds.

use std::fmt::Display;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use latentlm::core::bounds::check_values;
use latentlm::core::disk::text_within;
use latentlm_args::{HeadNumbers, WeightNumbers, tell};
use latentlm_data::{DataError, TextTokenizer};
use latentlm_published::{PretrainedError, WeightBits, WeightType, find_tokenizer, gguf_tokenizer};
use serde_json::Value;

/// Samples per second of all published models.
pub(crate) const RATE_HZ: u32 = 24_000;

/// Largest size of a script or settings in bytes.
const MOST_BYTES: u64 = 16 << 20;
/// Most values of settings in JSON, which take many times the memory of their text.
const MOST_VALUES: usize = 100_000;

/// Reads a text file.
pub(crate) fn read(path: &Path) -> Result<String, DataError> {
    let text = File::open(path).and_then(|file| text_within(file, MOST_BYTES));
    text.map_err(|source| DataError::Io {
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
    let text = read(&path)?;
    let wrong = |error: &dyn Display| anyhow!("{}: {error}", path.display());
    check_values(text.as_bytes(), MOST_VALUES).map_err(|error| wrong(&error))?;
    serde_json::from_str(&text).map_err(|error| wrong(&error))
}

/// The vocabulary of a model's folder or GGUF file, or the one that was given.
pub(crate) fn tokenizer(folder: &Path, given: Option<&Path>) -> Result<TextTokenizer> {
    let path = find_tokenizer(folder, given).map_err(with_flag)?;
    Ok(match gguf_tokenizer(&path)? {
        Some(json) => TextTokenizer::from_bytes(json.as_bytes(), &path)?,
        None => TextTokenizer::read(&path)?,
    })
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

/// The type of a model's weights in memory: that of `--weights` or of the older `--precision`; without them the type in
/// the files.
///
/// # Errors
/// If the device has no products of the type.
pub(crate) fn weight_type(
    weights: Option<WeightNumbers>,
    precision: Option<HeadNumbers>,
    device: &str,
) -> Result<WeightType> {
    if device != "cpu" {
        ensure!(
            precision != Some(HeadNumbers::Bf16),
            "--precision bf16 of a published model wants --device cpu; leave it out"
        );
        ensure!(
            matches!(weights, None | Some(WeightNumbers::F32)),
            "--weights other than f32 want --device cpu; leave it out"
        );
        return Ok(WeightType::Float32);
    }
    let older = precision.map(|precision| match precision {
        HeadNumbers::F32 => WeightNumbers::F32,
        HeadNumbers::Bf16 => WeightNumbers::Bf16,
    });
    Ok(match weights.or(older) {
        None => WeightType::Stored,
        Some(WeightNumbers::F32) => WeightType::Float32,
        Some(WeightNumbers::Bf16) => WeightType::Bfloat16,
        Some(WeightNumbers::Int8) => WeightType::Quantized(WeightBits::Eight),
        Some(WeightNumbers::Int4) => WeightType::Quantized(WeightBits::Four),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_too_many_values_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("generation_config.json");
        assert_eq!(generation(dir.path()).unwrap(), Value::Null);
        let list = |count: usize| format!("[{}0]", "0,".repeat(count));
        std::fs::write(&path, list(MOST_VALUES)).unwrap();
        let message = generation(dir.path()).unwrap_err().to_string();
        let part = "generation_config.json: has 100002 values";
        assert!(message.contains(part), "{message}");
        std::fs::write(&path, list(1)).unwrap();
        assert_eq!(generation(dir.path()).unwrap()[1], 0);
    }

    #[test]
    fn one_choice_of_weights_holds_for_the_whole_model() {
        let (whole, rounded) = (HeadNumbers::F32, HeadNumbers::Bf16);
        let int4 = WeightType::Quantized(WeightBits::Four);
        for (weights, precision, expected) in [
            (None, None, WeightType::Stored),
            (None, Some(whole), WeightType::Float32),
            (None, Some(rounded), WeightType::Bfloat16),
            (Some(WeightNumbers::F32), None, WeightType::Float32),
            (Some(WeightNumbers::Bf16), None, WeightType::Bfloat16),
            (Some(WeightNumbers::Int4), None, int4),
        ] {
            let chosen = weight_type(weights, precision, "cpu").unwrap();
            assert_eq!(chosen, expected, "{weights:?} {precision:?}");
        }
        let elsewhere = |weights, precision| weight_type(weights, precision, "wgpu");
        assert_eq!(elsewhere(None, None).unwrap(), WeightType::Float32);
        assert!(elsewhere(None, Some(rounded)).is_err());
        assert!(elsewhere(Some(WeightNumbers::Int4), None).is_err());
    }
}
