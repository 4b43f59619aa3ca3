//! The list of skipped data in a run's folder. A resumed run reads from it which recordings are broken,
//! instead of decoding all again.

use std::collections::HashSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use latentlm::core::bundle::{io_error, write_atomically};
use latentlm::core::disk;
use latentlm_data::{LeftOut, Skipped};
use latentlm_keys::escaped;

use crate::error::Result;

/// The list's name in the folder of a run.
pub const FILE: &str = "skipped.txt";
/// Stands for the path of utterances without a file.
pub const COMPOSED: &str = "composed utterances";

/// Recordings that were left out, each once; composed utterances once for every reason.
#[derive(Debug, Clone, Default)]
pub struct SkippedList {
    list: Vec<Skipped>,
    /// Paths as a file has them, and reasons of composed utterances.
    known: HashSet<(String, String)>,
}

impl SkippedList {
    /// A list of files that a dataset has left out.
    pub(crate) fn of(left_out: Vec<LeftOut>) -> Self {
        let mut list = Self::default();
        for left_out in left_out {
            list.add(Skipped {
                path: left_out.path,
                reason: left_out.reason.to_string(),
            });
        }
        list
    }

    /// Adds a recording, unless it is there.
    pub fn add(&mut self, skipped: Skipped) {
        let mut reason = String::new();
        if skipped.path == Path::new(COMPOSED) {
            reason.clone_from(&skipped.reason);
        }
        if self.known.insert((listed(&skipped.path), reason)) {
            self.list.push(skipped);
        }
    }

    /// In the order in which they were found.
    pub fn into_vec(self) -> Vec<Skipped> {
        self.list
    }

    /// Merges with the list in a file, and writes the result to both. A missing file is an empty list.
    ///
    /// # Errors
    /// If the file can't be read or written.
    pub fn keep_in(&mut self, path: &Path) -> Result<()> {
        for skipped in read(path)? {
            self.add(skipped);
        }
        if self.list.is_empty() {
            return Ok(());
        }
        let lines: String = self.list.iter().map(line).collect();
        Ok(write_atomically(path, lines.as_bytes())?)
    }
}

/// The recordings in a list; empty if there is no file.
///
/// # Errors
/// If it can't be read.
pub fn read(path: &Path) -> Result<Vec<Skipped>> {
    let text = match disk::open_regular(path).and_then(io::read_to_string) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", path)(error).into()),
    };
    let lines = text.lines().filter_map(|line| line.split_once('\t'));
    let list = lines.map(|(path, reason)| Skipped {
        path: path.into(),
        reason: reason.into(),
    });
    Ok(list.collect())
}

/// Path, tab, reason. Control characters are written out: they would steer the terminal that shows the file.
fn line(skipped: &Skipped) -> String {
    let reason: Vec<&str> = skipped.reason.split_whitespace().collect();
    let (path, reason) = (listed(&skipped.path), escaped(&reason.join(" ")));
    format!("{path}\t{reason}\n")
}

/// A path in a file of the list. What was read from such a file stays as it is.
fn listed(path: &Path) -> String {
    escaped(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn skipped(path: &str, reason: &str) -> Skipped {
        Skipped {
            path: path.into(),
            reason: reason.into(),
        }
    }

    #[test]
    fn a_list_is_taken_up_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let mut empty = SkippedList::default();
        empty.keep_in(&path).unwrap();
        assert!(!path.exists(), "nothing was left out");

        let mut first = SkippedList::default();
        first.add(skipped("a b/1.wav", "is cut\nshort"));
        first.add(skipped("a b/1.wav", "is cut short"));
        first.add(skipped(COMPOSED, "`a` is outside"));
        first.add(skipped(COMPOSED, "`b` is outside"));
        first.keep_in(&path).unwrap();
        let mut second = SkippedList::default();
        second.add(skipped("2.wav", "has no text"));
        second.add(skipped(COMPOSED, "`b` is outside"));
        second.keep_in(&path).unwrap();
        second.keep_in(&path).unwrap();
        let expected = [
            skipped("2.wav", "has no text"),
            skipped(COMPOSED, "`b` is outside"),
            skipped("a b/1.wav", "is cut short"),
            skipped(COMPOSED, "`a` is outside"),
        ];
        assert_eq!(read(&path).unwrap(), expected);
        assert_eq!(second.into_vec(), expected);
    }

    /// Every stage of a run finds the file again, and adds it to the list of those before.
    #[test]
    fn a_name_with_control_characters_is_listed_once_and_written_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        for _ in 0..2 {
            let mut list = SkippedList::default();
            list.add(skipped("a\nb\tc\u{1b}[2J.png", "is no \u{7}picture"));
            list.keep_in(&path).unwrap();
            assert_eq!(list.into_vec().len(), 1);
        }
        let text = fs::read_to_string(&path).unwrap();
        let expected = "a\\nb\\tc\\u{1b}[2J.png\tis no \\u{7}picture\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_folder_in_its_place_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let message = read(dir.path()).unwrap_err().to_string();
        assert!(message.contains("cannot read"), "{message}");
    }
}
