//! What a speech run is trained on: recordings, and utterances composed of their words.

use std::path::{Path, PathBuf};

use latentlm::core::LatentCodecConfig;
use latentlm_data::speech::{Composed, Composer, Composition, SpeechDataset, SpokenWord};
use latentlm_data::{DataError, KnownText, Skipped, Split, TextTokenizer};

use super::recipe::SpeechRecipe;
use crate::data::TrainingData;
use crate::error::PipelineError;
use crate::run::RunFolder;
use crate::skipped::{self, SkippedList};

/// Kinds of composed utterances, over and over, where all are there to choose from (single words, where
/// one speaker says all of them). The more words a kind has, and the more they sound alike, the oftener
/// it comes; single words are what the others are learned from.
const MIX: [Composition; 12] = {
    use Composition::{Dates, Digits, Letters, Numbers, Words};
    [
        Words, Dates, Letters, Words, Digits, Dates, Words, Letters, Numbers, Words, Dates, Letters,
    ]
};
/// Recordings whose texts are spoken as training goes.
const EXAMPLES: usize = 4;
/// Training and held-out recordings, and a composer where the corpus has words for one.
pub struct SpeechData {
    /// Recordings that are trained on.
    pub train: SpeechDataset,
    /// Recordings that are only measured with.
    pub test: SpeechDataset,
    /// Composes utterances of word clips, where the corpus has them.
    pub composer: Option<Composer>,
    /// What could not be used.
    pub skipped: SkippedList,
    /// Kinds of composed utterances, over and over.
    mix: Vec<Composition>,
    composed: usize,
    seed: u64,
}

/// An utterance that is not trained on.
pub struct HeldOutUtterance {
    /// Its file, if it has one.
    pub source: PathBuf,
    /// What is said.
    pub text: String,
    /// The sound.
    pub samples: Vec<f32>,
    /// Where its words end, if it is composed.
    pub words: Option<Vec<SpokenWord>>,
}

impl SpeechData {
    /// Opens the recordings that a recipe names.
    ///
    /// # Errors
    /// If there is no corpus, one of another layout, or one that has no words to compose of.
    pub fn open(recipe: &SpeechRecipe) -> Result<Self, PipelineError> {
        let path = Path::new(&recipe.data.path);
        let open =
            |split| SpeechDataset::open_within(path, recipe.speech_spec(), split, recipe.bounds());
        let (train, test) = (open(Split::Train)?, open(Split::Test)?);
        let composer = match Composer::new(&train) {
            Ok(composer) => Some(composer.on_grid(recipe.codec.signal().hop_samples)),
            // Sentences are no words to compose of, which matters only where that is asked for.
            Err(DataError::NoWords { .. }) if recipe.data.composed == 0 => None,
            Err(error) => return Err(error.into()),
        };
        let clips = composer.iter().flat_map(Composer::skipped);
        let mut skipped = SkippedList::default();
        for entry in train.skipped().iter().chain(test.skipped()).chain(clips) {
            skipped.add(entry.clone());
        }
        Ok(Self {
            mix: composer.as_ref().map(mix).unwrap_or_default(),
            train,
            test,
            composer,
            skipped,
            composed: recipe.data.composed,
            seed: recipe.seed,
        })
    }

    /// Writes what could not be used, and what a run that is continued could not use before, into the
    /// run's folder.
    pub fn list_skipped(&mut self, run: &RunFolder<SpeechRecipe>) -> Result<(), PipelineError> {
        self.skipped.keep_in(&run.file(skipped::FILE))
    }

    /// Utterances that the language model is trained on: recordings, then composed ones.
    pub fn utterances(&self) -> usize {
        self.train.len() + self.composed
    }

    /// What is said in one of them.
    pub fn text(&self, index: usize) -> String {
        match (index.checked_sub(self.train.len()), &self.composer) {
            (Some(composed), Some(composer)) => self.compose(composer, composed).text,
            _ => self.train.text(index).to_owned(),
        }
    }

    /// Its words and where they end, if it is composed.
    pub fn words(&self, index: usize) -> Option<Vec<SpokenWord>> {
        let composed = index.checked_sub(self.train.len())?;
        Some(self.compose(self.composer.as_ref()?, composed).words)
    }

    /// One kind after another.
    fn compose(&self, composer: &Composer, index: usize) -> Composed {
        let kind = self.mix[index % self.mix.len()];
        composer.utterance(kind, Split::Train, self.seed, index as u64)
    }

    /// The sound of one of them; `None` if its recording turns out to be broken.
    pub fn utterance(&mut self, index: usize) -> Result<Option<Vec<f32>>, PipelineError> {
        let Some(composed) = index.checked_sub(self.train.len()) else {
            return Ok(match self.train.get(index) {
                Ok(utterance) => Some(utterance.samples),
                Err(error) => {
                    self.skip(index, &error);
                    None
                }
            });
        };
        let Some(composer) = &self.composer else {
            return Ok(None);
        };
        Ok(Some(self.compose(composer, composed).samples))
    }

    /// Lists a recording of the training split that can't be used.
    pub fn skip(&mut self, index: usize, error: &DataError) {
        self.skipped.add(Skipped::of(self.train.path(index), error));
    }

    /// Lists one of them whose text can't become tokens.
    pub fn skip_text(&mut self, index: usize, error: &DataError) {
        match index < self.train.len() {
            true => self.skip(index, error),
            false => self
                .skipped
                .add(Skipped::of(Path::new(skipped::COMPOSED), error)),
        }
    }

    /// All texts that are trained on.
    pub fn texts(&self) -> Vec<String> {
        let recorded = (0..self.train.len()).map(|i| self.train.text(i).to_owned());
        let composed = self.composer.iter().flat_map(|composer| {
            let few = self.composed.min(1000);
            (0..few).map(move |index| self.compose(composer, index).text)
        });
        recorded.chain(composed).collect()
    }

    /// The characters and words of the recordings, of which the composed utterances are made.
    pub fn known(&self) -> KnownText {
        KnownText::of((0..self.train.len()).map(|index| self.train.text(index)))
    }

    /// The vocabulary that a recipe asks for.
    pub fn tokenizer(&self, recipe: &SpeechRecipe) -> Result<TextTokenizer, PipelineError> {
        let text = &recipe.text;
        Ok(match text.path.as_str() {
            "" => TextTokenizer::train(text.tokenizer, &self.texts(), text.vocabulary)?,
            path => TextTokenizer::read(Path::new(path))?,
        })
    }

    /// Held-out utterances: composed ones, all kinds alike, else recordings, of which the broken ones
    /// are listed.
    pub fn held_out(&mut self, count: usize) -> Vec<HeldOutUtterance> {
        let composed = self.composer.as_ref().map(|composer| {
            let kinds = composer.kinds().iter().cycle().take(count).zip(0..);
            let composed =
                kinds.map(|(kind, i)| composer.utterance(*kind, Split::Test, self.seed, i));
            let composed = composed.map(|made| HeldOutUtterance {
                source: skipped::COMPOSED.into(),
                text: made.text,
                samples: made.samples,
                words: Some(made.words),
            });
            composed.collect()
        });
        composed.unwrap_or_else(|| self.recorded(count))
    }

    fn recorded(&mut self, count: usize) -> Vec<HeldOutUtterance> {
        let mut recorded = Vec::new();
        for index in 0..self.test.len().min(count) {
            let source = self.test.path(index).to_owned();
            match self.test.get(index) {
                Ok(clip) => recorded.push(HeldOutUtterance {
                    source,
                    text: clip.text,
                    samples: clip.samples,
                    words: None,
                }),
                Err(error) => self.skipped.add(Skipped::of(&source, &error)),
            }
        }
        recorded
    }

    /// Held-out texts to be spoken as training goes: one of each kind of composition, else of the
    /// recordings. Those that can't be said are left out.
    pub fn examples(&self, can_be_said: impl Fn(&str) -> bool) -> Vec<String> {
        match &self.composer {
            Some(composer) => {
                let example =
                    |kind: &Composition| composer.utterance(*kind, Split::Test, self.seed, 0).text;
                let examples = composer.kinds().iter().map(example);
                examples.filter(|text| can_be_said(text)).collect()
            }
            None => (0..self.test.len())
                .map(|index| self.test.text(index))
                .filter(|text| can_be_said(text))
                .take(EXAMPLES)
                .map(str::to_owned)
                .collect(),
        }
    }
}

/// The kinds that a composer takes turns with.
fn mix(composer: &Composer) -> Vec<Composition> {
    match composer.kinds() == Composition::ALL {
        true => MIX.into_iter().filter(|kind| composer.can(*kind)).collect(),
        false => composer.kinds().to_vec(),
    }
}

impl TrainingData for SpeechData {
    fn fingerprint(&self) -> String {
        format!(
            "{}-{}-{}",
            self.train.fingerprint(),
            self.composed,
            self.seed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipe;

    /// The recordings that ship, said to be of two speakers: one has the letters, the other the rest.
    fn shared_out(folder: &Path) -> SpeechData {
        let voice = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/voice");
        let table = std::fs::read_to_string(voice.join("metadata.jsonl")).unwrap();
        let mut lines = String::new();
        for line in table.lines() {
            let mut record: serde_json::Value = serde_json::from_str(line).unwrap();
            let audio = voice.join(record["audio"].as_str().unwrap());
            record["audio"] = audio.to_str().unwrap().into();
            record["speaker"] = match record["group"] == "letter" {
                true => "ann".into(),
                false => "bob".into(),
            };
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
            assert!(!data.text(data.train.len() + composed).is_empty());
        }
    }
}
