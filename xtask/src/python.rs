//! Virtual environments for tools that exist only in Python, and the flag that names one.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo::succeed;

/// Makes a virtual environment in `folder` if there is none, and installs packages. Returns its Python.
///
/// # Errors
/// If there is no `python3`, or the packages can't be installed.
pub fn environment(folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    let python = folder.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    let mut install = Command::new(&python);
    succeed(
        install
            .args(["-m", "pip", "install", "--quiet"])
            .args(packages),
    )?;
    Ok(python)
}

/// Removes `--python` and its value from the arguments.
///
/// # Errors
/// If there is no value.
pub fn take_python(words: &mut Vec<OsString>) -> Result<Option<PathBuf>> {
    let Some(position) = words.iter().position(|word| word == "--python") else {
        return Ok(None);
    };
    if position + 1 == words.len() {
        bail!("--python needs the path of a Python that has the packages");
    }
    let value = words.remove(position + 1);
    words.remove(position);
    Ok(Some(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<const N: usize>(words: [&str; N]) -> Vec<OsString> {
        words.map(OsString::from).to_vec()
    }

    #[test]
    fn the_python_is_taken_out() {
        let mut args = words(["--run", "a", "--python", "p", "--seed", "1"]);
        assert_eq!(take_python(&mut args).unwrap(), Some("p".into()));
        assert_eq!(args, ["--run", "a", "--seed", "1"]);
        assert_eq!(take_python(&mut args).unwrap(), None);
        assert!(take_python(&mut words(["--python"])).is_err());
    }
}
