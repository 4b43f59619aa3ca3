//! Speech that continues the beginning of a recording with the rest of its text (the continuation task of VALL-E and of
//! paper §3.3).

use latentlm_data::speech::SpokenWord;
use latentlm_pipelines::SpeechData;

use super::measuring::{Evaluation, Utterances};
use super::recognizer::Listener;
use super::speaker::Speaker;
use crate::error::Result;

/// Length of the beginning in seconds.
pub(super) const BEGINNING_SECONDS: f64 = 3.0;
/// Kind of these utterances.
const KIND: &str = "continued";
/// Utterances whose voices are compared, at most: a judge is started for each.
const COMPARED: usize = 16;

/// A recording in two parts.
#[derive(Debug, PartialEq, Eq)]
struct Cut {
    /// Words of the beginning.
    before: String,
    /// The other words.
    behind: String,
    /// Index of the first sample behind the beginning.
    end: usize,
}

/// Cuts a recording behind the first word that ends at sample `least` or later; `None` if no word is left then.
fn cut(words: &[SpokenWord], least: usize) -> Option<Cut> {
    let place = words.iter().position(|word| word.end >= least)?;
    let joined = |words: &[SpokenWord]| {
        let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        words.join(" ")
    };
    let (before, behind) = words.split_at(place + 1);
    (!behind.is_empty()).then(|| Cut {
        before: joined(before),
        behind: joined(behind),
        end: words[place].end,
    })
}

impl<S: Speaker> Evaluation<'_, S> {
    /// Continues held-out recordings whose words have known times behind their first `seconds`, if anybody listens: word
    /// errors and naturalness of what follows, and whether its voice is that of the beginning, all with what followed really
    /// beside it.
    pub(super) fn measure_continuation(&mut self, data: &SpeechData, seconds: f64) -> Result<()> {
        let (options, speaker) = (self.options, self.speaker);
        let judges = &options.judges;
        let listens = [
            &judges.open_recognizer,
            &judges.second_recognizer,
            &judges.speaker,
            &judges.naturalness,
        ];
        if listens.iter().all(|own| own.is_none()) {
            return Ok(());
        }
        let least = (seconds * f64::from(speaker.sample_rate_hz())) as usize;
        let cuts = (0..data.test.len())
            .filter_map(|index| Some((index, cut(&data.test.words(index)?, least)?)));
        let cuts: Vec<(usize, Cut)> = cuts.take(options.samples).collect();
        self.tell(&format!("continuing {} recordings", cuts.len()))?;
        let (mut all, mut beginnings) = (Utterances::new(KIND), Vec::new());
        let (mut sounds, mut were_cut) = (Vec::new(), Vec::new());
        for (index, cut) in cuts {
            let Ok(recording) = data.test.get(index) else {
                continue;
            };
            let mut beginning = recording.samples;
            if beginning.len() <= cut.end {
                continue;
            }
            let rest = beginning.split_off(cut.end);
            let text = [cut.behind];
            let voice = speaker.voice(&cut.before, beginning.clone());
            let voice = voice.ok().filter(|voice| {
                let accepted = speaker.accepts(&text, Some(voice), &options.sample);
                accepted.is_ok()
            });
            let Some(voice) = voice else {
                self.refused += 1;
                continue;
            };
            let seed = options.seed.wrapping_add(index as u64);
            for speech in speaker.say(&text, Some(&voice), &options.sample, seed)? {
                were_cut.push(usize::from(speech.was_cut));
                sounds.push(speech.samples);
            }
            all.texts.extend(text);
            all.originals.push(rest);
            beginnings.push(beginning);
        }
        if sounds.is_empty() {
            return Ok(());
        }
        self.put_cut(KIND, &were_cut);
        self.recognize_open(&all, &sounds)?;
        self.measure_naturalness(KIND, "original", &all.originals)?;
        self.measure_naturalness(KIND, "model", &sounds)?;
        match &judges.speaker {
            Some(judge) => self.compare_continued(judge, &beginnings, &sounds, &all.originals),
            None => Ok(()),
        }
    }

    /// Measures how alike the voices of beginnings are to those of the model's speech, and of what really followed.
    fn compare_continued(
        &mut self,
        judge: &Listener,
        beginnings: &[Vec<f32>],
        sounds: &[Vec<f32>],
        originals: &[Vec<f32>],
    ) -> Result<()> {
        self.tell("comparing voices of continued recordings")?;
        let (mut model, mut same) = (Vec::new(), Vec::new());
        let triples = beginnings.iter().zip(sounds).zip(originals);
        for (place, ((beginning, sound), original)) in triples.take(COMPARED).enumerate() {
            let parts = [beginning.clone(), sound.clone(), original.clone()];
            let files = self.write(&format!("{KIND}-voices-{place}"), &parts)?;
            let answers = judge.listen(KIND, &files)?;
            let numbers = answers.iter().map(|text| text.trim().parse::<f64>());
            let numbers: Vec<f64> = numbers.map(|own| own.unwrap_or(f64::NAN)).collect();
            for (all, value) in [(&mut model, numbers[1]), (&mut same, numbers[2])] {
                if value.is_finite() {
                    all.push(value);
                }
            }
        }
        for (name, values) in [("speaker_similarity", model), ("similarity_of_same", same)] {
            if !values.is_empty() {
                self.put_mean(format!("{KIND}_{name}"), &values);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recordings_are_cut_behind_a_word() {
        let words = [("It", 10), ("was", 25), ("late.", 40)].map(|(text, end)| SpokenWord {
            text: text.into(),
            end,
        });
        let expected = |before: &str, behind: &str, end| {
            Some(Cut {
                before: before.into(),
                behind: behind.into(),
                end,
            })
        };
        assert_eq!(cut(&words, 0), expected("It", "was late.", 10));
        assert_eq!(cut(&words, 10), expected("It", "was late.", 10));
        assert_eq!(cut(&words, 11), expected("It was", "late.", 25));
        assert_eq!(cut(&words, 26), None, "nothing is left");
        assert_eq!(cut(&words, 41), None, "too short");
        assert_eq!(cut(&[], 0), None);
    }
}
