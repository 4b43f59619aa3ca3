//! Virtual environments for tools that exist only in Python, and the flag that names one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::cargo::succeed;

/// File in an environment that lists the packages that were asked for.
const INSTALLED: &str = "installed.txt";

/// Makes a virtual environment in `folder` if there is none, and installs packages, unless the same ones were installed
/// before: that needs the network. Returns its Python.
///
/// # Errors
/// If there is no `python3`, or the packages can't be installed.
pub fn environment(folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    let python = folder.join(if cfg!(windows) {
        "Scripts/python.exe"
    } else {
        "bin/python"
    });
    let (list, wanted) = (folder.join(INSTALLED), packages.join("\n"));
    if python.exists() && fs::read_to_string(&list).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !python.exists() {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    }
    let mut install = Command::new(&python);
    succeed(
        install
            .args(["-m", "pip", "install", "--quiet"])
            .args(packages),
    )?;
    fs::write(&list, wanted)?;
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

    /// The Python is a file that can't run: nothing is asked of it.
    #[test]
    fn what_is_installed_is_not_installed_again() {
        let dir = tempfile::tempdir().unwrap();
        let name = if cfg!(windows) { "Scripts" } else { "bin" };
        fs::create_dir(dir.path().join(name)).unwrap();
        let file = if cfg!(windows) {
            "python.exe"
        } else {
            "python"
        };
        let python = dir.path().join(name).join(file);
        fs::write(&python, "").unwrap();
        fs::write(dir.path().join(INSTALLED), "a==1\nb").unwrap();
        assert_eq!(environment(dir.path(), &["a==1", "b"]).unwrap(), python);
        assert!(environment(dir.path(), &["a==2", "b"]).is_err());
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
