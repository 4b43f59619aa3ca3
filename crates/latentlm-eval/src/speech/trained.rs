//! Texts that a model was trained on. If a recognizer errs much more in them than in the codec's copies of their recordings,
//! the model has not learned yet what it was taught.

use latentlm_pipelines::{SpeechData, reconstruct};

use super::measuring::{Evaluation, Utterances};
use super::speaker::Speaker;
use crate::error::Result;

/// Kind of these utterances.
const KIND: &str = "trained";

impl<S: Speaker> Evaluation<'_, S> {
    /// Says texts of training recordings, which are spread over the corpus, and measures word errors of speech and of the
    /// codec's copies, if there is an open recognizer. Broken recordings are left out.
    pub(super) fn measure_trained(&mut self, data: &SpeechData) -> Result<()> {
        let (options, speaker) = (self.options, self.speaker);
        let Some(listener) = &options.judges.open_recognizer else {
            return Ok(());
        };
        let (mut all, mut copies) = (Utterances::new(KIND), Vec::new());
        let (count, picked) = (data.train.len(), data.train.len().min(options.samples));
        for place in 0..picked {
            let Ok(recording) = data.train.get(place * count / picked) else {
                continue;
            };
            let text = [recording.text];
            if speaker.accepts(&text, None, &options.sample).is_err() {
                self.refused += 1;
                continue;
            }
            all.texts.extend(text);
            copies.push(reconstruct(speaker.codec(), recording.samples, self.device).1);
        }
        if copies.is_empty() {
            return Ok(());
        }
        self.tell(&format!("speaking {} texts of the training", copies.len()))?;
        let said = speaker.say(&all.texts, None, &options.sample, options.seed)?;
        let cut: Vec<usize> = said.iter().map(|own| usize::from(own.was_cut)).collect();
        self.put_cut(KIND, &cut);
        let sounds: Vec<Vec<f32>> = said.into_iter().map(|own| own.samples).collect();
        self.recognize(listener, &all, "codec", &copies)?;
        self.recognize(listener, &all, "model", &sounds)?;
        Ok(())
    }
}
