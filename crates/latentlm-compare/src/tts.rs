//! LatentLM at several rates of latents against codec language models, on the same speech (paper §3.3).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm::core::bundle::write_atomically;
use latentlm_data::Split;
use latentlm_data::speech::SpeechDataset;
use latentlm_eval::{
    ComparedSoFar, EvalError, EvaluateSpeechOptions, SpeechEvaluation, SpeechJudges,
    evaluate_speaker, evaluate_speech, unshown,
};
use latentlm_pipelines::{
    PipelineError, Recipe, RunFolder, SpeechData, SpeechRecipe, TrainingData,
};
use latentlm_train::{
    Result, RunEnd, RunOptions, SpokenSamples, TrainError, encode_speech, open_run_with, phases,
    reading, stoppable, train_speech,
};
use serde::{Deserialize, Serialize};

use super::result::{end, report, write_result};
use super::tts_budget::{Budget, Minutes, Texts, Utterances};
use super::tts_counts::{SpeechCounts, step_of_codes, step_of_latentlm};
use super::tts_recipe::CompareTtsRecipe;
use super::tts_result::{SpeechModelResult, TtsComparison};
use super::tts_rival::{self, train_code_lm};
use super::tts_sizes::check_sizes;
use super::tts_speaker::CodeSpeaker;
use super::tts_verdict::verdicts;

/// Folder of the run of the codec with codebooks.
const CODEC: &str = "rival-codec";

/// Measurements of a model, in the folder of its run.
const MEASURED: &str = "measured.json";

/// Measurements of a finished model, and what they depend on besides the model.
#[derive(Serialize, Deserialize)]
struct Measured {
    conditions: String,
    /// The commands that listened, by what they are asked. Older versions had them among the conditions.
    #[serde(default)]
    listeners: BTreeMap<String, String>,
    evaluation: SpeechEvaluation,
}

/// Measures a run.
type Evaluate = fn(&Path, &EvaluateSpeechOptions, &Device) -> Result<SpeechEvaluation, EvalError>;

/// A model of the list, and its run.
struct Entry {
    name: String,
    parameters: usize,
    counts: SpeechCounts,
    budget: Budget,
}

/// The models of a recipe: LatentLM at each rate, then the rivals.
///
/// # Errors
/// If the number of parameters of one differs from the first LatentLM's by more than the recipe allows.
fn entries(recipe: &CompareTtsRecipe, texts: Texts, device: &Device) -> Result<Vec<Entry>> {
    let vocabulary = texts.vocabulary;
    let (mut entries, mut first_cost) = (Vec::new(), None);
    for &frames in &recipe.frames_per_latent {
        let own = recipe.latentlm(frames);
        let parameters = own.model(vocabulary).init(device).num_params();
        let cost = step_of_latentlm(recipe, frames, texts, parameters, device);
        let first = *first_cost.get_or_insert(cost);
        entries.push(Entry {
            name: format!("latentlm-{}", own.frame_rate_hz()),
            parameters,
            counts: SpeechCounts::of_latentlm(recipe, frames, texts, device),
            budget: Budget::of(recipe, cost, first),
        });
    }
    for &group in &recipe.groups {
        let own = recipe.of_group(group);
        let parameters = own.code_lm(vocabulary).init(device).num_params();
        let cost = step_of_codes(&own, texts, parameters, device);
        let first = *first_cost.get_or_insert(cost);
        entries.push(Entry {
            name: format!("rival-{group}"),
            parameters,
            counts: SpeechCounts::of_codes(&own, texts, device),
            budget: Budget::of(recipe, cost, first),
        });
    }
    let first = entries[0].parameters;
    for own in &entries {
        let difference = own.parameters as f64 / first as f64 - 1.0;
        if difference.abs() > recipe.evaluate.parameter_tolerance {
            return Err(TrainError::config(format!(
                "{} has {} parameters, {:+.1} % of the first LatentLM's {first}: change its sizes, \
                 or evaluate.parameter_tolerance",
                own.name,
                own.parameters,
                difference * 100.0
            )));
        }
    }
    Ok(entries)
}

/// Trains LatentLM at each rate and the rivals, or continues, each a run within the run's folder, and writes
/// `compare.json`, `compare.md` and `compare.svg`. Models that were measured before with the same commands, or with these and
/// others, are not measured again.
///
/// # Errors
/// If the folder, recipe or data are wrong, a model has too many or too few parameters, a loss is not finite, a command
/// that listens fails, or a file can't be written.
pub fn compare_tts(
    recipe: CompareTtsRecipe,
    judges: SpeechJudges,
    options: RunOptions,
) -> Result<RunEnd> {
    RunEnd::of(compare(recipe, judges, options))
}

fn compare(recipe: CompareTtsRecipe, judges: SpeechJudges, options: RunOptions) -> Result<RunEnd> {
    let started = Instant::now();
    let options = options.within("speech.");
    // Before the folder is made: a run that can't begin leaves nothing behind.
    check_sizes(&recipe, &options)?;
    let (folder, opened) = open_run_with(&recipe, &options, || opened(&recipe, &options))?;
    let (utterances, entries, fingerprints) = opened;
    let mut running = Running {
        minutes: Minutes::read(&options.path),
        run: &folder.run,
        recipe: &recipe,
        judges: &judges,
        options: &options,
        utterances,
        fingerprints,
    };
    let Some(measured) = running.all(&entries)? else {
        return Ok(RunEnd::Stopped);
    };
    let models = entries.into_iter().zip(measured);
    let models = models.map(|(own, evaluation)| SpeechModelResult {
        steps: own.budget.steps,
        minutes: running.minutes.get(&own.name),
        name: own.name,
        parameters: own.parameters,
        counts: own.counts,
        evaluation,
    });
    let comparison = TtsComparison {
        models: models.collect(),
    };
    let table = comparison.tables() + &verdicts(&comparison.models);
    let figure = comparison.figure();
    let found = ComparedSoFar {
        table: &table,
        figure: &figure,
        stages: &[],
    };
    report(&folder.run, &recipe, &found, options.progress);
    write_result(&folder.run, "compare", &comparison, table, figure)?;
    Ok(end(&folder.run, "compare", started))
}

/// Opens the data. Returns what steps are counted by, the models, and hashes of the data.
///
/// # Errors
/// If data can't be read, or a model has too many or too few parameters.
fn opened(
    recipe: &CompareTtsRecipe,
    options: &RunOptions,
) -> Result<(Utterances, Vec<Entry>, String)> {
    let opened = reading("opening data", options.progress, || {
        SpeechData::open(&recipe.codes())
    });
    let within =
        |error: PipelineError| TrainError::from(error).within::<SpeechRecipe>(&options.within);
    let mut data = opened.map_err(within)?;
    let tokenizer = data.tokenizer(&recipe.speech)?;
    let kept = Utterances::kept(&options.path).filter(|_| options.resume);
    let utterances = match kept {
        Some(kept) => kept,
        None => Utterances::of(&mut data, &tokenizer)?,
    };
    let texts = Texts {
        vocabulary: tokenizer.vocabulary(),
        utterance: utterances.mean(),
    };
    let entries = entries(recipe, texts, &options.device)?;
    let fingerprints = fingerprints(recipe, &data)?;
    Ok((utterances, entries, fingerprints))
}

/// Hashes of all data that are trained or measured on.
///
/// # Errors
/// If the corpus of held-out voices can't be read.
fn fingerprints(recipe: &CompareTtsRecipe, data: &SpeechData) -> Result<String> {
    let mut all = vec![data.fingerprint(), data.test.fingerprint()];
    let others = &recipe.evaluate.held_out_voices;
    if !others.is_empty() {
        let others = SpeechDataset::open(Path::new(others), data.test.spec(), Split::Test)?;
        all.push(others.fingerprint());
    }
    Ok(all.join(" "))
}

/// A comparison that is under way.
struct Running<'a> {
    run: &'a RunFolder<CompareTtsRecipe>,
    recipe: &'a CompareTtsRecipe,
    judges: &'a SpeechJudges,
    options: &'a RunOptions,
    utterances: Utterances,
    /// Hashes of the training data, the held-out data, and the voices that are held out.
    fingerprints: String,
    minutes: Minutes,
}

impl Running<'_> {
    /// Trains and measures all models; `None` if it was stopped.
    fn all(&mut self, entries: &[Entry]) -> Result<Option<Vec<SpeechEvaluation>>> {
        let (latentlm, rivals) = entries.split_at(self.recipe.frames_per_latent.len());
        let mut measured = Vec::with_capacity(entries.len());
        let progress = self.options.progress;
        for (&frames, own) in self.recipe.frames_per_latent.iter().zip(latentlm) {
            let Some(evaluation) = self.latentlm(frames, own)? else {
                return Ok(None);
            };
            measured.push(evaluation);
            report(self.run, self.recipe, &ComparedSoFar::default(), progress);
        }
        let Some(samples) = encode_speech(self.recipe.codes(), self.options.part(CODEC))? else {
            return Ok(None);
        };
        for (&group, own) in self.recipe.groups.iter().zip(rivals) {
            let Some(evaluation) = self.rival(group, own, &samples)? else {
                return Ok(None);
            };
            measured.push(evaluation);
            report(self.run, self.recipe, &ComparedSoFar::default(), progress);
        }
        Ok(Some(measured))
    }

    /// Trains LatentLM with `frames` frames per latent, and measures it; `None` if it was stopped.
    fn latentlm(&mut self, frames: usize, own: &Entry) -> Result<Option<SpeechEvaluation>> {
        let mut speech = self.recipe.latentlm(frames);
        own.budget.set(&mut speech);
        let is_trained = self.is_trained(own);
        // The codec by itself, so that the minutes are those of the language model. A teacher brings its codec.
        if !is_trained && speech.lm.from.is_empty() {
            let part = self.options.part(&own.name);
            let coded = encode_speech(speech.clone(), part)?;
            self.utterances.keep(&self.options.path)?;
            if coded.is_none() {
                return Ok(None);
            }
        }
        let part = self.options.part(&own.name);
        let (path, sample) = (part.path.clone(), speech.sample_options());
        let trained = self.timed(own, is_trained, || train_speech(speech, part))?;
        self.utterances.keep(&self.options.path)?;
        if trained == RunEnd::Stopped {
            return Ok(None);
        }
        self.measured(&path, sample, evaluate_speech)
    }

    /// Trains the rival with groups of this size, and measures it; `None` if it was stopped.
    fn rival(
        &mut self,
        group: usize,
        own: &Entry,
        samples: &SpokenSamples,
    ) -> Result<Option<SpeechEvaluation>> {
        let mut recipe = self.recipe.of_group(group);
        own.budget.set(&mut recipe.speech);
        let part = self.options.part(&own.name);
        let path = part.path.clone();
        let is_trained = self.is_trained(own);
        let finished = self.timed(own, is_trained, || train_code_lm(recipe, samples, part))?;
        if !finished {
            return Ok(None);
        }
        self.measured(&path, SampleOptions::default(), evaluate_code_speech)
    }

    /// Whether a model's language model has taken all its steps.
    fn is_trained(&self, own: &Entry) -> bool {
        let part = self.options.path.join(&own.name);
        let last = format!("checkpoints/lm/step-{}", own.budget.steps);
        part.join(last).is_dir()
    }

    /// Trains a model and counts the minutes, if there is something left to train.
    fn timed<T>(
        &mut self,
        own: &Entry,
        is_trained: bool,
        train: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if is_trained {
            train()
        } else {
            self.minutes.add(&own.name, train)
        }
    }

    /// The measurements of a run, new ones or those of an earlier call; `None` if it was stopped.
    fn measured(
        &self,
        path: &Path,
        sample: SampleOptions,
        evaluate: Evaluate,
    ) -> Result<Option<SpeechEvaluation>> {
        let mut options = evaluation(self.recipe, self.judges, sample);
        options.phase = phases(self.options.progress);
        let conditions = conditions(self.recipe, &self.fingerprints, &options);
        let interrupter = &self.options.interrupter;
        let stopped_before = interrupter.should_stop();
        let measured = stoppable(self.options, || {
            measured_once(path, conditions, listeners(self.judges), || {
                (options.phase)(&format!("measuring {}", path.display()));
                evaluate(path, &options, &self.options.device)
            })
        })?;
        let goes_on = stopped_before || !interrupter.should_stop();
        Ok(goes_on.then_some(measured))
    }
}

fn evaluation(
    recipe: &CompareTtsRecipe,
    judges: &SpeechJudges,
    sample: SampleOptions,
) -> EvaluateSpeechOptions {
    let config = &recipe.evaluate;
    let held_out = Some(&config.held_out_voices).filter(|path| !path.is_empty());
    EvaluateSpeechOptions {
        samples: config.samples,
        seed: recipe.seed(),
        sample,
        judges: judges.clone(),
        hard_texts: config.hard_texts,
        held_out_voices: held_out.map(PathBuf::from),
        weights: None,
        phase: unshown,
    }
}

/// What measurements depend on besides the weights and those who listen: data, options, and the steps that the model was
/// trained for.
fn conditions(
    recipe: &CompareTtsRecipe,
    fingerprints: &str,
    options: &EvaluateSpeechOptions,
) -> String {
    let EvaluateSpeechOptions {
        samples,
        seed,
        sample,
        judges: _,
        hard_texts,
        // The fingerprints have its content.
        held_out_voices: _,
        // All models are compared with the weights as they were trained.
        weights: _,
        phase: _,
    } = options;
    let steps = [&recipe.speech.codec_train, &recipe.speech.lm_train].map(|stage| stage.steps);
    let minutes = [recipe.minutes, recipe.multiply_adds_a_second];
    let (drawing, counts) = (recipe.rival.drawing, [*samples, *hard_texts]);
    format!("{fingerprints} {steps:?} {minutes:?} {drawing:?} {counts:?} {seed} {sample:?}")
}

/// The commands that listen, by what they are asked. They are the same in a checkout elsewhere.
pub(crate) fn listeners(judges: &SpeechJudges) -> BTreeMap<String, String> {
    let SpeechJudges {
        recognizer,
        open_recognizer,
        second_recognizer,
        speaker,
        pesq,
        naturalness,
    } = judges;
    let all = [
        ("recognizer", recognizer),
        ("open_recognizer", open_recognizer),
        ("second_recognizer", second_recognizer),
        ("speaker", speaker),
        ("pesq", pesq),
        ("naturalness", naturalness),
    ];
    let named = all.into_iter();
    let named = named.filter_map(|(asked, own)| Some((asked.to_owned(), own.as_ref()?.name())));
    named.collect()
}

/// The measurements of a run from its folder, if they were made under the same conditions and these commands listened, else
/// those of `measure`, which are kept there.
fn measured_once(
    run: &Path,
    conditions: String,
    listeners: BTreeMap<String, String>,
    measure: impl FnOnce() -> Result<SpeechEvaluation, EvalError>,
) -> Result<SpeechEvaluation> {
    let file = run.join(MEASURED);
    let kept = fs::read_to_string(&file).unwrap_or_default();
    // A file that is missing or can't be read is no error: the model is measured again.
    if let Ok(kept) = serde_json::from_str::<Measured>(&kept)
        && kept.conditions == conditions
        && listeners
            .iter()
            .all(|(asked, own)| kept.listeners.get(asked) == Some(own))
    {
        return Ok(kept.evaluation);
    }
    let measured = Measured {
        conditions,
        listeners,
        evaluation: measure()?,
    };
    let json = serde_json::to_vec_pretty(&measured).unwrap_or_default();
    write_atomically(&file, &json)?;
    Ok(measured.evaluation)
}

/// Measures the run of a rival as [`evaluate_speech`] does those of LatentLM. Solver, guidance and weights of `options`
/// are not read: codes are drawn as the recipe says, with the weights as they were trained.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, a listener fails, or a file can't be written.
pub fn evaluate_code_speech(
    path: &Path,
    options: &EvaluateSpeechOptions,
    device: &Device,
) -> Result<SpeechEvaluation, EvalError> {
    let (run, recipe) = RunFolder::<CompareTtsRecipe>::open(path)?;
    let data = SpeechData::open(&recipe.codes())?;
    let speaker = CodeSpeaker::from_run(path, device)?;
    let options = EvaluateSpeechOptions {
        weights: None,
        ..options.clone()
    };
    let evaluation = evaluate_speaker(&run, &data, &speaker, &options, device)?;
    tts_rival::report(&run, &recipe)?;
    Ok(evaluation)
}

#[cfg(test)]
mod tests {
    use latentlm_eval::Listener;

    use super::*;
    use crate::tts_budget::MeanUtterance;

    fn texts(vocabulary: usize) -> Texts {
        Texts {
            vocabulary,
            utterance: MeanUtterance {
                seconds: 4.0,
                tokens: 40.0,
            },
        }
    }

    /// Models of the default sizes are alike in size for every rate, group and vocabulary, whichever rate comes first.
    #[test]
    fn default_models_have_as_many_parameters() {
        let (mut recipe, device) = (CompareTtsRecipe::default(), Device::default());
        recipe.frames_per_latent = vec![3, 6, 10];
        recipe.groups = vec![1, 2, 4];
        for vocabulary in [100, 512] {
            let entries = entries(&recipe, texts(vocabulary), &device).unwrap();
            let names: Vec<&str> = entries.iter().map(|own| &own.name[..]).collect();
            let rates = ["latentlm-25", "latentlm-12.5", "latentlm-7.5"];
            assert_eq!(
                names,
                [&rates[..], &["rival-1", "rival-2", "rival-4"]].concat()
            );
            for first in &entries[..3] {
                for own in &entries {
                    let difference = own.parameters as f64 / first.parameters as f64 - 1.0;
                    assert!(difference.abs() < 0.05, "{}: {difference}", own.name);
                }
            }
        }
        let mut small = recipe;
        small.rival.depth = 1;
        let message = entries(&small, texts(300), &device)
            .err()
            .unwrap()
            .to_string();
        assert!(message.contains("rival-1 has"), "{message}");
    }

    /// Steps are those of equal multiply-adds: the rival's are the dearest, and the lower the rate the more are taken. A model
    /// has the same steps whichever others are compared.
    #[test]
    fn models_are_trained_for_the_same_minutes() {
        let (mut recipe, device) = (CompareTtsRecipe::default(), Device::default());
        let steps = |recipe: &CompareTtsRecipe| {
            let entries = entries(recipe, texts(300), &device).unwrap();
            let steps = entries.into_iter().map(|own| own.budget.steps);
            steps.collect::<Vec<u64>>()
        };
        let few = steps(&recipe);
        assert!(few[2] < few[0] && few[0] < few[1], "{few:?}");
        recipe.frames_per_latent = vec![3, 6, 10];
        recipe.groups = vec![1, 4];
        let all = steps(&recipe);
        assert_eq!([all[0], all[2], all[3]], few[..]);
        assert!(all[3] < all[4], "fewer positions: {all:?}");
        (recipe.minutes, recipe.speech.lm_train.steps) = (0.0, 7);
        assert_eq!(steps(&recipe), [7; 5]);
    }

    /// A finished measurement is kept until what it depends on changes.
    #[test]
    fn a_model_is_measured_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut recipe = CompareTtsRecipe::default();
        let judges = SpeechJudges::default();
        let mut calls = 0_u32;
        let mut measure = |recipe: &CompareTtsRecipe, judges: &SpeechJudges| {
            let options = evaluation(recipe, judges, SampleOptions::default());
            let conditions = conditions(recipe, "data", &options);
            let measured = measured_once(dir.path(), conditions, listeners(judges), || {
                calls += 1;
                let values = [("calls".to_owned(), f64::from(calls))];
                Ok(SpeechEvaluation {
                    values: values.into(),
                    intervals: [("calls".to_owned(), [0.5, 1.5])].into(),
                    ..SpeechEvaluation::default()
                })
            });
            measured.unwrap().values["calls"]
        };
        assert_eq!(measure(&recipe, &judges), 1.0);
        assert_eq!(measure(&recipe, &judges), 1.0);
        let heard = SpeechJudges {
            open_recognizer: Some(Listener::parse("listen").unwrap()),
            ..judges.clone()
        };
        assert_eq!(measure(&recipe, &heard), 2.0, "another listener");
        assert_eq!(measure(&recipe, &judges), 2.0, "more than is asked for");
        let elsewhere = SpeechJudges {
            open_recognizer: Some(Listener::parse("/elsewhere/listen").unwrap()),
            ..judges.clone()
        };
        assert_eq!(measure(&recipe, &elsewhere), 2.0, "the same listener");
        let second = SpeechJudges {
            second_recognizer: Some(Listener::parse("listen again").unwrap()),
            ..heard.clone()
        };
        let asked: Vec<String> = listeners(&second).into_keys().collect();
        assert_eq!(asked, ["open_recognizer", "second_recognizer"]);
        recipe.evaluate.hard_texts = 3;
        assert_eq!(measure(&recipe, &heard), 3.0, "other texts");
        recipe.speech.lm_train.steps += 1;
        assert_eq!(measure(&recipe, &heard), 4.0, "trained longer");
        recipe.minutes += 1.0;
        assert_eq!(measure(&recipe, &heard), 5.0, "trained for more minutes");
        fs::write(dir.path().join(MEASURED), "{").unwrap();
        assert_eq!(measure(&recipe, &heard), 6.0, "a broken file");
        assert_eq!(measure(&recipe, &heard), 6.0);
    }
}
