//! Sentences to be spoken, from a file.

use std::path::Path;

use super::table::plain_lines;
use crate::error::DataError;
use crate::normal::normal_text;
use crate::options::SizeLimit;
use crate::walk::read_text;

/// Largest size of a file of sentences.
const TEXT_LIMIT: SizeLimit = SizeLimit {
    bytes: 256 << 20,
    key: None,
};

/// Reads the sentences of a file, one per line, without repetitions.
///
/// # Errors
/// If the file can't be read or has fewer than two sentences: one for training, one held out.
pub fn read_sentences(path: &Path) -> Result<Vec<String>, DataError> {
    let text = plain_lines(&read_text(path, TEXT_LIMIT)?);
    let mut sentences: Vec<String> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    let lines = text.lines().map(normal_text);
    for line in lines.filter(|line| !line.is_empty()) {
        if seen.insert(line.clone()) {
            sentences.push(line);
        }
    }
    if sentences.len() < 2 {
        return Err(DataError::malformed(
            path,
            "needs two different sentences or more, one a line",
        ));
    }
    Ok(sentences)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn sentences_are_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.txt");
        fs::write(&path, "\u{feff}One.\r\n\n  Two. \nOne.\n").unwrap();
        assert_eq!(read_sentences(&path).unwrap(), ["One.", "Two."]);
        fs::write(&path, "One.\nOne.\n").unwrap();
        let message = read_sentences(&path).unwrap_err().to_string();
        assert!(message.contains("two different sentences"), "{message}");
    }
}
