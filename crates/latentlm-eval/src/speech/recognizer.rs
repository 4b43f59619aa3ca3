//! External programs that recognize or compare sound files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use latentlm_pipelines::PipelineError;

use crate::error::{EvalError, Result};

/// A command that takes paths of WAV files after its own arguments. For each file, or for the
/// second file of each pair, it prints a line: path, tab, answer. `{kind}` in the command is
/// replaced by the kind of the texts that the files say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    words: Vec<String>,
}

impl Listener {
    /// Parses a command line. It is split at white space, except between double quotes. There are
    /// no other quotes and no escapes, because paths on Windows have backslashes.
    ///
    /// # Errors
    /// If the line is empty or a quote is not closed.
    pub fn parse(line: &str) -> Result<Self> {
        let fail = |reason: String| Err(PipelineError::Config(reason).into());
        match split(line) {
            None => fail(format!("`{line}` has a quote that is not closed")),
            Some(words) if words.is_empty() => fail("an empty command can't listen".into()),
            Some(words) => Ok(Self { words }),
        }
    }

    /// The command with names of files in place of their paths, so that it is the same in another folder.
    pub fn name(&self) -> String {
        let names = self.words.iter().map(|word| {
            let name = Path::new(word).file_name();
            name.map_or_else(|| word.into(), |name| name.to_string_lossy())
        });
        names.collect::<Vec<Cow<'_, str>>>().join(" ")
    }

    /// The command's answer to each file.
    ///
    /// # Errors
    /// If the command can't be started, fails, or gives no answer to a file.
    pub fn listen(&self, kind: &str, files: &[PathBuf]) -> Result<Vec<String>> {
        self.run(kind, files, files)
    }

    /// The command's answer to each pair of files, which it prints for the second file.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub fn compare(&self, kind: &str, pairs: &[[PathBuf; 2]]) -> Result<Vec<String>> {
        let seconds: Vec<PathBuf> = pairs.iter().map(|pair| pair[1].clone()).collect();
        self.run(kind, &pairs.concat(), &seconds)
    }

    /// Runs the command with `files`. Returns its answers to `answered`.
    fn run(&self, kind: &str, files: &[PathBuf], answered: &[PathBuf]) -> Result<Vec<String>> {
        let mut words = self.words.iter().map(|word| word.replace("{kind}", kind));
        let program = words.next().unwrap_or_default();
        let fail = |reason: String| EvalError::Listener(self.words.join(" "), reason);
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
        let mut answers = HashMap::new();
        for line in text.lines() {
            if let Some((path, answer)) = line.split_once('\t') {
                answers.insert(Path::new(path), answer);
            }
        }
        let mut own = Vec::with_capacity(answered.len());
        for file in answered {
            let Some(answer) = answers.get(file.as_path()) else {
                return Err(fail(format!("said nothing of {}", file.display())));
            };
            own.push((*answer).to_owned());
        }
        Ok(own)
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

#[cfg(test)]
#[cfg(unix)]
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
        let line = r#""/a b/bin/python" c/listen.py --whisper packaged .."#;
        let name = Listener::parse(line).unwrap().name();
        assert_eq!(name, "python listen.py --whisper packaged ..");
        let message = Listener::parse(r#"a "b c"#).unwrap_err().to_string();
        assert!(message.contains("not closed"), "{message}");
    }

    /// The command is a script in a folder with a space in its name.
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
