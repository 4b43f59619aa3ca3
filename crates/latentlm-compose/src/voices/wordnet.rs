//! Sentences out of the examples of WordNet.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use latentlm_data::DataError;

use crate::error::malformed;

/// WordNet's files of synsets, which hold the examples.
const FILES: [&str; 4] = ["data.noun", "data.verb", "data.adj", "data.adv"];
/// Number of words of a sentence.
const WORDS: std::ops::RangeInclusive<usize> = 4..=15;

/// Reads the examples of WordNet in a folder that can be spoken, without repetitions: 4 to 15 words of letters,
/// no abbreviations, no digits. They begin with a capital and end with a mark.
///
/// # Errors
/// If the folder holds no WordNet or can't be read.
pub fn wordnet_sentences(folder: &Path) -> Result<Vec<String>, DataError> {
    let (mut sentences, mut seen) = (Vec::new(), HashSet::new());
    for name in FILES {
        let path = folder.join(name);
        let bytes = fs::read(&path).map_err(|error| {
            let reason = format!(
                "cannot be read ({error}): `apt install wordnet-base` brings WordNet; name its folder \
                 with --wordnet, or a file of other sentences with --texts"
            );
            malformed(&path, reason)
        })?;
        for line in String::from_utf8_lossy(&bytes).lines() {
            for sentence in examples(line) {
                if seen.insert(sentence.clone()) {
                    sentences.push(sentence);
                }
            }
        }
    }
    if sentences.len() < 2 {
        return Err(malformed(folder, "holds no examples of WordNet"));
    }
    Ok(sentences)
}

/// The usable examples of a line: what stands in quotes behind the bar.
fn examples(line: &str) -> Vec<String> {
    let Some((_, gloss)) = line.split_once(" | ") else {
        return Vec::new();
    };
    let quoted = gloss.split('"').skip(1).step_by(2);
    quoted.filter_map(sentence_of).collect()
}

/// An example as a sentence, if all synthesizers read it alike.
fn sentence_of(example: &str) -> Option<String> {
    let words: Vec<&str> = example.split_whitespace().collect();
    let (last, others) = words.split_last()?;
    let stem = last.trim_end_matches([',', ';', ':', '.', '?', '!']);
    let mark = last[stem.len()..].chars().next();
    let ending = mark.filter(|mark| matches!(mark, '?' | '!')).unwrap_or('.');
    let is_plain = others.iter().all(|word| {
        let stem = word.strip_suffix([',', ';', ':']).unwrap_or(word);
        is_word(stem)
    });
    if !WORDS.contains(&words.len()) || !is_plain || !is_word(stem) {
        return None;
    }
    let mut sentence = words.join(" ");
    sentence.truncate(sentence.len() - (last.len() - stem.len()));
    sentence.push(ending);
    sentence[..1].make_ascii_uppercase();
    Some(sentence)
}

/// Whether a word has letters only, with hyphens and apostrophes between them, and is no abbreviation in capitals.
fn is_word(word: &str) -> bool {
    let is_letter = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphabetic);
    let bytes = word.as_bytes();
    let is_plain = bytes
        .iter()
        .all(|byte| byte.is_ascii_alphabetic() || b"-'".contains(byte));
    let capitals = bytes.iter().filter(|byte| byte.is_ascii_uppercase());
    is_letter(bytes.first())
        && is_letter(bytes.last())
        && is_plain
        && !word.contains("--")
        && capitals.count() <= 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_become_sentences() {
        let line = r#"00001740 03 n 01 entity 0 | that which is; "it was full of rackets, balls and other objects"; "NATO has many members today"; "a cold virus"; "who's there at the well-known door?"; "they met in 1984 by chance""#;
        let expected = [
            "It was full of rackets, balls and other objects.",
            "Who's there at the well-known door?",
        ];
        assert_eq!(examples(line), expected);
        assert!(examples("  1 This software and database is \"being\" provided").is_empty());
    }

    #[test]
    fn what_is_read_in_different_ways_is_left_out() {
        let sentence = |text: &str| sentence_of(text);
        for text in [
            "one two three",
            "the U.S. is a country",
            "he paid $5 for it",
            "she said - and left",
            "a b c d e f g h i j k l m n o p",
            "the caf\u{e9} is open now",
            "",
        ] {
            assert_eq!(sentence(text), None, "{text}");
        }
        let told = sentence("stop right there now!").unwrap();
        assert_eq!(told, "Stop right there now!");
        assert_eq!(sentence("wait; it is late,").unwrap(), "Wait; it is late.");
    }

    #[test]
    fn wordnet_is_read_from_its_folder_or_said_to_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let message = wordnet_sentences(dir.path()).unwrap_err().to_string();
        assert!(
            message.contains("apt install wordnet-base") && !message.contains('\n'),
            "{message}"
        );
        for name in FILES {
            let line = format!("0 03 n | gloss; \"the same words again\"; \"this is {name}\"\n");
            fs::write(dir.path().join(name), line).unwrap();
        }
        let error = wordnet_sentences(dir.path()).unwrap_err();
        assert!(error.to_string().contains("no examples"), "{error}");
        let own = "0 03 r | gloss; \"it ran very quickly\"\n";
        fs::write(dir.path().join("data.adv"), own).unwrap();
        let found = wordnet_sentences(dir.path()).unwrap();
        assert_eq!(found, ["The same words again.", "It ran very quickly."]);
    }
}
