//! `cargo xtask verify-reference --live`: fresh random models, made by the reference itself.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::cargo::{project_root, succeed};
use crate::forward::Forwarded;
use crate::python;

/// Models of each kind.
const COUNT: &str = "4";
const PACKAGES: [&str; 3] = ["torch", "transformers>=5.23", "safetensors"];

/// Passes the arguments on; `--live` becomes a folder of fresh cases.
pub fn run(mut args: Forwarded) -> Result<ExitCode> {
    if let Some(position) = args.args.iter().position(|arg| arg == "--live") {
        let python = take_python(&mut args.args);
        args.args[position] = make_cases(python)?.into();
    }
    args.run("verify-reference")
}

/// The value of `--python X` after `--live`, which the binary does not know.
fn take_python(args: &mut Vec<OsString>) -> Option<PathBuf> {
    let position = args.iter().position(|arg| arg == "--python")?;
    let mut taken = args.drain(position..(position + 2).min(args.len()));
    taken.nth(1).map(PathBuf::from)
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
