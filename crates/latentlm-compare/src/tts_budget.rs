//! How long each model of speech is trained: as many steps as fit into the same minutes, by counted multiply-adds, so that
//! the same recipe always gives the same steps; and the minutes that it took.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use latentlm::core::bundle::write_atomically;
use latentlm_data::{TextTokenizer, check_stop};
use latentlm_pipelines::{SpeechData, SpeechRecipe};
use latentlm_train::{Result, TrainError};
use serde::{Deserialize, Serialize};

use super::tts_recipe::CompareTtsRecipe;

/// File of the sums over utterances in the comparison's folder: a run that goes on has the same steps, even on changed data.
const UTTERANCES: &str = "utterances.json";
/// File of the minutes in the comparison's folder.
const MINUTES: &str = "minutes.json";
/// Utterances that the mean is taken of, at most: each is decoded.
const MEASURED: usize = 512;
/// Steps of a model, at most.
const MOST_STEPS: f64 = 1e8;

/// The mean of a corpus's training utterances.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeanUtterance {
    /// Length of the speech in seconds.
    pub seconds: f64,
    /// Tokens of the text, with the one that begins speech.
    pub tokens: f64,
}

/// What sizes and counts of models depend on besides the recipe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Texts {
    /// Tokens of the vocabulary.
    pub vocabulary: usize,
    /// The corpus's mean utterance.
    pub utterance: MeanUtterance,
}

/// Sums over training utterances: whole numbers, which a file gives back as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Utterances {
    sample_rate_hz: u32,
    utterances: u64,
    samples: u64,
    tokens: u64,
}

impl Utterances {
    /// Sums over at most 512 training utterances, which are spread over the corpus.
    ///
    /// # Errors
    /// If none of them can be used.
    pub(crate) fn of(data: &mut SpeechData, tokenizer: &TextTokenizer) -> Result<Self> {
        let mut sums = Self {
            sample_rate_hz: data.train.spec().sample_rate_hz,
            utterances: 0,
            samples: 0,
            tokens: 0,
        };
        for index in spread(data.utterances(), MEASURED) {
            check_stop()?;
            let Ok(text) = tokenizer.encode(&data.text(index).0) else {
                continue;
            };
            let Some(sound) = data.utterance(index) else {
                continue;
            };
            sums.utterances += 1;
            sums.samples += sound.len() as u64;
            sums.tokens += text.len() as u64 + 1;
        }
        if sums.samples == 0 {
            let reason = "there is no utterance whose recording can be read and whose text the vocabulary has";
            return Err(TrainError::config(reason));
        }
        Ok(sums)
    }

    /// What [`keep`](Self::keep) wrote into a comparison's folder, if it did.
    pub(crate) fn kept(folder: &Path) -> Option<Self> {
        let json = fs::read_to_string(folder.join(UTTERANCES)).ok()?;
        serde_json::from_str(&json).ok()
    }

    /// Writes them into a comparison's folder.
    pub(crate) fn keep(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).unwrap_or_default();
        Ok(write_atomically(&folder.join(UTTERANCES), &json)?)
    }

    /// Their mean.
    pub(crate) fn mean(&self) -> MeanUtterance {
        let count = self.utterances as f64;
        MeanUtterance {
            seconds: self.samples as f64 / f64::from(self.sample_rate_hz) / count,
            tokens: self.tokens as f64 / count,
        }
    }
}

/// At most `most` numbers below `count`, at equal distances.
fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let picked = count.min(most);
    (0..picked).map(move |place| place * count / picked)
}

/// The training of one model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Budget {
    /// Optimizer steps.
    pub(crate) steps: u64,
    /// Steps of this model for one of the first LatentLM.
    ratio: f64,
}

impl Budget {
    /// The training of a model whose step costs `cost` multiply-adds, where a step of the first LatentLM costs `first`.
    pub(crate) fn of(recipe: &CompareTtsRecipe, cost: f64, first: f64) -> Self {
        if recipe.minutes == 0.0 {
            return Self {
                steps: recipe.speech.lm_train.steps,
                ratio: 1.0,
            };
        }
        let all = recipe.minutes * 60.0 * recipe.multiply_adds_a_second;
        Self {
            steps: (all / cost).round().clamp(1.0, MOST_STEPS) as u64,
            ratio: first / cost,
        }
    }

    /// Sets steps and what is given in steps: a curriculum takes the same share of the minutes for every model, and as
    /// many samples and checkpoints are made of each.
    pub(crate) fn set(&self, recipe: &mut SpeechRecipe) {
        let scaled = |steps: u64| (steps as f64 * self.ratio).round() as u64;
        let stage = &mut recipe.lm_train;
        stage.steps = self.steps;
        stage.sample_every = scaled(stage.sample_every).max(1);
        stage.checkpoint_every = scaled(stage.checkpoint_every).max(1);
        recipe.data.curriculum_steps = scaled(recipe.data.curriculum_steps);
    }
}

/// Minutes that the language models of a comparison were trained for, by the names of their runs.
#[derive(Debug)]
pub(crate) struct Minutes {
    file: PathBuf,
    of: BTreeMap<String, f64>,
}

impl Minutes {
    /// Those of the calls before. A file that is missing or can't be read is no error: it only tells how long it took.
    pub(crate) fn read(folder: &Path) -> Self {
        let file = folder.join(MINUTES);
        let json = fs::read_to_string(&file).unwrap_or_default();
        Self {
            of: serde_json::from_str(&json).unwrap_or_default(),
            file,
        }
    }

    /// The minutes of a run; none if it was trained by a version that did not take the time.
    pub(crate) fn get(&self, run: &str) -> Option<f64> {
        self.of.get(run).copied()
    }

    /// Trains the language model of a run, and adds the time that it takes.
    ///
    /// # Errors
    /// Those of `train`, or if the file can't be written.
    pub(crate) fn add<T>(&mut self, run: &str, train: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        let trained = train()?;
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        *self.of.entry(run.to_owned()).or_default() += minutes;
        let json = serde_json::to_vec_pretty(&self.of).unwrap_or_default();
        write_atomically(&self.file, &json)?;
        Ok(trained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same multiply-adds for all, so that a step that costs half is taken twice as often.
    #[test]
    fn steps_follow_from_minutes_and_multiply_adds() {
        let mut recipe = CompareTtsRecipe::default();
        (recipe.minutes, recipe.multiply_adds_a_second) = (2.0, 1e9);
        let [first, half] = [4e8, 2e8].map(|cost| Budget::of(&recipe, cost, 4e8));
        assert_eq!((first.steps, half.steps), (300, 600));
        let mut speech = recipe.speech.clone();
        half.set(&mut speech);
        assert_eq!(speech.lm_train.steps, 600);
        let own = &recipe.speech;
        assert_eq!(speech.data.curriculum_steps, 2 * own.data.curriculum_steps);
        assert_eq!(speech.lm_train.sample_every, 2 * own.lm_train.sample_every);
        let mut same = own.clone();
        first.set(&mut same);
        assert_eq!(same.data, own.data);
        // More minutes change the steps alone, so that a run can go on.
        recipe.minutes = 3.0;
        let mut longer = recipe.speech.clone();
        Budget::of(&recipe, 2e8, 4e8).set(&mut longer);
        assert_eq!(longer.lm_train.steps, 900);
        longer.lm_train.steps = 600;
        assert_eq!(longer, speech);
        assert_eq!(Budget::of(&recipe, 1e300, 1.0).steps, 1);

        (recipe.minutes, recipe.speech.lm_train.steps) = (0.0, 7);
        let mut speech = recipe.speech.clone();
        Budget::of(&recipe, 2e8, 4e8).set(&mut speech);
        assert_eq!(speech, recipe.speech, "as many for all");
    }

    #[test]
    fn means_and_minutes_are_kept_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Utterances::kept(dir.path()), None);
        let sums = Utterances {
            sample_rate_hz: 24_000,
            utterances: 2,
            samples: 72_000,
            tokens: 9,
        };
        sums.keep(dir.path()).unwrap();
        assert_eq!(Utterances::kept(dir.path()), Some(sums));
        let mean = MeanUtterance {
            seconds: 1.5,
            tokens: 4.5,
        };
        assert_eq!(sums.mean(), mean);

        let mut minutes = Minutes::read(dir.path());
        assert_eq!(minutes.add("a", || Ok(5)).unwrap(), 5);
        let first = minutes.get("a").unwrap();
        assert!(
            minutes
                .add("a", || Err::<(), _>(TrainError::Stopped))
                .is_err()
        );
        let mut again = Minutes::read(dir.path());
        assert_eq!(again.get("a"), Some(first));
        again.add("a", || Ok(())).unwrap();
        assert!(again.get("a").unwrap() >= first && again.get("b").is_none());
    }

    #[test]
    fn utterances_are_spread_over_the_corpus() {
        let spread = |count| spread(count, 4).collect::<Vec<usize>>();
        assert_eq!(spread(3), [0, 1, 2]);
        assert_eq!(spread(10), [0, 2, 5, 7]);
        assert!(spread(0).is_empty());
    }
}
