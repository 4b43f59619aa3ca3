//! `cargo xtask verify-reference --live`: makes cases of fresh random models with the reference implementation.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use latentlm_args::say;

use crate::cargo::{project_root, succeed};
use crate::python;

/// Number of models of each kind.
const COUNT: &str = "4";
const PACKAGES: [&str; 4] = ["torch", "transformers>=5.23", "safetensors", "diffusers"];
/// What makes cases: of the models' parts, of dialogues, of transcripts.
const SCRIPTS: [&str; 3] = [
    "vibevoice.py",
    "vibevoice_generation.py",
    "vibevoice_asr.py",
];
/// Existing cases that stand for the future ones, so that the other arguments can be checked before.
const CASES: &str = "tests/fixtures";

/// A request for new cases.
pub struct Live {
    /// Position of the folder of cases in the arguments.
    position: usize,
    python: Option<PathBuf>,
}

/// Removes `--live` and `--python` from the arguments; puts the folder of existing cases in their place.
///
/// # Errors
/// If `--python` has no value.
pub fn take(words: &mut Vec<OsString>) -> Result<Option<Live>> {
    let is_live = |word: &OsString| word == "--live";
    if !words.iter().any(is_live) {
        return Ok(None);
    }
    let python = python::take_python(words)?;
    let position = words.iter().position(is_live);
    Ok(position.map(|position| {
        words[position] = CASES.into();
        Live { position, python }
    }))
}

impl Live {
    /// Makes the cases and puts their folder into the arguments.
    ///
    /// # Errors
    /// If Python or its packages are missing, or the cases can't be made.
    pub fn put(self, words: &mut [OsString]) -> Result<()> {
        words[self.position] = make_cases(self.python)?.into();
        Ok(())
    }
}

/// Makes cases with the given Python, or with a virtual environment below `target`.
fn make_cases(python: Option<PathBuf>) -> Result<PathBuf> {
    let folder = project_root().join("target/live");
    let python = match python {
        Some(python) => python,
        None => python::environment(&folder.join("venv"), &PACKAGES)?,
    };
    let cases = folder.join("cases");
    if cases.exists() {
        std::fs::remove_dir_all(&cases)
            .with_context(|| format!("cannot remove {}", cases.display()))?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seed = now.map_or(0, |now| now.as_secs()).to_string();
    say!("cases of seed {seed}");
    for script in SCRIPTS {
        let script = project_root().join("tests/fixtures/make").join(script);
        let mut make = Command::new(&python);
        make.arg(script).arg("--out").arg(&cases);
        succeed(make.args(["--seed", &seed, "--count", COUNT]))?;
    }
    Ok(cases)
}
