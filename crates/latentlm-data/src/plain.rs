//! Reader of plain text: paragraphs of UTF-8 files.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use latentlm_media::MEGABYTE;
use serde::{Deserialize, Serialize};

use crate::allowed::allows_more;
use crate::error::{DataError, io_error};
use crate::hex::hex_digest;
use crate::options::SizeLimit;
use crate::split::{Split, divide};
use crate::walk::{open_within, read_text};

/// Bytes that are read at a time before it is known that a text is used.
const CHUNK_BYTES: usize = 1 << 16;

/// Limits of a text file. In a recipe, those that are missing have their defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlainLimits {
    /// Largest size in megabytes. With its paragraphs a text takes two to three times as much memory.
    pub max_text_mb: u64,
    /// Largest number of paragraphs: in memory a paragraph of few letters is many times larger.
    pub max_paragraphs: usize,
}

impl Default for PlainLimits {
    /// 2 GiB and 16 million paragraphs.
    fn default() -> Self {
        Self {
            max_text_mb: 2048,
            max_paragraphs: 16_000_000,
        }
    }
}

impl PlainLimits {
    fn size(self) -> SizeLimit {
        SizeLimit {
            bytes: self.max_text_mb.saturating_mul(MEGABYTE),
            key: Some("text.max_text_mb"),
        }
    }
}

/// The paragraphs of a split. Empty lines separate paragraphs; line ends inside one become spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlainText {
    paragraphs: Vec<String>,
}

impl PlainText {
    /// Opens a text within the default limits, as [`open_within`](Self::open_within).
    ///
    /// # Errors
    /// As [`open_within`](Self::open_within).
    pub fn open(path: &Path, split: Split) -> Result<Self, DataError> {
        Self::open_within(path, split, PlainLimits::default())
    }

    /// Opens a text file, or a folder with `train.txt` and `test.txt`. In a single file, one paragraph in
    /// ten is held out by its hash, and at least one.
    ///
    /// # Errors
    /// If a file can't be read, is not UTF-8, holds no text or too much, or is a single paragraph, which
    /// can't be split.
    pub fn open_within(path: &Path, split: Split, limits: PlainLimits) -> Result<Self, DataError> {
        let file = file_of(path, split);
        // A text that is refused takes no memory, however large it is.
        check(&file, path.is_dir(), limits)?;
        let mut paragraphs = paragraphs(&read_text(&file, limits.size())?);
        if !path.is_dir() {
            let keys: Vec<&str> = paragraphs.iter().map(String::as_str).collect();
            let mut splits = divide(&keys).into_iter();
            paragraphs.retain(|_| splits.next() == Some(split));
        }
        // The file may have changed since it was checked.
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

/// Checks that a text file has paragraphs for its splits: both, or one of them if it has a file of its own.
fn check(path: &Path, is_split: bool, limits: PlainLimits) -> Result<(), DataError> {
    let most = limits.max_paragraphs;
    let mut count = Count::default();
    read_chunks(path, limits.size(), |text| {
        count.add(text);
        count.paragraphs <= most
    })?;
    let reason = match count.paragraphs {
        0 => "holds no text".to_owned(),
        1 if !is_split => "holds one paragraph, of which nothing can be held out: put empty lines \
                           between its paragraphs, or name a folder with train.txt and test.txt"
            .to_owned(),
        count if count <= most => return Ok(()),
        _ => {
            let more = allows_more("text.max_paragraphs");
            let reason = format!("has more than {most} paragraphs, the most that are read; {more}");
            return Err(DataError::too_large(path, reason));
        }
    };
    Err(DataError::malformed(path, reason))
}

/// Reads a UTF-8 file piece by piece, until `each` is false.
fn read_chunks(
    path: &Path,
    limit: SizeLimit,
    mut each: impl FnMut(&str) -> bool,
) -> Result<(), DataError> {
    let mut file = open_within(path, limit)?;
    let mut buffer = vec![0; CHUNK_BYTES];
    // Bytes before the buffer, and bytes at its start: those of a character that is not whole yet.
    let (mut before, mut kept) = (0, 0);
    loop {
        let count = read(&mut file, &mut buffer[kept..]).map_err(io_error("read", path))?;
        let bytes = &buffer[..kept + count];
        let (text, rest) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, 0),
            Err(error) => {
                let (whole, rest) = bytes.split_at(error.valid_up_to());
                if error.error_len().is_some() || count == 0 {
                    let reason = format!("is not UTF-8 from byte {} on", before + whole.len());
                    return Err(DataError::malformed(path, reason));
                }
                (std::str::from_utf8(whole).unwrap_or_default(), rest.len())
            }
        };
        if !each(text) || count == 0 {
            return Ok(());
        }
        let end = kept + count;
        before += end - rest;
        buffer.copy_within(end - rest..end, 0);
        kept = rest;
    }
}

/// Reads some bytes; 0 at the end of the file.
fn read(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// Counts paragraphs in pieces of a text, as [`paragraphs`] finds them.
#[derive(Debug, Default)]
struct Count {
    paragraphs: usize,
    /// Whether a paragraph goes on.
    is_open: bool,
    /// Whether the line has a word.
    is_filled: bool,
    /// Whether anything was read: a byte order mark may stand before it.
    has_begun: bool,
}

impl Count {
    fn add(&mut self, text: &str) {
        for letter in text.chars() {
            let is_mark = letter == '\u{feff}' && !self.has_begun;
            self.has_begun = true;
            if letter == '\n' {
                // An empty line ends a paragraph.
                self.is_open &= self.is_filled;
                self.is_filled = false;
            } else if !letter.is_whitespace() && !is_mark {
                self.paragraphs += usize::from(!self.is_open);
                self.is_open = true;
                self.is_filled = true;
            }
        }
    }
}

/// The paragraphs of a text.
fn paragraphs(text: &str) -> Vec<String> {
    let mut paragraphs: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines() {
        let mut words = line.split_whitespace().peekable();
        if words.peek().is_none() {
            is_open = false;
            continue;
        }
        if !is_open {
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
    paragraphs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_stand_between_empty_lines() {
        let text = "One  two\nthree.\n\n \nFour.\n";
        let expected = ["One two three.", "Four."].map(str::to_owned);
        assert_eq!(paragraphs(text), expected);
    }

    /// Before a text is read it is counted, in pieces that may end anywhere.
    #[test]
    fn paragraphs_are_counted_as_they_are_read() {
        for text in [
            "",
            "\n \n",
            "One  two\nthree.\n\n \nFour.\n",
            "\n\na\r\n\r\nb\r\nc\n\u{a0}\nd",
            "\u{e4}\u{3b1}\n\t\n\u{1f600}\n\n\n\u{feff}\n",
        ] {
            let expected = paragraphs(text).len();
            for size in 1..5 {
                let mut count = Count::default();
                let letters: Vec<char> = text.chars().collect();
                for piece in letters.chunks(size) {
                    count.add(&piece.iter().collect::<String>());
                }
                assert_eq!(count.paragraphs, expected, "{text:?}");
            }
        }
        let mut count = Count::default();
        count.add("\u{feff}\n\n");
        assert_eq!(count.paragraphs, 0);
    }

    /// Characters of several bytes lie across the ends of pieces; one that is cut is no UTF-8.
    #[test]
    fn large_texts_are_checked_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.txt");
        let text = "\u{20ac}".repeat(CHUNK_BYTES) + "\n\nEnd.";
        std::fs::write(&path, &text).unwrap();
        let mut read = String::new();
        let limits = PlainLimits::default();
        read_chunks(&path, limits.size(), |piece| {
            read.push_str(piece);
            true
        })
        .unwrap();
        assert!(read == text);
        check(&path, false, limits).unwrap();
        let mut bytes = text.into_bytes();
        bytes.truncate(3 * CHUNK_BYTES - 1);
        std::fs::write(&path, &bytes).unwrap();
        let message = check(&path, false, limits).unwrap_err().to_string();
        assert!(
            message.ends_with("is not UTF-8 from byte 196605 on"),
            "{message}"
        );
        bytes[70_001] = 0xff;
        std::fs::write(&path, &bytes).unwrap();
        let message = check(&path, false, limits).unwrap_err().to_string();
        assert!(
            message.ends_with("is not UTF-8 from byte 69999 on"),
            "{message}"
        );
    }

    #[test]
    fn more_paragraphs_than_can_be_kept_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("short.txt");
        std::fs::write(&path, "a\n\n".repeat(16_000_001)).unwrap();
        let message = PlainText::open(&path, Split::Train).unwrap_err();
        let part = "has more than 16000000 paragraphs, the most that are read; text.max_paragraphs of a recipe \
                    allows more";
        assert!(message.to_string().ends_with(part), "{message}");
        std::fs::write(&path, "a\n\nb\n\nc").unwrap();
        let open = |max_paragraphs| {
            let limits = PlainLimits {
                max_paragraphs,
                ..PlainLimits::default()
            };
            PlainText::open_within(&path, Split::Train, limits)
        };
        assert!(open(2).is_err() && open(3).is_ok());
    }

    #[test]
    fn larger_files_are_refused_with_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.txt");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(2048 * MEGABYTE + 1).unwrap();
        let message = PlainText::open(&path, Split::Train).unwrap_err();
        let message = message.to_string();
        let told = "larger than 2147483648 bytes, the most that is read; text.max_text_mb of a recipe allows more: \
                    2049 at least";
        assert!(message.ends_with(told), "{message}");
        std::fs::write(&path, "a\n\n".repeat(1 << 19)).unwrap();
        let open = |max_text_mb| {
            let limits = PlainLimits {
                max_text_mb,
                ..PlainLimits::default()
            };
            PlainText::open_within(&path, Split::Train, limits)
        };
        let message = open(1).unwrap_err().to_string();
        assert!(message.ends_with("allows more: 2 at least"), "{message}");
        assert!(open(2).is_ok());
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
