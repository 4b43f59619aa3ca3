//! `cargo xtask verify-reference --live`: fresh random models, made by the reference itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::asides::take_python;
use crate::cargo::{project_root, succeed};
use crate::python;

/// Models of each kind.
const COUNT: &str = "4";
const PACKAGES: [&str; 3] = ["torch", "transformers>=5.23", "safetensors"];
/// Cases that are there, in the place of those that will be made: the other words can be checked then.
const CASES: &str = "tests/fixtures";

/// Cases that are to be made.
pub struct Live {
    /// Where their folder stands among the words.
    position: usize,
    python: Option<PathBuf>,
}

/// Takes `--live` out of the words, and `--python` with it.
///
/// # Errors
/// If `--python` has no value.
pub fn take(words: &mut Vec<OsString>) -> Result<Option<Live>> {
    let is_live = |word: &OsString| word == "--live";
    if !words.iter().any(is_live) {
        return Ok(None);
    }
    let python = take_python(words)?;
    let position = words.iter().position(is_live);
    Ok(position.map(|position| {
        words[position] = CASES.into();
        Live { position, python }
    }))
}

impl Live {
    /// Makes the cases, and puts their folder among the words.
    ///
    /// # Errors
    /// If Python, its packages or the cases can't be had.
    pub fn put(self, words: &mut [OsString]) -> Result<()> {
        words[self.position] = make_cases(self.python)?.into();
        Ok(())
    }
}

/// Makes cases with the given Python, or with an environment of our own below `target`.
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
    println!("cases of seed {seed}");
    let script = project_root().join("tests/fixtures/make/vibevoice.py");
    let mut make = Command::new(python);
    make.arg(script).arg("--out").arg(&cases);
    succeed(make.args(["--seed", &seed, "--count", COUNT]))?;
    Ok(cases)
}
