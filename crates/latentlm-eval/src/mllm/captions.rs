//! What was said of pictures, kept beside a run: `captions.tsv`.

use std::path::Path;

use latentlm::core::bundle::{io_error, write_atomically};
use latentlm_data::Caption;

use crate::error::EvalError;

/// Name of the file.
pub const CAPTIONS: &str = "captions.tsv";
const HEAD: &str = "asked\tsaid\tsplit";

/// What was said of a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidCaption {
    /// What was to be said.
    pub asked: String,
    /// What the model said.
    pub said: String,
    /// `train` or `test`.
    pub split: String,
}

impl SaidCaption {
    /// Of a split's pictures.
    pub fn all(captions: &[Caption], said: &[String], split: &str) -> Vec<Self> {
        let pairs = captions.iter().zip(said);
        let pairs = pairs.map(|(caption, said)| Self {
            asked: one_line(&caption.said()),
            said: one_line(said),
            split: split.into(),
        });
        pairs.collect()
    }
}

/// A text without what divides columns and lines.
fn one_line(text: &str) -> String {
    text.split(['\t', '\n', '\r']).collect::<Vec<_>>().join(" ")
}

/// Writes a table of three columns, divided by tabs.
///
/// # Errors
/// If the file can't be written.
pub fn write_captions(path: &Path, captions: &[SaidCaption]) -> Result<(), EvalError> {
    let mut text = format!("{HEAD}\n");
    for SaidCaption { asked, said, split } in captions {
        text += &format!("{asked}\t{said}\t{split}\n");
    }
    Ok(write_atomically(path, text.as_bytes())?)
}

/// Reads such a table; lines that are none are left out.
///
/// # Errors
/// If the file can't be read.
pub fn read_captions(path: &Path) -> Result<Vec<SaidCaption>, EvalError> {
    let text = std::fs::read_to_string(path).map_err(io_error("read", path))?;
    let caption = |line: &str| {
        let mut columns = line.split('\t').map(str::to_owned);
        Some(SaidCaption {
            asked: columns.next()?,
            said: columns.next()?,
            split: columns.next()?,
        })
    };
    Ok(text.lines().skip(1).filter_map(caption).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captions_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions.tsv");
        let caption = |text: &str, category: Option<&str>| Caption {
            text: text.into(),
            category: category.map(str::to_owned),
        };
        let captions = [caption("dog", Some("animals")), caption("7", None)];
        let said = ["animals: cat".to_owned(), "a\tb\nc".to_owned()];
        let all = SaidCaption::all(&captions, &said, "test");
        assert_eq!(
            (all[0].asked.as_str(), all[0].said.as_str()),
            ("animals: dog", "animals: cat")
        );
        assert_eq!(all[1].said, "a b c");
        write_captions(&path, &all).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("asked\tsaid\tsplit\nanimals: dog\t"),
            "{text}"
        );
        assert_eq!(read_captions(&path).unwrap(), all);
    }
}
