//! Words and characters that differ.

use std::iter::Sum;

/// Edits between what was expected and what was got; the sum of several is that of a corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EditCount {
    /// Insertions, deletions and substitutions, as few as it takes.
    pub edits: usize,
    /// Words or characters that were expected.
    pub expected: usize,
}

impl EditCount {
    /// Edits for each that was expected: above 1 if more were got than expected, NaN for nothing of
    /// nothing.
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

/// Counts edits (Levenshtein): of [`words`] for a word error rate, of [`characters`] for a character
/// error rate.
pub fn edit_rate<T: PartialEq>(expected: &[T], got: &[T]) -> EditCount {
    let [a, b] = [expected, got].map(|items| items.iter().collect::<Vec<&T>>());
    EditCount {
        edits: strsim::generic_levenshtein(&a, &b),
        expected: expected.len(),
    }
}

/// Words of a text as they are compared: in lower case, split at white space, dashes and slashes, of
/// letters, digits and the apostrophes between them alone.
pub fn words(text: &str) -> Vec<String> {
    let separates = |c: char| c.is_whitespace() || matches!(c, '-' | '/' | '\u{2010}'..='\u{2015}');
    text.split(separates)
        .map(|word| {
            let apostrophes = word.replace(['\u{2019}', '\u{2bc}'], "'").to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || *c == '\'';
            let kept: String = apostrophes.chars().filter(kept).collect();
            kept.trim_matches('\'').to_owned()
        })
        .filter(|word| !word.is_empty())
        .collect()
}

/// Characters of a text as they are compared: its [`words`] with one space between.
pub fn characters(text: &str) -> Vec<char> {
    words(text).join(" ").chars().collect()
}
