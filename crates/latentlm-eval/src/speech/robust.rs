//! Robustness: words that are dropped, doubled or made up in hard texts, and speech that never ends (paper §3.3).

use std::collections::BTreeSet;

use latentlm_data::plain_word;
use latentlm_pipelines::SpeechData;

use super::hard::{hard_texts, heard_words};
use super::measuring::Evaluation;
use super::metrics::{EditCount, Slips, edit_rate, words};
use super::speaker::Speaker;
use crate::error::Result;

/// Name of the texts in measurements and files.
const KIND: &str = "hard";
/// Marks at the end of a sentence.
const ENDS: [char; 3] = ['.', '?', '!'];
/// Texts whose sounds are in memory at once.
const AT_ONCE: usize = 64;

/// Some of the hard texts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// End of the names of its measurements.
    ending: &'static str,
    /// Numbers of its texts.
    places: Vec<usize>,
}

impl Part {
    /// The part of all texts, then those of at most `longest` characters and the longer ones, if there are both.
    fn of(texts: &[String], longest: usize) -> Vec<Self> {
        let all: Vec<usize> = (0..texts.len()).collect();
        let is_beyond = |place: &usize| texts[*place].chars().count() > longest;
        let (beyond, within): (Vec<usize>, Vec<usize>) = all.iter().copied().partition(is_beyond);
        let mut parts = vec![("", all)];
        if !beyond.is_empty() && !within.is_empty() {
            parts.extend([("_within", within), ("_beyond", beyond)]);
        }
        let parts = parts.into_iter();
        parts
            .map(|(ending, places)| Self { ending, places })
            .collect()
    }
}

impl<S: Speaker> Evaluation<'_, S> {
    /// Says texts on which models stumble, made of words and sentences of the corpus. Counts those that do not end by
    /// themselves, and with an open recognizer the words that are not as they should be, also apart for texts that are longer
    /// than any text of the training. Texts that the model can't say are left out and counted as refused.
    pub(super) fn measure_hard_texts(&mut self, data: &SpeechData) -> Result<()> {
        let options = self.options;
        if options.hard_texts == 0 {
            return Ok(());
        }
        let mut texts = texts_of(data, options.hard_texts, options.seed);
        self.keep_accepted(&mut texts, None);
        self.put("hard_texts", texts.len() as f64);
        if texts.is_empty() {
            return Ok(());
        }
        let (mut cut, mut files) = (Vec::new(), Vec::new());
        for (place, some) in texts.chunks(AT_ONCE).enumerate() {
            let first = place * AT_ONCE;
            self.tell(&format!("speaking hard texts, {first} of {}", texts.len()))?;
            let seed = options.seed.wrapping_add(first as u64);
            let said = self.speaker.say(some, None, &options.sample, seed)?;
            cut.extend(said.iter().map(|speech| usize::from(speech.was_cut)));
            if options.judges.open_recognizer.is_some() {
                let sounds: Vec<Vec<f32>> = said.into_iter().map(|own| own.samples).collect();
                files.extend(self.write(&format!("{KIND}-{place}"), &sounds)?);
            }
        }
        self.put_cut(KIND, &cut);
        let trained = data.texts();
        let longest = trained.iter().map(|text| text.chars().count()).max();
        let parts = self.put_lengths(&texts, &cut, longest.unwrap_or(0));
        let Some(listener) = &options.judges.open_recognizer else {
            return Ok(());
        };
        self.tell(&format!("recognizing {} hard texts", texts.len()))?;
        let heard = listener.listen(KIND, &files)?;
        self.list(KIND, "model", &texts, &heard)?;
        for part in &parts {
            self.put_slips(part, &texts, &heard);
        }
        Ok(())
    }

    /// Adds how many texts are longer than `longest` characters, the longest text of the training, and how many of each part did
    /// not end by themselves. Returns the parts.
    pub(super) fn put_lengths(
        &mut self,
        texts: &[String],
        cut: &[usize],
        longest: usize,
    ) -> Vec<Part> {
        self.put("longest_trained_text", longest as f64);
        let beyond = texts.iter().filter(|text| text.chars().count() > longest);
        self.put(format!("{KIND}_texts_beyond"), beyond.count() as f64);
        let parts = Part::of(texts, longest);
        // The first one is of all texts.
        for Part { ending, places } in &parts[1..] {
            let cut: Vec<usize> = places.iter().map(|&place| cut[place]).collect();
            self.put_sum(format!("{KIND}_without_end{ending}"), &cut);
        }
        parts
    }

    /// Adds the shares of wrong, dropped, doubled and inserted words of some texts.
    pub(super) fn put_slips(&mut self, part: &Part, texts: &[String], heard: &[String]) {
        let (mut errors, mut slips) = (Vec::new(), Vec::new());
        for &place in &part.places {
            let expected = words(&texts[place]);
            let heard = heard_words(&expected, &heard[place]);
            errors.push(edit_rate(&expected, &heard));
            slips.push(Slips::count(&expected, &heard, None));
        }
        let ending = part.ending;
        self.put_rate(format!("{KIND}_word_error_rate_model{ending}"), &errors);
        for (measure, counts) in [
            ("dropped", counts(&slips, |own| own.dropped)),
            ("doubled", counts(&slips, |own| own.doubled)),
            ("inserted", counts(&slips, |own| own.inserted)),
        ] {
            self.put_rate(format!("{KIND}_words_{measure}{ending}"), &counts);
        }
    }
}

/// A count of each utterance beside the words that were to be said.
fn counts(slips: &[Slips], count: fn(&Slips) -> usize) -> Vec<EditCount> {
    let counts = slips.iter().map(|own| EditCount {
        edits: count(own),
        expected: own.expected,
    });
    counts.collect()
}

/// Hard texts of the words that training had, and of held-out sentences. They are written as the corpus's texts are: where
/// sentences end with a full stop, a model that never saw one without would fail for that alone.
fn texts_of(data: &SpeechData, count: usize, seed: u64) -> Vec<String> {
    let train = &data.train;
    let trained = move || (0..train.len()).map(move |index| train.text(index));
    let vocabulary = trained().flat_map(|text| text.split(' ').filter_map(plain_word));
    // In an order that does not depend on that of the recordings.
    let vocabulary: BTreeSet<String> = vocabulary.collect();
    let vocabulary: Vec<String> = vocabulary.into_iter().collect();
    let held_out = (0..data.test.len()).map(|index| data.test.text(index).to_owned());
    let texts = hard_texts(&vocabulary, &held_out.collect::<Vec<String>>(), count, seed);
    if !are_sentences(trained()) {
        return texts;
    }
    texts.iter().map(|text| sentence(text)).collect()
}

/// Whether more than half of some texts begin with a capital and end with a full stop or another such mark.
fn are_sentences<'a>(texts: impl Iterator<Item = &'a str>) -> bool {
    let (mut sentences, mut count) = (0, 0);
    for text in texts {
        count += 1;
        let is_sentence = text.starts_with(char::is_uppercase) && text.ends_with(ENDS);
        sentences += usize::from(is_sentence);
    }
    2 * sentences > count
}

/// A text with a capital at its beginning and a full stop at its end, if it has none.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(letters).collect();
    if !sentence.ends_with(ENDS) {
        sentence.push('.');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters count, not bytes: `é` has two of these. A text as long as the longest one is within.
    #[test]
    fn texts_beyond_training_are_told_apart() {
        let texts = ["éé", "abc", "a", "abcd"].map(str::to_owned);
        let part = |ending, places: &[usize]| Part {
            ending,
            places: places.to_vec(),
        };
        let all = part("", &[0, 1, 2, 3]);
        let apart = vec![
            part("", &[0, 1, 2, 3]),
            part("_within", &[0, 2]),
            part("_beyond", &[1, 3]),
        ];
        assert_eq!(Part::of(&texts, 2), apart);
        assert_eq!(Part::of(&texts, 4), [part("", &[0, 1, 2, 3])]);
        assert_eq!(Part::of(&texts, 0), [all]);
    }

    #[test]
    fn texts_are_written_like_sentences() {
        assert_eq!(sentence("red red"), "Red red.");
        assert_eq!(sentence("It was late. Why?"), "It was late. Why?");
        assert_eq!(sentence("école"), "École.");
        let sentences = ["It was late.", "Why?", "one two"];
        assert!(are_sentences(sentences.into_iter()));
        assert!(!are_sentences(sentences[1..].iter().copied()), "half");
        assert!(!are_sentences(std::iter::empty()));
    }
}
