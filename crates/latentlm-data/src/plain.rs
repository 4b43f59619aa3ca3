//! Plain text: paragraphs of UTF-8 files.

use std::path::{Path, PathBuf};

use crate::dataset::{Split, hex_digest};
use crate::error::{DataError, io_error};
use crate::folder::held_out;

/// Paragraphs of a split: what stands between empty lines, each line's end made a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainText {
    paragraphs: Vec<String>,
}

impl PlainText {
    /// Opens a text file, of which one paragraph in ten is held out by its hash, or a folder with
    /// `train.txt` and `test.txt`.
    ///
    /// # Errors
    /// If a file can't be read, is not UTF-8 or the split is empty.
    pub fn open(path: &Path, split: Split) -> Result<Self, DataError> {
        let file = file_of(path, split);
        let bytes = std::fs::read(&file).map_err(io_error("read", &file))?;
        let text = String::from_utf8(bytes)
            .map_err(|error| DataError::malformed(&file, format!("is not UTF-8: {error}")))?;
        let mut paragraphs = paragraphs(&text);
        if !path.is_dir() {
            paragraphs.retain(|paragraph| held_out(paragraph) == split);
        }
        if paragraphs.is_empty() {
            return Err(DataError::EmptySplit {
                path: file,
                split: split.name(),
            });
        }
        Ok(Self { paragraphs })
    }

    /// The paragraphs.
    pub fn paragraphs(&self) -> &[String] {
        &self.paragraphs
    }

    /// A hash of all of it.
    pub fn fingerprint(&self) -> String {
        hex_digest(self.paragraphs.iter().map(|text| format!("{text:?}")))
    }
}

fn file_of(path: &Path, split: Split) -> PathBuf {
    match path.is_dir() {
        true => path.join(format!("{}.txt", split.name())),
        false => path.to_owned(),
    }
}

fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs = vec![Vec::new()];
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.is_empty(), paragraphs.last_mut()) {
            (false, Some(last)) => last.push(words.join(" ")),
            _ => paragraphs.push(Vec::new()),
        }
    }
    let joined = paragraphs.into_iter().map(|lines| lines.join(" "));
    joined.filter(|text| !text.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_stand_between_empty_lines() {
        let text = "One  two\nthree.\n\n \nFour.\n";
        assert_eq!(paragraphs(text), ["One two three.", "Four."]);
    }

    #[test]
    fn files_are_divided_and_folders_are_taken_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("story.txt");
        let text: Vec<String> = (0..200).map(|i| format!("Paragraph {i}.")).collect();
        std::fs::write(&file, text.join("\n\n")).unwrap();
        let open = |split| PlainText::open(&file, split).unwrap();
        let (train, test) = (open(Split::Train), open(Split::Test));
        assert_eq!(train.paragraphs().len() + test.paragraphs().len(), 200);
        assert!((5..45).contains(&test.paragraphs().len()));
        assert_ne!(train.fingerprint(), test.fingerprint());

        let missing = PlainText::open(folder.path(), Split::Train).unwrap_err();
        assert!(missing.to_string().contains("train.txt"), "{missing}");
        std::fs::write(folder.path().join("train.txt"), "A.\n\nB.").unwrap();
        let given = PlainText::open(folder.path(), Split::Train).unwrap();
        assert_eq!(given.paragraphs(), ["A.", "B."]);
        std::fs::write(folder.path().join("test.txt"), [0xff, 0xfe]).unwrap();
        let broken = PlainText::open(folder.path(), Split::Test).unwrap_err();
        assert!(broken.to_string().contains("UTF-8"), "{broken}");
    }
}
