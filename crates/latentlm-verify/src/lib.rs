//! Compares our models with the reference implementations: with the same weights and inputs, outputs must be
//! the same. A case is a folder of inputs, weights and the reference's outputs. Its name begins with its
//! kind:
//!
//! - `transformer`: the official image Transformer: condition, prediction, loss, the gradient of
//!   every parameter, the whole guided sampling loop with and without KV cache;
//! - `schedule`: noise schedules, and every state of every solver trajectory;
//! - `vibevoice-tokenizer`: encoding, decoding, and both as a stream;
//! - `vibevoice`: a whole VibeVoice model;
//! - `vibevoice-generation`: a dialogue that it says, from script and recordings to sound, by the rules of
//!   `transformers` and, where the case has numbers of it, of the original repository;
//! - `vibevoice-original`: the same of the original repository, in its own format;
//! - `vibevoice-realtime`: a text that VibeVoice-Realtime says with a saved voice;
//! - `vibevoice-asr`: a recording that VibeVoice-ASR transcribes.
//!
//! Every other kind with weights also exports them under the reference's names and compares the bytes.
//! `docs/reference.md` describes the files of a case. Sizes, depths, steps and scales are read from them:
//! nothing here depends on a particular case.
//!
//! ```no_run
//! use std::path::Path;
//!
//! use latentlm_verify::{cases, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = latentlm::device("cpu")?; // with the feature `cpu` of `latentlm`
//! for case in cases(Path::new("tests/fixtures"))? {
//!     let report = verify(&case, &device, 1.0)?;
//!     for compared in &report.comparisons {
//!         println!("{}: {:e}, at most {:e}", compared.name, compared.error, compared.bound);
//!     }
//!     assert!(report.passed());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Letters in shapes: `B` batch, `C` channels, `S x S` the grid of an image's latents, `T` tokens, `Z` numbers
//! per latent, `D` width.

mod case;
mod error;
mod export;
mod expression;
mod generation;
mod realtime;
mod recognition;
mod report;
mod rounded;
mod schedule;
mod tokenizer;
mod transformer;
mod vibevoice;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

pub use error::VerifyError;
pub use latentlm_published::{WeightBits, WeightType};
pub use report::{Comparison, Report};

use case::Case;

/// A kind of cases.
struct Kind {
    /// First word of the folders' names.
    name: &'static str,
    check: Check,
    /// The comparison with weights in bfloat16, for models that can be trained in it.
    check_rounded: Option<Check>,
    /// The comparison with weights of a type, for models that are published.
    check_weights: Option<CheckWeights>,
}

static KINDS: [Kind; 8] = [
    Kind {
        name: "transformer",
        check: transformer::check,
        check_rounded: Some(transformer::check_rounded),
        check_weights: None,
    },
    Kind {
        name: "schedule",
        check: schedule::check,
        check_rounded: None,
        check_weights: None,
    },
    Kind {
        name: "vibevoice-tokenizer",
        check: tokenizer::check,
        check_rounded: None,
        check_weights: None,
    },
    Kind {
        name: "vibevoice",
        check: vibevoice::check,
        check_rounded: None,
        check_weights: Some(weights::check_whole),
    },
    Kind {
        name: "vibevoice-generation",
        check: generation::check,
        check_rounded: None,
        check_weights: Some(weights::check_dialogue),
    },
    Kind {
        name: "vibevoice-original",
        check: generation::check_original,
        check_rounded: None,
        check_weights: None,
    },
    Kind {
        name: "vibevoice-realtime",
        check: realtime::check,
        check_rounded: None,
        check_weights: None,
    },
    Kind {
        name: "vibevoice-asr",
        check: recognition::check,
        check_rounded: None,
        check_weights: Some(weights::check_transcript),
    },
];

type Check = fn(&Case, &mut Report) -> Result<(), VerifyError>;
type CheckWeights = fn(&Case, WeightType, &mut Report) -> Result<(), VerifyError>;

/// The kind of a case, by the first word of its folder's name.
fn kind(folder: &Path) -> Option<&'static Kind> {
    let name = folder.file_name()?.to_str()?;
    let kinds = KINDS.iter().filter(|kind| {
        let rest = name.strip_prefix(kind.name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_', '.']))
    });
    // `vibevoice-tokenizer` begins with `vibevoice`: the longest kind counts.
    kinds.max_by_key(|kind| kind.name.len())
}

fn no_case(path: &Path) -> VerifyError {
    VerifyError::NoCase {
        path: path.to_owned(),
        kinds: KINDS.each_ref().map(|kind| kind.name).join(", "),
    }
}

/// Finds the cases at a path: the folder itself if its name begins with a kind, otherwise the cases in it.
///
/// # Errors
/// If there is no case, or the folder can't be read.
pub fn cases(path: &Path) -> Result<Vec<PathBuf>, VerifyError> {
    let read = |source| VerifyError::Read {
        path: path.to_owned(),
        source,
    };
    let path = fs::canonicalize(path).map_err(read)?;
    if kind(&path).is_some() {
        return Ok(vec![path]);
    }
    let entries = fs::read_dir(&path).map_err(read)?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|folder| folder.is_dir() && kind(folder).is_some())
        .collect();
    found.sort();
    if found.is_empty() {
        Err(no_case(&path))
    } else {
        Ok(found)
    }
}

/// Compares one case in float32. The bounds on errors are multiplied by `slack` (1 on a CPU).
///
/// # Errors
/// If a file of the case can't be read or holds something that is not supported.
pub fn verify(folder: &Path, device: &Device, slack: f64) -> Result<Report, VerifyError> {
    let kind = kind(folder).ok_or_else(|| no_case(folder))?;
    let mut report = Report::new(slack);
    (kind.check)(&Case::read(folder, device)?, &mut report)?;
    Ok(report)
}

/// Compares one case with weights rounded to bfloat16, as `lm.precision = "bf16"` does. Errors are norms of
/// differences. The bounds are the same on every device, because rounding is. `None` if this kind of model is
/// always computed in float32.
///
/// # Errors
/// If a file of the case can't be read or holds something that is not supported.
pub fn verify_rounded(folder: &Path, device: &Device) -> Result<Option<Report>, VerifyError> {
    let kind = kind(folder).ok_or_else(|| no_case(folder))?;
    let Some(check) = kind.check_rounded else {
        return Ok(None);
    };
    let mut report = Report::new(1.0);
    check(&Case::read(folder, device)?, &mut report)?;
    Ok(Some(report))
}

/// Compares the language model of one case with weights of a type: hidden states in the norm of differences, and tokens.
/// Each position reads what the reference read there. `None` if this kind of case has no such numbers.
///
/// # Errors
/// If a file of the case can't be read or holds something that is not supported.
pub fn verify_weights(
    folder: &Path,
    device: &Device,
    weights: WeightType,
) -> Result<Option<Report>, VerifyError> {
    let kind = kind(folder).ok_or_else(|| no_case(folder))?;
    let Some(check) = kind.check_weights else {
        return Ok(None);
    };
    let mut report = Report::new(1.0);
    check(&Case::read(folder, device)?, weights, &mut report)?;
    Ok(Some(report))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_tells_the_kind() {
        let is = |name: &str, check: Check| {
            kind(Path::new(name)).is_some_and(|found| std::ptr::fn_addr_eq(found.check, check))
        };
        assert!(is("transformer-v", transformer::check));
        assert!(is("schedule", schedule::check));
        assert!(is("vibevoice-tokenizer", tokenizer::check));
        assert!(is("vibevoice-tokenizer-2", tokenizer::check));
        assert!(is("a/vibevoice-large", vibevoice::check));
        assert!(is("vibevoice-generation-two", generation::check));
        assert!(is("vibevoice-original", generation::check_original));
        assert!(is("vibevoice-asr-one", recognition::check));
        assert!(is("vibevoice-realtime-one", realtime::check));
        assert!(kind(Path::new("transformers")).is_none());
        assert!(kind(Path::new("other")).is_none());
    }
}
