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

/// Words that are said too often or not at all. The sum over utterances is the count of a corpus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slips {
    /// Words that were said twice, or repeat the end of the prompt.
    pub doubled: usize,
    /// Other words that were too much.
    pub inserted: usize,
    /// Words that were left out.
    pub dropped: usize,
    /// Words that were to be said.
    pub expected: usize,
}

impl Sum for Slips {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, count| Self {
            doubled: sum.doubled + count.doubled,
            inserted: sum.inserted + count.inserted,
            dropped: sum.dropped + count.dropped,
            expected: sum.expected + count.expected,
        })
    }
}

impl Slips {
    /// Counts slips in words that were heard, by an alignment of fewest edits. An extra word is doubled if it equals
    /// the word before or behind it, else inserted; `before` is the last word of a voice prompt. Words that were
    /// heard as other words are no slips.
    pub fn count(expected: &[String], heard: &[String], before: Option<&str>) -> Self {
        let costs = costs(expected, heard);
        let (mut i, mut j) = (expected.len(), heard.len());
        let mut slips = Self {
            expected: expected.len(),
            ..Self::default()
        };
        while i > 0 || j > 0 {
            let cost = costs[i][j];
            if i > 0 && j > 0 && expected[i - 1] == heard[j - 1] {
                (i, j) = (i - 1, j - 1);
            } else if i > 0 && cost == costs[i - 1][j] + 1 {
                slips.dropped += 1;
                i -= 1;
            } else if j > 0 && cost == costs[i][j - 1] + 1 {
                j -= 1;
                let word = heard[j].as_str();
                let earlier = match j {
                    0 => before,
                    _ => Some(heard[j - 1].as_str()),
                };
                let later = heard.get(j + 1).map(String::as_str);
                if earlier == Some(word) || later == Some(word) {
                    slips.doubled += 1;
                } else {
                    slips.inserted += 1;
                }
            } else {
                // One word was heard as another.
                (i, j) = (i - 1, j - 1);
            }
        }
        slips
    }
}

/// Fewest edits from the first `i` expected to the first `j` heard words, for each `i` and `j`.
fn costs(expected: &[String], heard: &[String]) -> Vec<Vec<usize>> {
    let mut costs: Vec<Vec<usize>> = vec![(0..=heard.len()).collect()];
    for (i, word) in expected.iter().enumerate() {
        let above = &costs[i];
        let mut row = vec![i + 1];
        for (j, other) in heard.iter().enumerate() {
            let exchanged = above[j] + usize::from(word != other);
            row.push(exchanged.min(above[j + 1] + 1).min(row[j] + 1));
        }
        costs.push(row);
    }
    costs
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
