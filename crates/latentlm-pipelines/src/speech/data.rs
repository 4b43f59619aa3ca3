//! Training data of a speech run: recordings, and utterances composed of recorded words.

use std::path::{Path, PathBuf};

use latentlm::core::LatentCodecConfig;
use latentlm_data::speech::{Composed, Composer, Composition, SpeechDataset, SpokenWord};
use latentlm_data::{DataError, Sample, Skipped, Split, TextTokenizer};

use super::recipe::SpeechRecipe;
use crate::data::{TrainingData, both};
use crate::error::Result;
use crate::known::KnownText;
use crate::recipe::Recipe;
use crate::run::RunFolder;
use crate::skipped::{self, SkippedList};

/// Cycle of composed kinds. Kinds with more words, or more similar words, occur more often. Kinds that
/// the corpus has no words for are left out; single words are used only if one speaker says all.
const MIX: [Composition; 12] = {
    use Composition::{Dates, Digits, Letters, Numbers, Words};
    [
        Words, Dates, Letters, Words, Digits, Dates, Words, Letters, Numbers, Words, Dates, Letters,
    ]
};
/// Recordings whose texts are spoken as training goes.
const EXAMPLES: usize = 4;
/// Composed utterances that a vocabulary is made of.
const COMPOSED_TEXTS: usize = 1000;

/// Training and held-out recordings, and a composer where the corpus has words for one.
pub struct SpeechData {
    /// Training recordings.
    pub train: SpeechDataset,
    /// Held-out recordings.
    pub test: SpeechDataset,
    /// Composes utterances of word clips, where the corpus has them.
    pub composer: Option<Composer>,
    /// Recordings and utterances that could not be used.
    pub skipped: SkippedList,
    /// Kinds of composed utterances, repeated in this order.
    mix: Vec<Composition>,
    /// Number of composed utterances; 0 without a composer.
    composed: usize,
    /// Largest fraction of recordings that are missing, silent or can't be decoded.
    max_broken: f64,
    seed: u64,
}

/// An utterance that is not trained on.
pub struct HeldOutUtterance {
    /// Its file, if it has one.
    pub source: PathBuf,
    /// Its text.
    pub text: String,
    /// The sound.
    pub samples: Vec<f32>,
    /// Where its words end, if it is composed or its corpus tells.
    pub words: Option<Vec<SpokenWord>>,
}

impl HeldOutUtterance {
    /// A composed utterance.
    pub fn composed(composer: &Composer, kind: Composition, seed: u64, index: u64) -> Self {
        let made = composer.utterance(kind, Split::Test, seed, index);
        Self {
            source: skipped::COMPOSED.into(),
            text: made.text,
            samples: made.samples,
            words: Some(made.words),
        }
    }

    /// A held-out recording; `None` if it is broken, which is then listed.
    pub fn recorded(test: &SpeechDataset, index: usize, list: &mut SkippedList) -> Option<Self> {
        let (source, read) = (test.path(index), test.get(index));
        if let Err(error) = &read {
            list.add(Skipped::of(&source, error));
        }
        let clip = read.ok()?;
        Some(Self {
            source,
            text: clip.text,
            samples: clip.samples,
            words: test.words(index),
        })
    }
}

impl SpeechData {
    /// Opens the recordings that a recipe names.
    ///
    /// # Errors
    /// If there is no corpus, one of another layout, or one that has no words to compose of.
    pub fn open(recipe: &SpeechRecipe) -> Result<Self> {
        let path = Path::new(&recipe.data.path);
        let open =
            |split| SpeechDataset::open_within(path, recipe.speech_spec(), split, recipe.bounds());
        let (train, test) = (open(Split::Train)?, open(Split::Test)?);
        let composer = match Composer::new(&train) {
            Ok(composer) => Some(composer.on_grid(recipe.codec.signal().hop_samples)),
            // A corpus of sentences has no word clips. That matters only if the recipe asks for composed
            // utterances.
            Err(DataError::NoWords { .. }) if recipe.data.composed == 0 => None,
            Err(error) => return Err(error.into()),
        };
        let clips = composer.iter().flat_map(Composer::skipped);
        let mut skipped = SkippedList::default();
        for entry in train.skipped().iter().chain(test.skipped()).chain(clips) {
            skipped.add(entry.clone());
        }
        Ok(Self {
            mix: composer.as_ref().map(kinds_of).unwrap_or_default(),
            train,
            test,
            composer,
            skipped,
            composed: recipe.data.composed,
            max_broken: recipe.data.max_broken,
            seed: recipe.seed,
        })
    }

    /// Writes the list of skipped recordings into the run's folder. A resumed run keeps its earlier entries.
    ///
    /// # Errors
    /// If the list can't be read or written.
    pub fn list_skipped(&mut self, run: &RunFolder<SpeechRecipe>) -> Result<()> {
        self.skipped.keep_in(&run.file(skipped::FILE))
    }

    /// Utterances that the language model is trained on: recordings, then composed ones.
    pub fn utterances(&self) -> usize {
        self.train.len() + self.composed
    }

    /// Composes an utterance, one kind after another; `None` if the utterance is a recording.
    fn compose(&self, index: usize) -> Option<Composed> {
        let index = index.checked_sub(self.train.len())?;
        let composer = self.composer.as_ref()?;
        let kind = self.mix[index % self.mix.len()];
        Some(composer.utterance(kind, Split::Train, self.seed, index as u64))
    }

    /// Text of an utterance; its words and where they end, if it is composed or its corpus tells.
    pub fn text(&self, index: usize) -> (String, Option<Vec<SpokenWord>>) {
        match self.compose(index) {
            Some(composed) => (composed.text, Some(composed.words)),
            None => (self.train.text(index).to_owned(), self.train.words(index)),
        }
    }

    /// Name of the speaker of an utterance.
    pub fn speaker(&self, index: usize) -> String {
        match self.compose(index) {
            Some(composed) => composed.speaker,
            None => self.train.speaker(index).to_owned(),
        }
    }

    /// Sound of an utterance; `None` if its recording is broken, which is then listed.
    pub fn utterance(&mut self, index: usize) -> Option<Vec<f32>> {
        if let Some(composed) = self.compose(index) {
            return Some(composed.samples);
        }
        let recorded = self.train.get(index);
        if let Err(error) = &recorded {
            self.skip(index, error);
        }
        Some(recorded.ok()?.samples)
    }

    /// Lists an utterance that can't be used.
    pub fn skip(&mut self, index: usize, error: &DataError) {
        let mut path = PathBuf::from(skipped::COMPOSED);
        if index < self.train.len() {
            path = self.train.path(index);
        }
        self.skipped.add(Skipped::of(&path, error));
    }

    /// Texts that are trained on: of all recordings and of some composed utterances.
    pub fn texts(&self) -> Vec<String> {
        let composed = self.composed.min(COMPOSED_TEXTS);
        let texts = 0..self.train.len() + composed;
        texts.map(|index| self.text(index).0).collect()
    }

    /// The characters and words of the recordings; composed utterances are made of these.
    pub fn known(&self) -> KnownText {
        KnownText::of((0..self.train.len()).map(|index| self.train.text(index)))
    }

    /// The vocabulary that a recipe asks for.
    ///
    /// # Errors
    /// If its file can't be read, or there are no texts.
    pub fn tokenizer(&self, recipe: &SpeechRecipe) -> Result<TextTokenizer> {
        recipe.text.tokenizer.read_or_train(|| self.texts())
    }

    /// Held-out utterances: composed ones, each kind as often as the others, else recordings. Broken
    /// recordings are listed.
    pub fn held_out(&mut self, count: usize) -> Vec<HeldOutUtterance> {
        let (test, seed) = (&self.test, self.seed);
        let Some(composer) = &self.composer else {
            let recordings = 0..test.len().min(count);
            return recordings
                .filter_map(|index| HeldOutUtterance::recorded(test, index, &mut self.skipped))
                .collect();
        };
        let kinds = composer.kinds().iter().cycle().take(count).zip(0..);
        kinds
            .map(|(kind, index)| HeldOutUtterance::composed(composer, *kind, seed, index))
            .collect()
    }

    /// Held-out texts to be spoken as training goes: one of each kind of composition, else of the
    /// recordings. Those that can't be said are left out.
    pub fn examples(&self, can_be_said: impl Fn(&str) -> bool) -> Vec<String> {
        let Some(composer) = &self.composer else {
            return (0..self.test.len())
                .map(|index| self.test.text(index))
                .filter(|text| can_be_said(text))
                .take(EXAMPLES)
                .map(str::to_owned)
                .collect();
        };
        composer
            .kinds()
            .iter()
            .map(|kind| composer.utterance(*kind, Split::Test, self.seed, 0).text)
            .filter(|text| can_be_said(text))
            .collect()
    }
}

/// The kinds that a composer takes turns with.
fn kinds_of(composer: &Composer) -> Vec<Composition> {
    if composer.kinds() == Composition::ALL {
        MIX.into_iter().filter(|kind| composer.can(*kind)).collect()
    } else {
        composer.kinds().to_vec()
    }
}

impl TrainingData for SpeechData {
    fn fingerprint(&self) -> String {
        let recordings = self.train.fingerprint();
        format!("{recordings}-{}-{}", self.composed, self.seed)
    }

    fn samples(&self) -> Vec<Sample> {
        both(self.train.samples(), self.test.samples())
    }

    /// Decodes every recording, unless all may be broken.
    fn check(&self) -> Result<Option<String>> {
        if self.max_broken >= 1.0 {
            return Ok(None);
        }
        let longer = SpeechDataset::check_broken([&self.train, &self.test], self.max_broken)?;
        Ok(longer.first().map(|first| {
            let (count, path, reason) = (longer.len(), first.path.display(), &first.reason);
            format!("{count} recordings are far longer than their table says; the first: {path} {reason}")
        }))
    }

    /// The list that [`SpeechData::list_skipped`] wrote: it grows while utterances are read.
    fn list_left_out<R: Recipe>(&self, _: &RunFolder<R>) -> Result<SkippedList> {
        Ok(self.skipped.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recordings that ship, said to be of two speakers: one has the letters, the other the rest.
    fn shared_out(folder: &Path) -> SpeechData {
        let voice = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/voice");
        let table = std::fs::read_to_string(voice.join("metadata.jsonl")).unwrap();
        let mut lines = String::new();
        for line in table.lines() {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            let audio = voice.join(record["audio"].as_str().unwrap());
            record["audio"] = audio.to_str().unwrap().into();
            let speaker = if record["group"] == "letter" {
                "ann"
            } else {
                "bob"
            };
            record["speaker"] = speaker.into();
            lines += &format!("{record}\n");
        }
        std::fs::write(folder.join("metadata.jsonl"), lines).unwrap();
        let path = format!("data.path={}", folder.display());
        let changes = [path, "data.outside=true".to_owned()];
        SpeechData::open(&SpeechRecipe::resolve(None, &changes).unwrap()).unwrap()
    }

    #[test]
    fn speakers_who_share_the_kinds_say_no_words_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let data = shared_out(dir.path());
        assert_eq!(data.composer.as_ref().unwrap().kinds(), Composition::ALL);
        assert!(!data.mix.contains(&Composition::Words));
        let count = |kind: Composition| data.mix.iter().filter(|own| **own == kind).count();
        assert_eq!(Composition::ALL.map(count), [1, 3, 3, 1], "else as ever");
        for composed in 0..data.mix.len() {
            assert!(!data.text(data.train.len() + composed).0.is_empty());
        }
    }
}
