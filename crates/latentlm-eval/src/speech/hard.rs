//! Texts on which speech models stumble, and how a recognizer's writing of them is read. The texts are made of a
//! corpus's own words, so that errors are not due to unknown words, and of numbers, whether the corpus has them or not.

use latentlm::RandomStream;
use latentlm_data::speech::number_words;

use super::metrics::{edit_rate, words};

/// Words of a long text, at least.
const LONG: usize = 30;
/// Texts drawn for each one that is found, at most: a corpus of few words has few different texts.
const TRIES: usize = 20;

/// Different texts in turn: words that are said several times, numbers, long sentences. Fewer than `count` if the words
/// and sentences give no more. The same arguments give the same texts.
pub fn hard_texts(
    vocabulary: &[String],
    sentences: &[String],
    count: usize,
    seed: u64,
) -> Vec<String> {
    let mut texts: Vec<String> = Vec::with_capacity(count);
    let makers = [repeated, numbers, long];
    for place in 0..count {
        let mut random = RandomStream::for_step(seed, "hard-texts", place as u64);
        for _ in 0..TRIES {
            let source = match place % makers.len() {
                2 => sentences,
                _ => vocabulary,
            };
            let text = makers[place % makers.len()](source, &mut random);
            if !text.is_empty() && !texts.contains(&text) {
                texts.push(text);
                break;
            }
        }
    }
    texts
}

/// Two to four words, each two to five times.
fn repeated(vocabulary: &[String], random: &mut RandomStream) -> String {
    let mut said: Vec<&str> = Vec::new();
    for _ in 0..2 + random.below(3) {
        let times = 2 + random.below(4);
        if let Some(word) = picked(vocabulary, random) {
            said.extend(std::iter::repeat_n(word, times));
        }
    }
    said.join(" ")
}

/// Three to six numbers of one to four digits.
fn numbers(_: &[String], random: &mut RandomStream) -> String {
    let mut said = Vec::new();
    for _ in 0..3 + random.below(4) {
        let below = 10_usize.pow(1 + random.below(4) as u32);
        said.push(number_words(random.below(below)));
    }
    said.join(" ")
}

/// Sentences one after the other, until there are 30 words.
fn long(sentences: &[String], random: &mut RandomStream) -> String {
    let (mut said, mut count) = (Vec::new(), 0);
    while count < LONG {
        let Some(sentence) = picked(sentences, random) else {
            break;
        };
        said.push(sentence);
        // A sentence of no words ends the text too.
        count += words(sentence).len().max(1);
    }
    said.join(" ")
}

/// One of some texts; `None` if there are none.
fn picked<'a>(texts: &'a [String], random: &mut RandomStream) -> Option<&'a str> {
    if texts.is_empty() {
        return None;
    }
    Some(&texts[random.below(texts.len())])
}

/// The words that were heard. Recognizers write numbers in digits, and `342` may stand for `three hundred forty two` or
/// for `three four two`: the reading that is nearer to the expected words counts. Digits that the text has too stay.
pub fn heard_words(expected: &[String], heard: &str) -> Vec<String> {
    let written = words(heard);
    let [numbers, digits] = [true, false].map(|whole| {
        let read = written.iter().flat_map(|word| {
            if expected.contains(word) {
                vec![word.clone()]
            } else {
                spoken(word, whole)
            }
        });
        read.collect::<Vec<String>>()
    });
    if edit_rate(expected, &digits).edits < edit_rate(expected, &numbers).edits {
        digits
    } else {
        numbers
    }
}

/// The words of a word that may be written in digits, read as one number or digit by digit.
fn spoken(word: &str, whole: bool) -> Vec<String> {
    if !word.bytes().all(|byte| byte.is_ascii_digit()) {
        return vec![word.to_owned()];
    }
    let number = word
        .parse::<usize>()
        .ok()
        .filter(|own| whole && *own < 1_000_000);
    let text = match number {
        Some(number) => number_words(number),
        None => {
            let digits = word.bytes().map(|byte| number_words((byte - b'0').into()));
            digits.collect::<Vec<String>>().join(" ")
        }
    };
    words(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::speech::metrics::Slips;

    fn owned(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn hard_texts_are_of_three_kinds() {
        let vocabulary = owned(&["red", "green", "blue", "apple", "stone", "river"]);
        let sentences = owned(&["The river is cold.", "He threw a stone.", "Is it an apple?"]);
        let make = |seed| hard_texts(&vocabulary, &sentences, 500, seed);
        let texts = make(1);
        assert_eq!(texts, make(1));
        assert_ne!(texts, make(2));
        assert_eq!(texts.len(), 500, "there are many");
        let mut different = texts.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), 500);
        let mut names: Vec<String> = (0..20)
            .chain((20..100).step_by(10))
            .map(number_words)
            .collect();
        names.extend(owned(&["hundred", "thousand"]));
        for kind in texts.chunks_exact(3) {
            let spoken: Vec<Vec<String>> = kind.iter().map(|text| words(text)).collect();
            // Each word is beside one that is the same.
            let [repeated, numbers, long] = &spoken[..] else {
                panic!("three kinds")
            };
            for (place, word) in repeated.iter().enumerate() {
                let before = place > 0 && repeated[place - 1] == *word;
                assert!(before || repeated.get(place + 1) == Some(word));
                assert!(vocabulary.contains(word));
            }
            assert!(
                numbers.iter().all(|word| names.contains(word)),
                "{numbers:?}"
            );
            // The last sentence has four words at most.
            assert!((LONG..LONG + 4).contains(&long.len()), "{}", long.len());
        }
    }

    #[test]
    fn there_are_no_texts_without_words() {
        let texts = hard_texts(&[], &[], 9, 1);
        assert_eq!(texts.len(), 3, "the numbers");
        // One word gives at most as many texts as it can be repeated.
        let few = hard_texts(&owned(&["a"]), &[], 300, 1);
        assert!(few.len() > 100 && few.len() < 120, "{}", few.len());
    }

    /// Digits are no error, and no hidden slip either.
    #[test]
    fn what_was_heard_is_read_as_it_was_meant() {
        let slips = |text: &str, heard: &str| {
            let expected = words(text);
            let slips = Slips::count(&expected, &heard_words(&expected, heard), None);
            [slips.doubled, slips.inserted, slips.dropped]
        };
        assert_eq!(slips("three hundred forty two", "342."), [0; 3]);
        assert_eq!(slips("three four two", "342"), [0; 3]);
        assert_eq!(slips("seven thousand five", "7,005"), [0; 3]);
        assert_eq!(slips("one two three", "1, 2, 2, 3"), [1, 0, 0]);
        assert_eq!(slips("red red red blue", "red blue"), [0, 0, 2]);
        assert_eq!(slips("red blue", "red green blue"), [0, 1, 0]);
        assert_eq!(slips("in 1984 twenty men", "In 1984, 20 men."), [0; 3]);
        let huge = "12345678901234567890123";
        assert_eq!(heard_words(&[], huge).len(), 23);
    }
}
