//! What a corpus already has, line by line: an interrupted call goes on behind the last whole line.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use latentlm_data::DataError;
use latentlm_media::write_whole;
use serde_json::Value;

use crate::error::{io_error, malformed};

/// A file of JSON lines that grows. Its first line says what the others are made of.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    entries: Vec<Value>,
}

impl Journal {
    /// Opens a journal, or begins one with `header`. A line that was cut off is removed.
    ///
    /// # Errors
    /// If the file can't be read or written, or begins with another header.
    pub(super) fn open(path: &Path, header: &Value) -> Result<Self, DataError> {
        let written = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => return Err(io_error("read", path)(error)),
        };
        let mut lines = Vec::new();
        for line in written.split_inclusive('\n') {
            match serde_json::from_str::<Value>(line) {
                Ok(value) if line.ends_with('\n') => lines.push(value),
                _ => break,
            }
        }
        if lines.is_empty() {
            lines.push(header.clone());
        } else if lines[0] != *header {
            let reason =
                "was begun with another seed, other voices or other sentences: name another folder";
            return Err(malformed(path, reason));
        }
        let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if whole != written {
            write_whole(path, whole.as_bytes())?;
        }
        let file = OpenOptions::new().append(true).open(path);
        Ok(Self {
            path: path.to_owned(),
            file: file.map_err(io_error("open", path))?,
            entries: lines.split_off(1),
        })
    }

    /// The lines behind the header.
    pub(super) fn entries(&self) -> &[Value] {
        &self.entries
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If it can't be written.
    pub(super) fn add(&mut self, entry: Value) -> Result<(), DataError> {
        let line = format!("{entry}\n");
        self.file
            .write_all(line.as_bytes())
            .map_err(io_error("write", &self.path))?;
        self.entries.push(entry);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_that_was_cut_off_is_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("made.jsonl");
        let header = json!({"seed": 1});
        let mut journal = Journal::open(&path, &header).unwrap();
        journal.add(json!({"a": 0.25})).unwrap();
        journal.add(json!({"b": [1, 2]})).unwrap();
        let whole = std::fs::read_to_string(&path).unwrap();
        assert_eq!(whole, "{\"seed\":1}\n{\"a\":0.25}\n{\"b\":[1,2]}\n");
        // Even a line that could be read, if its end is missing.
        for cut in [whole.len() - 1, whole.len() - 4] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path, &header).unwrap();
            assert_eq!(journal.entries(), [json!({"a": 0.25})]);
            journal.add(json!({"b": [1, 2]})).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        }
        let error = Journal::open(&path, &json!({"seed": 2})).unwrap_err();
        assert!(error.to_string().contains("another folder"), "{error}");
    }
}
