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
/// Texts whose sounds are in memory at once.
const AT_ONCE: usize = 64;

impl<S: Speaker> Evaluation<'_, S> {
    /// Says texts on which models stumble, made of words and sentences of the corpus. Counts those that do not end by
    /// themselves, and with an open recognizer the words that are not as they should be. Texts that the model can't say are
    /// left out.
    pub(super) fn measure_hard_texts(&mut self, data: &SpeechData) -> Result<()> {
        let options = self.options;
        if options.hard_texts == 0 {
            return Ok(());
        }
        let mut texts = texts_of(data, options.hard_texts, options.seed);
        texts.retain(|text| {
            let text = std::slice::from_ref(text);
            self.speaker.accepts(text, None, &options.sample).is_ok()
        });
        self.put("hard_texts", texts.len() as f64);
        if texts.is_empty() {
            return Ok(());
        }
        self.tell(&format!("speaking {} hard texts", texts.len()));
        let (mut cut, mut files) = (Vec::new(), Vec::new());
        for (place, some) in texts.chunks(AT_ONCE).enumerate() {
            let seed = options.seed.wrapping_add((place * AT_ONCE) as u64);
            let said = self.speaker.say(some, None, &options.sample, seed)?;
            cut.extend(said.iter().map(|speech| usize::from(speech.was_cut)));
            if options.judges.open_recognizer.is_some() {
                let sounds: Vec<Vec<f32>> = said.into_iter().map(|own| own.samples).collect();
                files.extend(self.write(&format!("{KIND}-{place}"), &sounds)?);
            }
        }
        self.put_sum(format!("{KIND}_without_end"), &cut);
        let Some(listener) = &options.judges.open_recognizer else {
            return Ok(());
        };
        self.tell(&format!("recognizing {} hard texts", texts.len()));
        let heard = listener.listen(KIND, &files)?;
        self.list(KIND, "model", &texts, &heard)?;
        self.put_slips(&texts, &heard);
        Ok(())
    }

    /// Adds the shares of wrong, dropped, doubled and inserted words.
    fn put_slips(&mut self, texts: &[String], heard: &[String]) {
        let (mut errors, mut slips) = (Vec::new(), Vec::new());
        for (text, heard) in texts.iter().zip(heard) {
            let expected = words(text);
            let heard = heard_words(&expected, heard);
            errors.push(edit_rate(&expected, &heard));
            slips.push(Slips::count(&expected, &heard, None));
        }
        self.put_rate(format!("{KIND}_word_error_rate_model"), &errors);
        for (measure, counts) in [
            ("dropped", counts(&slips, |own| own.dropped)),
            ("doubled", counts(&slips, |own| own.doubled)),
            ("inserted", counts(&slips, |own| own.inserted)),
        ] {
            self.put_rate(format!("{KIND}_words_{measure}"), &counts);
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

/// Hard texts of the words that training had, and of held-out sentences.
fn texts_of(data: &SpeechData, count: usize, seed: u64) -> Vec<String> {
    let trained = (0..data.train.len()).map(|index| data.train.text(index));
    let vocabulary = trained.flat_map(|text| text.split(' ').filter_map(plain_word));
    // In an order that does not depend on that of the recordings.
    let vocabulary: BTreeSet<String> = vocabulary.collect();
    let vocabulary: Vec<String> = vocabulary.into_iter().collect();
    let held_out = (0..data.test.len()).map(|index| data.test.text(index).to_owned());
    hard_texts(&vocabulary, &held_out.collect::<Vec<String>>(), count, seed)
}
