//! Programs that listen: what they hear in sound files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use latentlm_pipelines::PipelineError;

use crate::error::EvalError;

/// A command that takes paths of WAV files behind its own arguments and prints a line for each, or for
/// the second of each pair: path, tab, answer. `{kind}` in it becomes the kind of what is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    words: Vec<String>,
}

impl Listener {
    /// The command of a line, cut at white space but where double quotes hold it together. There are no
    /// other quotes and no escapes: paths of Windows are full of backslashes.
    ///
    /// # Errors
    /// If the line is empty or a quote is not closed.
    pub fn parse(line: &str) -> Result<Self, EvalError> {
        let fail = |reason: String| Err(PipelineError::Config { reason }.into());
        match split(line) {
            None => fail(format!("`{line}` has a quote that is not closed")),
            Some(words) if words.is_empty() => fail("an empty command can't listen".into()),
            Some(words) => Ok(Self { words }),
        }
    }

    /// What it says to each of the files.
    ///
    /// # Errors
    /// If it can't be started, fails, or leaves out a file.
    pub fn listen(&self, kind: &str, files: &[PathBuf]) -> Result<Vec<String>, EvalError> {
        self.ask(kind, files, files)
    }

    /// What it says to the second of each pair of files beside the first.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn compare(&self, kind: &str, pairs: &[[PathBuf; 2]]) -> Result<Vec<String>, EvalError> {
        let seconds: Vec<PathBuf> = pairs.iter().map(|pair| pair[1].clone()).collect();
        self.ask(kind, &pairs.concat(), &seconds)
    }

    /// Gives it files. Returns what it says to some of them.
    fn ask(
        &self,
        kind: &str,
        files: &[PathBuf],
        answered: &[PathBuf],
    ) -> Result<Vec<String>, EvalError> {
        let mut words = self.words.iter().map(|word| word.replace("{kind}", kind));
        let program = words.next().unwrap_or_default();
        let fail = |reason: String| EvalError::Listener {
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
        answered
            .iter()
            .map(|file| match answers.get(file.as_path()) {
                Some(answer) => Ok((*answer).to_owned()),
                None => Err(fail(format!("said nothing of {}", file.display()))),
            })
            .collect()
    }
}

/// Words of a line; `None` if a quote is not closed.
fn split(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for c in line.chars() {
        if c.is_whitespace() && !quoted {
            words.extend(word.take());
            continue;
        }
        // Two quotes with nothing between them are a word too.
        let word = word.get_or_insert_with(String::new);
        match c {
            '"' => quoted = !quoted,
            c => word.push(c),
        }
    }
    words.extend(word);
    (!quoted).then_some(words)
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

    #[test]
    fn quotes_hold_words_together() {
        for (line, expected) in [
            ("a  b\tc", &["a", "b", "c"][..]),
            (r#" "a b" c"#, &["a b", "c"]),
            (r#"a" b"c "" d"#, &["a bc", "", "d"]),
            (r"C:\x 'y z'", &[r"C:\x", "'y", "z'"]),
        ] {
            let listener = Listener::parse(line).unwrap();
            assert_eq!(listener.words, expected, "{line}");
        }
        let message = Listener::parse(r#"a "b c"#).unwrap_err().to_string();
        assert!(message.contains("not closed"), "{message}");
    }

    /// By a script in a folder with a space in its name.
    #[test]
    fn pairs_are_answered_by_their_second() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a b");
        std::fs::create_dir(&folder).unwrap();
        let script = folder.join("compare.sh");
        let text = "while [ $# -gt 0 ]; do printf '%s\\t%s over %s\\n' \"$2\" \"$2\" \"$1\"; shift 2; done";
        std::fs::write(&script, text).unwrap();
        let line = format!("sh \"{}\"", script.display());
        let pairs = [["a.wav", "b.wav"], ["c d.wav", "e.wav"]].map(|pair| pair.map(PathBuf::from));
        let answers = Listener::parse(&line).unwrap().compare("x", &pairs);
        assert_eq!(answers.unwrap(), ["b.wav over a.wav", "e.wav over c d.wav"]);
    }
}
