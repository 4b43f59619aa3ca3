//! Captions that the model generated, in a file of the run's folder: `captions.tsv`.

use std::path::Path;

use latentlm::core::bundle::{io_error, write_atomically};
use latentlm_data::Caption;

use crate::error::Result;

/// Name of the file in the run's folder.
pub const CAPTIONS: &str = "captions.tsv";
const HEAD: &str = "asked\tsaid\tsplit";

/// A generated caption and its reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidCaption {
    /// Reference caption.
    pub asked: String,
    /// Caption that the model generated.
    pub said: String,
    /// Split of the picture: `train` or `test`.
    pub split: String,
}

impl SaidCaption {
    /// Pairs the references of a split with the generated captions.
    pub fn all(captions: &[Caption], said: &[String], split: &str) -> Vec<Self> {
        captions
            .iter()
            .zip(said)
            .map(|(caption, said)| Self {
                asked: one_line(&caption.said()),
                said: one_line(said),
                split: split.into(),
            })
            .collect()
    }
}

/// A text with spaces instead of tabs and line breaks.
fn one_line(text: &str) -> String {
    text.split(['\t', '\n', '\r']).collect::<Vec<_>>().join(" ")
}

/// Writes captions as a table of three columns, separated by tabs.
///
/// # Errors
/// If the file can't be written.
pub fn write_captions(path: &Path, captions: &[SaidCaption]) -> Result<()> {
    let mut text = format!("{HEAD}\n");
    for SaidCaption { asked, said, split } in captions {
        text += &format!("{asked}\t{said}\t{split}\n");
    }
    Ok(write_atomically(path, text.as_bytes())?)
}

/// Reads the table that [`write_captions`] writes. Lines without three columns are skipped.
///
/// # Errors
/// If the file can't be read.
pub fn read_captions(path: &Path) -> Result<Vec<SaidCaption>> {
    let text = std::fs::read_to_string(path).map_err(io_error("read", path))?;
    let mut captions = Vec::new();
    for line in text.lines().skip(1) {
        if let [asked, said, split, ..] = line.split('\t').collect::<Vec<_>>()[..] {
            let [asked, said, split] = [asked, said, split].map(str::to_owned);
            captions.push(SaidCaption { asked, said, split });
        }
    }
    Ok(captions)
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
