//! Captions that the model generated, in a file of the run's folder: `captions.tsv`.

use std::path::Path;

use latentlm::core::bundle::write_atomically;
use latentlm_data::Caption;

use crate::error::Result;

/// Name of the file in the run's folder.
pub const CAPTIONS: &str = "captions.tsv";
const HEAD: &str = "asked\tsaid\tsplit";

/// Pairs of a reference caption and the caption that the model generated for its picture or clip.
pub fn caption_pairs(captions: &[Caption], said: &[String]) -> Vec<[String; 2]> {
    let pairs = captions.iter().zip(said);
    pairs
        .map(|(caption, said)| [one_line(&caption.said()), one_line(said)])
        .collect()
}

/// A text with spaces instead of tabs and line breaks.
fn one_line(text: &str) -> String {
    text.split(['\t', '\n', '\r']).collect::<Vec<_>>().join(" ")
}

/// Writes the [`caption_pairs`] of each split as a table of three columns, separated by tabs.
///
/// # Errors
/// If the file can't be written.
pub fn write_captions(path: &Path, splits: &[(&str, Vec<[String; 2]>)]) -> Result<()> {
    let mut text = format!("{HEAD}\n");
    for (split, pairs) in splits {
        for [asked, said] in pairs {
            text += &format!("{asked}\t{said}\t{split}\n");
        }
    }
    Ok(write_atomically(path, text.as_bytes())?)
}

/// The pairs of a split, `train` or `test`, from the table that [`write_captions`] writes; none before the first
/// evaluation, when there is no file. Lines without three columns are skipped.
pub fn read_captions(path: &Path, split: &str) -> Vec<[String; 2]> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut pairs = Vec::new();
    for line in text.lines().skip(1) {
        if let [asked, said, own, ..] = line.split('\t').collect::<Vec<_>>()[..]
            && own == split
        {
            pairs.push([asked, said].map(str::to_owned));
        }
    }
    pairs
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
        let test = caption_pairs(&captions, &said);
        assert_eq!(test[0], ["animals: dog", "animals: cat"]);
        assert_eq!(test[1][1], "a b c");
        let train = caption_pairs(&captions[..1], &["animals: dog".to_owned()]);
        assert!(read_captions(&path, "test").is_empty(), "no file yet");
        let splits = [("test", test.clone()), ("train", train.clone())];
        write_captions(&path, &splits).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("asked\tsaid\tsplit\nanimals: dog\t"),
            "{text}"
        );
        assert_eq!(read_captions(&path, "test"), test);
        assert_eq!(read_captions(&path, "train"), train);
    }
}
