//! Reader of plain text: paragraphs of UTF-8 files.

use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::hex::hex_digest;
use crate::options::ReadOptions;
use crate::split::{Split, divide};
use crate::walk::read_text;

/// Largest size of a text file in bytes. With its paragraphs it takes two to three times as much memory.
const MAX_TEXT_BYTES: u64 = 2048 * ReadOptions::MEGABYTE;
/// Largest number of paragraphs of a text file: in memory a paragraph of few letters is many times larger.
const MOST_PARAGRAPHS: usize = 16_000_000;

/// The paragraphs of a split. Empty lines separate paragraphs; line ends inside one become spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainText {
    paragraphs: Vec<String>,
}

impl PlainText {
    /// Opens a text file, or a folder with `train.txt` and `test.txt`. In a single file, one paragraph in
    /// ten is held out by its hash, and at least one.
    ///
    /// # Errors
    /// If a file can't be read, is not UTF-8, holds no text or too much, or is a single paragraph, which
    /// can't be split.
    pub fn open(path: &Path, split: Split) -> Result<Self, DataError> {
        let file = file_of(path, split);
        let read = paragraphs(&read_text(&file, MAX_TEXT_BYTES)?, MOST_PARAGRAPHS);
        let mut paragraphs = read.map_err(|reason| DataError::malformed(&file, reason))?;
        if paragraphs.is_empty() {
            return Err(DataError::malformed(&file, "holds no text"));
        }
        if !path.is_dir() {
            if paragraphs.len() == 1 {
                let reason = "holds one paragraph, of which nothing can be held out: put empty lines \
                              between its paragraphs, or name a folder with train.txt and test.txt";
                return Err(DataError::malformed(&file, reason));
            }
            let keys: Vec<&str> = paragraphs.iter().map(String::as_str).collect();
            let mut splits = divide(&keys).into_iter();
            paragraphs.retain(|_| splits.next() == Some(split));
        }
        // Empty if all paragraphs are the same: they have the same hash.
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

    /// A hash of all paragraphs.
    pub fn fingerprint(&self) -> String {
        hex_digest(self.paragraphs.iter().map(|text| format!("{text:?}")))
    }
}

fn file_of(path: &Path, split: Split) -> PathBuf {
    if path.is_dir() {
        path.join(format!("{}.txt", split.name()))
    } else {
        path.to_owned()
    }
}

/// The paragraphs of a text, at most `most`.
fn paragraphs(text: &str, most: usize) -> Result<Vec<String>, String> {
    let mut paragraphs: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let mut words = line.split_whitespace().peekable();
        if words.peek().is_none() {
            is_open = false;
            continue;
        }
        if !is_open {
            if paragraphs.len() == most {
                return Err(format!(
                    "has more than {most} paragraphs, the most that are read: split it"
                ));
            }
            if let Some(last) = paragraphs.last_mut() {
                last.shrink_to_fit();
            }
            paragraphs.push(String::new());
            is_open = true;
        }
        if let Some(paragraph) = paragraphs.last_mut() {
            for word in words {
                if !paragraph.is_empty() {
                    paragraph.push(' ');
                }
                paragraph.push_str(word);
            }
        }
    }
    Ok(paragraphs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_stand_between_empty_lines() {
        let text = "One  two\nthree.\n\n \nFour.\n";
        let expected = ["One two three.", "Four."].map(str::to_owned);
        assert_eq!(paragraphs(text, 2), Ok(expected.to_vec()));
        let message = "has more than 1 paragraphs, the most that are read: split it";
        assert_eq!(paragraphs(text, 1), Err(message.to_owned()));
    }

    #[test]
    fn larger_files_are_refused_with_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.txt");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(MAX_TEXT_BYTES + 1).unwrap();
        let message = PlainText::open(&path, Split::Train).unwrap_err();
        let message = message.to_string();
        let told = format!("larger than {MAX_TEXT_BYTES} bytes");
        assert!(message.contains(&told), "{message}");
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

    #[test]
    fn a_text_of_few_paragraphs_has_both_splits_or_says_why_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("story.txt");
        for count in 2..12 {
            let text: Vec<String> = (0..count).map(|i| format!("Part {i}.")).collect();
            std::fs::write(&file, text.join("\r\n\r\n")).unwrap();
            let open = |split| PlainText::open(&file, split).unwrap().paragraphs;
            assert_eq!(open(Split::Train).len() + open(Split::Test).len(), count);
        }
        std::fs::write(&file, "One line.\nAnother line.\nA third.\n").unwrap();
        let message = PlainText::open(&file, Split::Train).unwrap_err();
        assert!(message.to_string().contains("put empty lines"), "{message}");
        std::fs::write(&file, "\n \n").unwrap();
        let message = PlainText::open(&file, Split::Test).unwrap_err();
        assert!(message.to_string().contains("holds no text"), "{message}");
    }
}
