//! LatentLM at several rates of latents against codec language models, on the same speech (paper §3.3).

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm::codec_audio::Codec;
use latentlm::core::bundle::write_atomically;
use latentlm_eval::{
    EvalError, EvaluateSpeechOptions, Speaker, SpeechEvaluation, SpeechJudges, evaluate_speaker,
    evaluate_speech, unshown,
};
use latentlm_pipelines::{
    PipelineError, Recipe, RunFolder, SpeakingTimes, Speech, SpeechData, SpeechRecipe, TrainingData,
};
use latentlm_train::{
    Result, RunEnd, RunOptions, TrainError, check_memory, encode_speech, open_run, phases, reading,
    train_speech,
};
use serde::{Deserialize, Serialize};

use super::result::{end, write_result};
use super::tts_counts::SpeechCounts;
use super::tts_recipe::CompareTtsRecipe;
use super::tts_result::{SpeechModelResult, TtsComparison};
use super::tts_rival::train_code_lm;
use super::tts_speaker::{CodeSpeaker, CodeVoice};

/// Folder of the run of the codec with codebooks.
const CODEC: &str = "rival-codec";

/// Measurements of a model, in the folder of its run.
const MEASURED: &str = "measured.json";

/// Measurements of a finished model, and what they depend on besides the model.
#[derive(Serialize, Deserialize)]
struct Measured {
    conditions: String,
    evaluation: SpeechEvaluation,
}

/// A model of the list, and its run.
struct Entry {
    name: String,
    parameters: usize,
    counts: SpeechCounts,
}

/// The models of a recipe, for `vocabulary` tokens of text: LatentLM at each rate, then the rivals.
///
/// # Errors
/// If the number of parameters of one differs from the first LatentLM's by more than the recipe allows.
fn entries(recipe: &CompareTtsRecipe, vocabulary: usize, device: &Device) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for frames in &recipe.frames_per_latent {
        let own = recipe.latentlm(*frames);
        entries.push(Entry {
            name: format!("latentlm-{}", own.frame_rate_hz()),
            parameters: own.model(vocabulary).init(device).num_params(),
            counts: SpeechCounts::of_latentlm(recipe, *frames, vocabulary, device),
        });
    }
    for group in &recipe.groups {
        let own = recipe.of_group(*group);
        entries.push(Entry {
            name: format!("rival-{group}"),
            parameters: own.code_lm(vocabulary).init(device).num_params(),
            counts: SpeechCounts::of_codes(&own, vocabulary, device),
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
/// `compare.json`, `compare.md` and `compare.svg`. Models that were measured with the same commands before are not measured
/// again.
///
/// # Errors
/// If the folder, recipe or data are wrong, a model has too many or too few parameters, a loss is not finite, a command
/// that listens fails, or a file can't be written.
pub fn compare_tts(
    recipe: CompareTtsRecipe,
    judges: SpeechJudges,
    options: RunOptions,
) -> Result<RunEnd> {
    let started = Instant::now();
    let options = options.within("speech.");
    // Before the folder is made: a run that can't begin leaves nothing behind.
    check_memory(&recipe.speech, 1, &options)?;
    let opened = reading("opening data", options.progress, || {
        SpeechData::open(&recipe.codes())
    });
    let within =
        |error: PipelineError| TrainError::from(error).within::<SpeechRecipe>(&options.within);
    let data = opened.map_err(within)?;
    let vocabulary = data.tokenizer(&recipe.speech)?.vocabulary();
    let entries = entries(&recipe, vocabulary, &options.device)?;
    let folder = open_run(&recipe, &options)?;
    let fingerprints = [data.fingerprint(), data.test.fingerprint()].concat();
    let measured_as = |sample| EvaluateSpeechOptions {
        phase: phases(options.progress),
        ..evaluation(&recipe, &judges, sample)
    };
    let mut measured = Vec::with_capacity(entries.len());
    for (frames, own) in recipe.frames_per_latent.iter().zip(&entries) {
        let part = options.part(&own.name);
        let path = part.path.clone();
        let speech = recipe.latentlm(*frames);
        let evaluate = measured_as(speech.sample_options());
        if train_speech(speech, part)? == RunEnd::Stopped {
            return Ok(RunEnd::Stopped);
        }
        let conditions = conditions(&recipe, &fingerprints, &evaluate);
        measured.push(measured_once(&path, conditions, || {
            evaluate_speech(&path, &evaluate, &options.device)
        })?);
    }
    let Some(samples) = encode_speech(recipe.codes(), options.part(CODEC))? else {
        return Ok(RunEnd::Stopped);
    };
    let rivals = &entries[recipe.frames_per_latent.len()..];
    for (group, own) in recipe.groups.iter().zip(rivals) {
        let part = options.part(&own.name);
        let path = part.path.clone();
        if !train_code_lm(recipe.of_group(*group), &samples, part)? {
            return Ok(RunEnd::Stopped);
        }
        let evaluate = measured_as(SampleOptions::default());
        let conditions = conditions(&recipe, &fingerprints, &evaluate);
        measured.push(measured_once(&path, conditions, || {
            evaluate_code_speech(&path, &evaluate, &options.device)
        })?);
    }
    let models = entries.into_iter().zip(measured);
    let models = models.map(|(own, evaluation)| SpeechModelResult {
        name: own.name,
        parameters: own.parameters,
        counts: own.counts,
        evaluation,
    });
    let comparison = TtsComparison {
        models: models.collect(),
    };
    let (table, figure) = (comparison.tables(), comparison.figure());
    write_result(&folder.run, "compare", &comparison, table, figure)?;
    Ok(end(&folder.run, "compare", started))
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

/// What measurements depend on besides the weights: data, options, and the steps that the model was trained for.
fn conditions(
    recipe: &CompareTtsRecipe,
    fingerprints: &str,
    options: &EvaluateSpeechOptions,
) -> String {
    let EvaluateSpeechOptions {
        samples,
        seed,
        sample,
        judges,
        hard_texts,
        held_out_voices,
        // All models are compared with the weights as they were trained.
        weights: _,
        phase: _,
    } = options;
    let steps = [&recipe.speech.codec_train, &recipe.speech.lm_train].map(|stage| stage.steps);
    let (drawing, counts) = (recipe.rival.drawing, [*samples, *hard_texts]);
    format!(
        "{fingerprints} {steps:?} {drawing:?} {counts:?} {seed} {sample:?} {judges:?} {held_out_voices:?}"
    )
}

/// The measurements of a run from its folder, if they were made under the same conditions, else those of `measure`, which
/// are kept there.
fn measured_once(
    run: &Path,
    conditions: String,
    measure: impl FnOnce() -> Result<SpeechEvaluation, EvalError>,
) -> Result<SpeechEvaluation> {
    let file = run.join(MEASURED);
    let kept = fs::read_to_string(&file).unwrap_or_default();
    // A file that is missing or can't be read is no error: the model is measured again.
    if let Ok(kept) = serde_json::from_str::<Measured>(&kept)
        && kept.conditions == conditions
    {
        return Ok(kept.evaluation);
    }
    let measured = Measured {
        conditions,
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
    evaluate_speaker(&run, &data, &speaker, &options, device)
}

impl Speaker for CodeSpeaker {
    type Voice = CodeVoice;

    fn codec(&self) -> &Codec {
        &self.codec
    }

    fn sample_rate_hz(&self) -> u32 {
        CodeSpeaker::sample_rate_hz(self)
    }

    fn frame_rate_hz(&self) -> f64 {
        self.recipe.frame_rate_hz()
    }

    fn voice(&self, text: &str, samples: Vec<f32>) -> Result<CodeVoice, PipelineError> {
        CodeSpeaker::voice(self, text, samples)
    }

    fn accepts(
        &self,
        texts: &[String],
        voice: Option<&CodeVoice>,
        _: &SampleOptions,
    ) -> Result<(), PipelineError> {
        CodeSpeaker::accepts(self, texts, voice)
    }

    fn say(
        &self,
        texts: &[String],
        voice: Option<&CodeVoice>,
        _: &SampleOptions,
        seed: u64,
    ) -> Result<Vec<Speech>, PipelineError> {
        CodeSpeaker::say(self, texts, voice, seed)
    }

    fn time(
        &self,
        text: &str,
        _: &SampleOptions,
        seed: u64,
    ) -> Result<SpeakingTimes, PipelineError> {
        self.stream(text, None, seed, |_| Ok::<(), PipelineError>(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_eval::Listener;

    /// Models of the default recipe are alike in size, for vocabularies of different sizes.
    #[test]
    fn default_models_have_as_many_parameters() {
        let (recipe, device) = (CompareTtsRecipe::default(), Device::default());
        for vocabulary in [100, 300, 512] {
            let entries = entries(&recipe, vocabulary, &device).unwrap();
            let names: Vec<&str> = entries.iter().map(|own| &own.name[..]).collect();
            assert_eq!(names, ["latentlm-25", "latentlm-7.5", "rival-1"]);
        }
        let mut small = recipe;
        small.rival.depth = 1;
        let message = entries(&small, 300, &device).err().unwrap().to_string();
        assert!(message.contains("rival-1 has"), "{message}");
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
            let measured = measured_once(dir.path(), conditions, || {
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
        recipe.evaluate.hard_texts = 3;
        assert_eq!(measure(&recipe, &heard), 3.0, "other texts");
        recipe.speech.lm_train.steps += 1;
        assert_eq!(measure(&recipe, &heard), 4.0, "trained longer");
        fs::write(dir.path().join(MEASURED), "{").unwrap();
        assert_eq!(measure(&recipe, &heard), 5.0, "a broken file");
        assert_eq!(measure(&recipe, &heard), 5.0);
    }
}
