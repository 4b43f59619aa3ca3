//! Programs that listen: what they hear in sound files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::TrainError;

/// A command that takes paths of WAV files behind its own arguments and prints a line for each:
/// path, tab, answer. `{kind}` in it becomes the kind of what is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    words: Vec<String>,
}

impl Listener {
    /// The command of a line, cut at white space; quotes are not understood.
    ///
    /// # Errors
    /// If the line is empty.
    pub fn parse(line: &str) -> Result<Self, TrainError> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        match words.is_empty() {
            true => Err(TrainError::Config {
                reason: "an empty command can't listen".into(),
            }),
            false => Ok(Self { words }),
        }
    }

    /// What it says to each of the files.
    ///
    /// # Errors
    /// If it can't be started, fails, or leaves out a file.
    pub fn listen(&self, kind: &str, files: &[PathBuf]) -> Result<Vec<String>, TrainError> {
        let mut words = self.words.iter().map(|word| word.replace("{kind}", kind));
        let program = words.next().unwrap_or_default();
        let fail = |reason: String| TrainError::Listener {
            command: self.words.join(" "),
            reason,
        };
        let output = Command::new(&program)
            .args(words)
            .args(files)
            .output()
            .map_err(|error| fail(format!("cannot start: {error}")))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.lines().rev().find(|line| !line.trim().is_empty());
            return Err(fail(last.unwrap_or("failed without a word").into()));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let answers: HashMap<&Path, &str> = text
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(path, answer)| (Path::new(path), answer))
            .collect();
        files
            .iter()
            .map(|file| match answers.get(file.as_path()) {
                Some(answer) => Ok((*answer).to_owned()),
                None => Err(fail(format!("said nothing of {}", file.display()))),
            })
            .collect()
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn answers_belong_to_files() {
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("listen.sh");
        std::fs::write(
            &script,
            "kind=$1; shift; for f in \"$@\"; do echo noise; printf '%s\\t%s\\n' \"$f\" $kind; done",
        )
        .unwrap();
        let line = format!("sh {} {{kind}}", script.display());
        let listener = Listener::parse(&line).unwrap();
        let files = [PathBuf::from("b.wav"), PathBuf::from("a.wav")];
        assert_eq!(
            listener.listen("digits", &files).unwrap(),
            ["digits", "digits"]
        );
        for (line, part) in [
            ("no-such-program-xyz", "cannot start"),
            ("true", "said nothing"),
            ("false", "failed"),
        ] {
            let message = Listener::parse(line).unwrap().listen("x", &files);
            let message = message.unwrap_err().to_string();
            assert!(
                message.contains(part) && message.contains(line),
                "{message}"
            );
        }
        assert!(Listener::parse(" ").is_err());
    }
}
