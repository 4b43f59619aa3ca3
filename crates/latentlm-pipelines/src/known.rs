//! Characters and words of the training texts, to warn about those that a model has never seen.

use std::collections::BTreeSet;
use std::fmt;

use latentlm::core::bounds::check_values;
use latentlm_data::{DataError, normal_text, plain_word};
use latentlm_keys::escaped;
use serde::{Deserialize, Serialize};

/// Largest vocabulary that is kept. With more words than this, an unknown word is nothing unusual.
const MOST_WORDS: usize = 200_000;
/// Most values that are read: of all these words and of all characters that there are.
const MOST_VALUES: usize = 2_000_000;
/// Largest number of characters or words that are printed; the rest is only counted.
const NAMED: usize = 20;

/// The characters and words of all texts that a model was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownText {
    characters: BTreeSet<char>,
    /// Words in lower case without surrounding punctuation; `None` if there are too many.
    words: Option<BTreeSet<String>>,
}

/// Characters and words that never occurred in training. Its `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unheard {
    /// Unknown characters, in order of first occurrence.
    pub characters: Vec<char>,
    /// Unknown words, in order of first occurrence.
    pub words: Vec<String>,
}

impl KnownText {
    /// Collects the characters and words of texts.
    pub fn of<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        let mut characters = BTreeSet::new();
        let mut words = Some(BTreeSet::new());
        for text in texts {
            let text = normal_text(text.as_ref());
            characters.extend(text.chars());
            if let Some(known) = &mut words {
                known.extend(text.split(' ').filter_map(plain_word));
            }
            words = words.filter(|known| known.len() <= MOST_WORDS);
        }
        Self { characters, words }
    }

    /// The characters and words of `texts` that did not occur in training.
    pub fn unheard<T: AsRef<str>>(&self, texts: impl IntoIterator<Item = T>) -> Unheard {
        let mut unheard = Unheard::default();
        let (mut characters, mut words) = (BTreeSet::new(), BTreeSet::new());
        for text in texts {
            let text = normal_text(text.as_ref());
            for c in text.chars() {
                // A corpus of single words has no spaces; a space is never reported.
                if c != ' ' && !self.characters.contains(&c) && characters.insert(c) {
                    unheard.characters.push(c);
                }
            }
            let Some(known) = &self.words else { continue };
            for word in text.split(' ') {
                if !word.chars().all(spaced) {
                    continue;
                }
                let Some(word) = plain_word(word) else {
                    continue;
                };
                if !known.contains(&word) && words.insert(word.clone()) {
                    unheard.words.push(word);
                }
            }
        }
        unheard
    }

    /// Serializes to JSON, to be saved with a model.
    ///
    /// # Errors
    /// Never in practice: all of it can be represented in JSON.
    pub fn to_json(&self) -> Result<String, DataError> {
        serde_json::to_string(self).map_err(|error| DataError::Text {
            reason: format!("cannot write what was trained on: {error}"),
        })
    }

    /// Reads the output of [`to_json`](Self::to_json).
    ///
    /// # Errors
    /// If the text has another form.
    pub fn from_json(json: &str) -> Result<Self, DataError> {
        let unread = |reason: String| DataError::Text {
            reason: format!("cannot read what was trained on: {reason}"),
        };
        check_values(json.as_bytes(), MOST_VALUES)
            .map_err(|error| unread(format!("it {error}")))?;
        serde_json::from_str(json).map_err(|error| unread(error.to_string()))
    }
}

impl Unheard {
    /// Whether everything occurred in training.
    pub fn is_empty(&self) -> bool {
        self.characters.is_empty() && self.words.is_empty()
    }
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let characters: Vec<String> = self.characters.iter().map(char::to_string).collect();
        let lists = [("character", &characters), ("word", &self.words)];
        let lists = lists.into_iter().filter(|(_, list)| !list.is_empty());
        for (place, (what, list)) in lists.enumerate() {
            let begin = ["training never had the ", "; nor the "][place.min(1)];
            let plural = ["s", ""][usize::from(list.len() == 1)];
            write!(f, "{begin}{what}{plural} ")?;
            let named = list.iter().take(NAMED);
            let named: Vec<String> = named.map(|name| format!("`{}`", escaped(name))).collect();
            f.write_str(&named.join(", "))?;
            if list.len() > NAMED {
                write!(f, " and {} more", list.len() - NAMED)?;
            }
        }
        Ok(())
    }
}

/// Whether the character's script puts spaces between words. In other scripts a whole sentence would
/// count as one unknown word.
fn spaced(c: char) -> bool {
    !matches!(c,
        '\u{e00}'..='\u{eff}'         // Thai, Lao
        | '\u{1000}'..='\u{109f}'     // Burmese
        | '\u{1780}'..='\u{17ff}'     // Khmer
        | '\u{2e80}'..='\u{9fff}'     // Chinese, Japanese
        | '\u{f900}'..='\u{faff}'
        | '\u{ff66}'..='\u{ff9f}'
        | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_training_never_had_is_named_once() {
        let known = KnownText::of(["three five nine", "Five, three!", "caf\u{e9}"]);
        assert!(known.unheard(["nine THREE"]).words.is_empty());
        assert!(known.unheard(["five\u{a0}cafe\u{301}\n"]).is_empty());
        let unheard = known.unheard(["five zebra nine?", "Zebra: \u{e9}x"]);
        assert_eq!(unheard.characters, ['z', 'b', '?', 'Z', ':', 'x']);
        assert_eq!(unheard.words, ["zebra", "\u{e9}x"]);
        assert_eq!(
            unheard.to_string(),
            "training never had the characters `z`, `b`, `?`, `Z`, `:`, `x`; nor the words \
             `zebra`, `\u{e9}x`"
        );
        let one = known.unheard(["three-five"]);
        assert_eq!(
            one.to_string(),
            "training never had the character `-`; nor the word `three-five`"
        );
        let control = known.unheard(["five\u{1b}"]);
        assert_eq!(
            control.to_string(),
            "training never had the character `\\u{1b}`"
        );
    }

    #[test]
    fn sentences_without_spaces_are_no_words() {
        let known = KnownText::of(["\u{4f60}\u{597d}", "one"]);
        let unheard = known.unheard(["\u{597d}\u{4f60}"]);
        assert!(unheard.is_empty(), "{unheard:?}");
        assert_eq!(known.unheard(["\u{6211}"]).characters, ['\u{6211}']);
    }

    #[test]
    fn it_travels_as_json_and_many_words_are_not_kept() {
        let known = KnownText::of(["three five", "nine"]);
        let json = known.to_json().unwrap();
        assert_eq!(KnownText::from_json(&json).unwrap(), known);
        assert!(KnownText::from_json("{}").is_err());
        let list = format!("[{}0]", "0,".repeat(MOST_VALUES));
        let told = KnownText::from_json(&list).unwrap_err().to_string();
        assert!(told.contains("it has 2000002 values"), "{told}");
        let many = (0..=MOST_WORDS).map(|number| format!("a{number}"));
        let many = KnownText::of(many);
        let unheard = many.unheard(["zebra a1"]);
        assert_eq!(unheard.words, Vec::<String>::new());
        assert_eq!(unheard.characters, ['z', 'e', 'b', 'r']);
        let long = (0..30).map(|number| format!("{number}"));
        let named = known.unheard(long).to_string();
        assert!(named.ends_with("`19` and 10 more"), "{named}");
    }
}
