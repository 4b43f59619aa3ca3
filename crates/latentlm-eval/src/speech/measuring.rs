//! What all measurements of speech share: options, results with their intervals, and sounds that listeners hear.

use std::collections::BTreeMap;
use std::path::PathBuf;

use burn::tensor::Device;
use latentlm::core::bundle::write_atomically;
use latentlm::{SampleOptions, SmallWeights};
use latentlm_data::speech::{Audio, write_wav};
use latentlm_pipelines::SkippedList;
use serde::{Deserialize, Deserializer, Serialize};

use super::hard::heard_words;
use super::metrics::{EditCount, characters, edit_rate, words};
use super::recognizer::Listener;
use super::speaker::Speaker;
use crate::error::Result;
use crate::evaluation::{MeasuredWeights, begin_phase};
use crate::statistics::{interval, mean};

/// Sample rate of sound files for recognizers.
const LISTENING_RATE_HZ: u32 = 16_000;

/// Share of the words of real recordings that a second recognizer hears wrong, from which on it does not count: it then tells
/// more of itself than of a model.
const TOO_MANY_ERRORS: f64 = 0.1;

/// Options of the evaluation.
#[derive(Debug, Clone)]
pub struct EvaluateSpeechOptions {
    /// Number of utterances of each kind.
    pub samples: usize,
    /// Seed of texts, generated speech and intervals.
    pub seed: u64,
    /// Sampling options of generated speech.
    pub sample: SampleOptions,
    /// Commands that listen.
    pub judges: SpeechJudges,
    /// Number of texts on which models stumble; 0 for none.
    pub hard_texts: usize,
    /// Corpus of voices that training never heard; the held-out recordings may have some too.
    pub held_out_voices: Option<PathBuf>,
    /// Type that the weights of the language model are rounded to, on the CPU; `None` is float32.
    pub weights: Option<SmallWeights>,
    /// Called with the next phase of the evaluation, such as `speaking 50 digits`;
    /// [`unshown`](crate::unshown) ignores it.
    pub phase: fn(&str),
}

/// Commands that recognize speech or rate it. What needs a command that is missing is not measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpeechJudges {
    /// Recognizer of composed utterances.
    pub recognizer: Option<Listener>,
    /// Recognizer of recordings and hard texts, whose vocabulary is open.
    pub open_recognizer: Option<Listener>,
    /// Another recognizer of voices and of continued recordings. It counts where it hears less than a tenth of the words of
    /// real recordings wrong.
    pub second_recognizer: Option<Listener>,
    /// Command that gives each file the similarity of its voice to that of the first file, 1 for
    /// the same voice.
    pub speaker: Option<Listener>,
    /// Command that takes pairs of a recording and its reconstruction by the codec, and gives the
    /// quality of the reconstruction (PESQ).
    pub pesq: Option<Listener>,
    /// Command that gives each file its naturalness, from 1 to 5.
    pub naturalness: Option<Listener>,
}

/// Measurements of speech.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SpeechEvaluation {
    /// Type of the language model's weights.
    #[serde(default)]
    pub weights: MeasuredWeights,
    /// Measurements by name; NaN for a mean of nothing.
    #[serde(flatten, deserialize_with = "read_values")]
    pub values: BTreeMap<String, f64>,
    /// 95 % intervals of those that sum up several utterances.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub intervals: BTreeMap<String, [f64; 2]>,
}

/// Measurements from JSON, where NaN is null.
fn read_values<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, f64>, D::Error> {
    let read = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    let values = read.into_iter();
    Ok(values
        .map(|(name, value)| (name, value.unwrap_or(f64::NAN)))
        .collect())
}

/// An evaluation that is under way.
pub struct Evaluation<'a, S> {
    pub(super) speaker: &'a S,
    pub(super) options: &'a EvaluateSpeechOptions,
    /// Folder of the sounds.
    pub(super) folder: PathBuf,
    pub(super) device: &'a Device,
    pub(super) results: SpeechEvaluation,
    pub(super) skipped: SkippedList,
    /// Whether the training recordings are of one voice, which all speech without a prompt has.
    pub(super) one_voice: bool,
    /// Texts that the model refused.
    pub(super) refused: usize,
    /// For each text that it said where ends are counted: 1 if its speech did not end by itself.
    pub(super) cut: Vec<usize>,
}

/// Texts of one kind with recordings of them.
#[derive(Default)]
pub struct Utterances {
    /// `recordings`, a kind of composed utterances, or of voices.
    pub(super) kind: &'static str,
    pub(super) texts: Vec<String>,
    /// Samples of each recording.
    pub(super) originals: Vec<Vec<f32>>,
}

impl Utterances {
    pub(super) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }
}

impl<S: Speaker> Evaluation<'_, S> {
    /// Adds a measurement without an interval.
    pub(super) fn put(&mut self, name: impl Into<String>, value: f64) {
        self.results.values.insert(name.into(), value);
    }

    /// Adds a statistic of `count` observations with its interval. It gets the numbers of observations.
    pub(super) fn put_over(
        &mut self,
        name: impl Into<String>,
        count: usize,
        statistic: impl Fn(&[usize]) -> f64,
    ) {
        let (name, all): (String, Vec<usize>) = (name.into(), (0..count).collect());
        let value = statistic(&all);
        if let Some(interval) = interval(count, self.options.seed, statistic) {
            self.results.intervals.insert(name.clone(), interval);
        }
        self.put(name, value);
    }

    /// Adds the mean of some values with its interval; NaN if there are none.
    pub(super) fn put_mean(&mut self, name: impl Into<String>, values: &[f64]) {
        self.put_over(name, values.len(), |drawn| {
            let values = drawn.iter().map(|&index| values[index]);
            mean(values).unwrap_or(f64::NAN)
        });
    }

    /// Adds the sum of counts of utterances with its interval.
    pub(super) fn put_sum(&mut self, name: impl Into<String>, counts: &[usize]) {
        self.put_over(name, counts.len(), |drawn| {
            let counts = drawn.iter().map(|&index| counts[index]);
            counts.sum::<usize>() as f64
        });
    }

    /// Adds the number of utterances that did not end by themselves, each of which counts 1 in `cut`, with its interval.
    pub(super) fn put_cut(&mut self, kind: &str, cut: &[usize]) {
        self.cut.extend(cut);
        self.put_sum(format!("{kind}_without_end"), cut);
    }

    /// Adds how many texts were said and refused, and the share of those said that did not end by themselves, with its interval.
    pub(super) fn put_texts(&mut self) {
        self.put("texts_said", self.cut.len() as f64);
        self.put("texts_refused", self.refused as f64);
        let cut: Vec<f64> = self.cut.iter().map(|&cut| cut as f64).collect();
        self.put_mean("texts_cut", &cut);
    }

    /// Adds the share of edits in the items of all utterances, with its interval.
    pub(super) fn put_rate(&mut self, name: impl Into<String>, counts: &[EditCount]) {
        self.put_over(name, counts.len(), |drawn| {
            let counts = drawn.iter().map(|&index| counts[index]);
            counts.sum::<EditCount>().rate()
        });
    }

    /// Keeps the texts that the model can say, and counts the others as refused.
    pub(super) fn keep_accepted(&mut self, texts: &mut Vec<String>, voice: Option<&S::Voice>) {
        let (speaker, sample, before) = (self.speaker, &self.options.sample, texts.len());
        texts.retain(|text| {
            let text = std::slice::from_ref(text);
            speaker.accepts(text, voice, sample).is_ok()
        });
        self.refused += before - texts.len();
    }

    /// Begins a phase.
    ///
    /// # Errors
    /// If a stop came.
    pub(super) fn tell(&self, phase: &str) -> Result<()> {
        begin_phase(self.options.phase, phase)
    }

    /// Measures word and character errors of a recognizer, and writes what it recognized, which is returned. `version` is the
    /// origin of the sounds: `original`, `codec`, `model` or `prompted`.
    pub(super) fn recognize(
        &mut self,
        listener: &Listener,
        utterances: &Utterances,
        version: &str,
        sounds: &[Vec<f32>],
    ) -> Result<Vec<String>> {
        let kind = utterances.kind;
        let heard = self.hear(listener, kind, version, sounds)?;
        self.put_heard(kind, version, &utterances.texts, &heard)?;
        Ok(heard)
    }

    /// Measures what the open recognizers hear in real recordings, and in a model's speech of the same texts. A second one
    /// hears the speech only if it counts. How many count is a measurement too, if there are any.
    pub(super) fn recognize_open(
        &mut self,
        utterances: &Utterances,
        sounds: &[Vec<f32>],
    ) -> Result<()> {
        let (judges, kind) = (&self.options.judges, utterances.kind);
        let Utterances {
            texts, originals, ..
        } = utterances;
        let mut counting = 0_u32;
        if let Some(listener) = &judges.open_recognizer {
            self.recognize(listener, utterances, "original", originals)?;
            self.recognize(listener, utterances, "model", sounds)?;
            counting += 1;
        }
        if let Some(listener) = &judges.second_recognizer {
            let second = format!("second_{kind}");
            let heard = self.hear(listener, kind, "original", originals)?;
            if self.put_heard(&second, "original", texts, &heard)? < TOO_MANY_ERRORS {
                let heard = self.hear(listener, kind, "model", sounds)?;
                self.put_heard(&second, "model", texts, &heard)?;
                counting += 1;
            }
        }
        if judges.open_recognizer.is_some() || judges.second_recognizer.is_some() {
            self.put(format!("{kind}_recognizers"), f64::from(counting));
        }
        Ok(())
    }

    /// What a recognizer hears in sounds.
    fn hear(
        &self,
        listener: &Listener,
        kind: &str,
        version: &str,
        sounds: &[Vec<f32>],
    ) -> Result<Vec<String>> {
        self.tell(&format!("recognizing {} {kind}, {version}", sounds.len()))?;
        let files = self.write(&format!("{kind}-{version}"), sounds)?;
        listener.listen(kind, &files)
    }

    /// Adds word and character errors of what was heard, numbers in digits read as words, and writes it. Returns the share of
    /// wrong words. `kind` is what the names of measurements begin with.
    fn put_heard(
        &mut self,
        kind: &str,
        version: &str,
        texts: &[String],
        heard: &[String],
    ) -> Result<f64> {
        let (mut by_word, mut by_character) = (Vec::new(), Vec::new());
        let mut understood = Vec::new();
        for (text, heard) in texts.iter().zip(heard) {
            let expected = words(text);
            let heard = heard_words(&expected, heard);
            let [said, written] = [&expected, &heard].map(|own| characters(&own.join(" ")));
            by_word.push(edit_rate(&expected, &heard));
            by_character.push(edit_rate(&said, &written));
            understood.push(f64::from(u8::from(expected == heard)));
        }
        self.put_rate(format!("{kind}_word_error_rate_{version}"), &by_word);
        let name = format!("{kind}_character_error_rate_{version}");
        self.put_rate(name, &by_character);
        self.put_mean(format!("{kind}_understood_{version}"), &understood);
        self.list(kind, version, texts, heard)?;
        Ok(by_word.into_iter().sum::<EditCount>().rate())
    }

    /// Writes what was to be said and what was heard.
    pub(super) fn list(
        &self,
        kind: &str,
        version: &str,
        texts: &[String],
        heard: &[String],
    ) -> Result<()> {
        let lines = texts.iter().zip(heard).map(|(t, h)| format!("{t}\t{h}\n"));
        let path = self.folder.join(format!("{kind}-{version}.tsv"));
        Ok(write_atomically(
            &path,
            lines.collect::<String>().as_bytes(),
        )?)
    }

    /// Measures the naturalness of sounds, if there is a judge of it. Sounds that it can't rate have no value.
    pub(super) fn measure_naturalness(
        &mut self,
        kind: &str,
        version: &str,
        sounds: &[Vec<f32>],
    ) -> Result<()> {
        let options = self.options;
        let Some(judge) = &options.judges.naturalness else {
            return Ok(());
        };
        self.tell(&format!("rating {} {kind}, {version}", sounds.len()))?;
        let files = self.write(&format!("{kind}-{version}"), sounds)?;
        let values = finite(&judge.listen(kind, &files)?);
        self.put_mean(format!("{kind}_naturalness_{version}"), &values);
        Ok(())
    }

    /// Writes sounds as WAV files for recognizers. Returns their paths.
    pub(super) fn write(&self, name: &str, sounds: &[Vec<f32>]) -> Result<Vec<PathBuf>> {
        let rate = self.speaker.sample_rate_hz();
        let mut files = Vec::with_capacity(sounds.len());
        for (index, samples) in sounds.iter().enumerate() {
            let audio = Audio {
                samples: samples.clone(),
                sample_rate_hz: rate,
            };
            let path = self.folder.join(format!("{name}-{index:03}.wav"));
            let samples = audio.resampled(LISTENING_RATE_HZ).samples;
            write_wav(&path, &samples, LISTENING_RATE_HZ)?;
            files.push(path);
        }
        Ok(files)
    }
}

/// The finite numbers among a judge's answers.
pub(super) fn finite(answers: &[String]) -> Vec<f64> {
    let numbers = answers
        .iter()
        .filter_map(|text| text.trim().parse::<f64>().ok());
    numbers.filter(|value| value.is_finite()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a finished model would be measured again each time.
    #[test]
    fn means_of_nothing_are_read_as_they_were_written() {
        let measured = SpeechEvaluation {
            weights: MeasuredWeights::default(),
            values: [("a".to_owned(), 0.5), ("b".to_owned(), f64::NAN)].into(),
            intervals: [("a".to_owned(), [0.25, 0.75])].into(),
        };
        let json = serde_json::to_string(&measured).unwrap();
        assert!(json.contains("\"b\":null"), "{json}");
        let read: SpeechEvaluation = serde_json::from_str(&json).unwrap();
        assert_eq!(read.values["a"], 0.5);
        assert!(read.values["b"].is_nan());
        assert_eq!(read.intervals, measured.intervals);
    }
}
