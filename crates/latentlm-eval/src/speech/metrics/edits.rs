//! Edit distance of words and characters.

use std::iter::Sum;

/// Number of edits between expected and recognized items. The sum over utterances is the count of a
/// corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EditCount {
    /// Smallest number of insertions, deletions and substitutions.
    pub edits: usize,
    /// Number of expected words or characters.
    pub expected: usize,
}

impl EditCount {
    /// Edits divided by expected items. It can be above 1 if there are insertions. NaN if nothing was
    /// expected and nothing recognized.
    pub fn rate(&self) -> f64 {
        self.edits as f64 / self.expected as f64
    }
}

impl Sum for EditCount {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            edits: sum.edits + count.edits,
            expected: sum.expected + count.expected,
        })
    }
}

/// Counts edits (Levenshtein distance): on [`words`] for a word error rate, on [`characters`] for a
/// character error rate.
pub fn edit_rate<T: PartialEq>(expected: &[T], got: &[T]) -> EditCount {
    let [a, b] = [expected, got].map(|items| items.iter().collect::<Vec<&T>>());
    EditCount {
        edits: strsim::generic_levenshtein(&a, &b),
        expected: expected.len(),
    }
}

/// Normalized words of a text, for comparison: lower case, split at white space, dashes and
/// slashes, with only letters, digits and the apostrophes between them.
pub fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for word in text.split(separates_words) {
        let kept: String = word
            .replace(['\u{2019}', '\u{2bc}'], "'")
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || *c == '\'')
            .collect();
        let word = kept.trim_matches('\'');
        if !word.is_empty() {
            words.push(word.to_owned());
        }
    }
    words
}

/// Whether a character stands between words: white space, a hyphen, a dash or a slash.
fn separates_words(c: char) -> bool {
    c.is_whitespace() || matches!(c, '-' | '/' | '\u{2010}'..='\u{2015}')
}

/// Normalized characters of a text, for comparison: its [`words`] with one space between them.
pub fn characters(text: &str) -> Vec<char> {
    words(text).join(" ").chars().collect()
}
