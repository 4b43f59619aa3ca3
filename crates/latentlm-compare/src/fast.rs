//! Comparisons of the default voice and the default emoji with their fast students.

use std::collections::BTreeMap;
use std::path::Path;

use burn::config::Config;
use latentlm::SampleOptions;
use latentlm::codec_audio::{CodecConfig, CodecLossConfig};
use latentlm_eval::{
    EvaluateOptions, EvaluateSpeechOptions, SpeechJudges, evaluate_mllm, evaluate_speech,
};
use latentlm_pipelines::{
    CodecTables, LmConfig, MllmData, MllmRecipe, PipelineError, Recipe, SpeechData, SpeechRecipe,
    TrainingData, declare_recipe,
};
use latentlm_train::{
    Result, RunEnd, RunOptions, TrainError, open_run_with, phases, reading, train_mllm_with,
    train_speech_with,
};
use serde::Serialize;

use super::recipe::{codec_of, key_table};
use super::students::{HasStudent, Students, StudentsConfig, Values, check, check_memory_of_both};
use super::tts::listeners;

/// A comparison of a voice with its fast student.
#[derive(Config, Debug, PartialEq)]
pub struct FastTtsRecipe {
    /// How often both are trained, and how they are measured.
    pub fast_tts: StudentsConfig,
    /// The teacher.
    pub speech: SpeechRecipe,
}

/// A comparison of a model of text and pictures with its fast student.
#[derive(Config, Debug, PartialEq)]
pub struct FastMllmRecipe {
    /// How often both are trained, and how they are measured.
    pub fast_mllm: StudentsConfig,
    /// The teacher.
    pub mllm: MllmRecipe,
}

declare_recipe! {
    /// The file `configs/compare/fast_tts.toml`.
    FastTtsRecipe {
        command: "compare fast-tts",
        keys: "latentlm-compare/fast_tts" in key_table,
        parts: BTreeMap::from([(
            "speech",
            CodecTables::<CodecConfig, CodecLossConfig>::preset("tts/voice"),
        )]),
        seed: speech.seed,
        check: |recipe: &Self| check("speech.", &recipe.fast_tts, &recipe.speech),
        growing: &["fast_tts.samples"],
        choosing: &["fast_tts.seeds", "fast_tts.skip_seeds"],
    }
}

declare_recipe! {
    /// The file `configs/compare/fast_mllm.toml`.
    FastMllmRecipe {
        command: "compare fast-mllm",
        keys: "latentlm-compare/fast_mllm" in key_table,
        parts: codec_of("mllm", "mllm/twemoji"),
        seed: mllm.seed,
        check: |recipe: &Self| check("mllm.", &recipe.fast_mllm, &recipe.mllm),
        growing: &["fast_mllm.samples"],
        choosing: &["fast_mllm.seeds", "fast_mllm.skip_seeds"],
    }
}

/// Implements [`HasStudent`] for a recipe.
macro_rules! declare_student {
    (
        $recipe:ty {
            changes: $changes:expr,
            distilled_scale: $scale:literal,
            shown: $shown:expr,
            train: $train:path,
        }
    ) => {
        impl HasStudent for $recipe {
            const CHANGES: &'static [&'static str] = $changes;
            const DISTILLED_SCALE: f64 = $scale;
            const SHOWN: &'static [&'static str] = $shown;

            fn language_model(&self) -> &LmConfig {
                &self.lm
            }

            fn begins_from(&mut self) -> &mut String {
                &mut self.lm.from
            }

            fn drawing(&self) -> SampleOptions {
                self.sample_options()
            }

            fn train(self, codec: Option<&Path>, options: RunOptions) -> Result<RunEnd> {
                $train(self, codec, options)
            }
        }
    };
}

declare_student! {
    SpeechRecipe {
        changes: &[
            "data.curriculum_steps=0",
            "lm.process=flow",
            "lm.few_step=shortcut",
            "lm.shortcut_share=0.5",
            "lm.shortcut_divisions=32",
            "lm.distilled_guidance=scale",
            "sample.sampler=euler",
            "sample.steps=2",
        ],
        distilled_scale: 3.0,
        shown: &[
            "real_time_factor",
            "first_audio_ms",
            "digits_word_error_rate_model",
            "letters_word_error_rate_model",
            "dates_word_error_rate_model",
            "numbers_word_error_rate_model",
        ],
        train: train_speech_with,
    }
}

declare_student! {
    MllmRecipe {
        changes: &[
            "lm.process=flow",
            "lm.few_step=shortcut",
            "lm.shortcut_share=0.5",
            "lm.shortcut_divisions=32",
            "lm.distilled_guidance=scale",
            "lm_train.learning_rate=0.001",
            "sample.sampler=euler",
            "sample.steps=2",
        ],
        distilled_scale: 4.0,
        shown: &[
            "pictures_per_second",
            "asked_among_nearest",
            "neighbours_of_category",
            "neighbours_of_category_held_out",
            "exact_captions",
            "category_named_held_out",
        ],
        train: train_mllm_with,
    }
}

/// The numbers of an evaluation, without those that say how it was made.
fn measurements(evaluation: &impl Serialize) -> Values {
    let evaluation = serde_json::to_value(evaluation).unwrap_or_default();
    let entries = evaluation.as_object().into_iter().flatten();
    let numbers = entries.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
    numbers
        .filter(|(name, _)| !["seed", "guidance_scale", "solver_steps"].contains(&name.as_str()))
        .collect()
}

/// The data that a model is trained and measured on. Measurements of other data do not count.
///
/// # Errors
/// If they can't be read.
fn opened<R: Recipe, D>(
    recipe: &R,
    open: fn(&R) -> Result<D, PipelineError>,
    options: &RunOptions,
) -> Result<D> {
    let opened = reading("opening data", options.progress, || open(recipe));
    opened.map_err(|error| TrainError::from(error).within::<R>(&options.within))
}

/// Trains a voice and its fast student with every seed, or continues, and writes `fast-tts.json`, `fast-tts.md` and
/// `fast-tts.svg`. What was measured on the same data with the same judges is not measured again.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, a command that listens fails, or a file can't be written.
pub fn compare_fast_tts(
    recipe: FastTtsRecipe,
    judges: SpeechJudges,
    options: RunOptions,
) -> Result<RunEnd> {
    RunEnd::of(fast_tts(recipe, judges, options))
}

fn fast_tts(recipe: FastTtsRecipe, judges: SpeechJudges, options: RunOptions) -> Result<RunEnd> {
    let options = options.within("speech.");
    // Before the folder is made: a run that can't begin leaves nothing behind.
    check_memory_of_both(&recipe.fast_tts, &recipe.speech, &options)?;
    let (folder, fingerprints) = open_run_with(&recipe, &options, || {
        let data = opened(&recipe.speech, SpeechData::open, &options)?;
        Ok([data.fingerprint(), data.test.fingerprint()].join(" "))
    })?;
    let config = &recipe.fast_tts;
    let measure = |path: &Path, sample: SampleOptions| -> Result<Values> {
        let evaluate = EvaluateSpeechOptions {
            samples: config.samples,
            // The same texts and noise for all.
            seed: recipe.seed(),
            sample,
            weights: None,
            judges: judges.clone(),
            hard_texts: 0,
            held_out_voices: None,
            phase: phases(options.progress),
        };
        Ok(evaluate_speech(path, &evaluate, &options.device)?.values)
    };
    let students = Students {
        config,
        default: &recipe.speech,
        conditions: format!("{fingerprints} {}", config.samples),
        listeners: listeners(&judges),
        measure: &measure,
    };
    students.run(&folder.run, &recipe, "fast-tts", &options)
}

/// Trains a model of text and pictures and its fast student with every seed, or continues, and writes `fast-mllm.json`,
/// `fast-mllm.md` and `fast-mllm.svg`. What was measured on the same data is not measured again.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, or a file can't be written.
pub fn compare_fast_mllm(recipe: FastMllmRecipe, options: RunOptions) -> Result<RunEnd> {
    RunEnd::of(fast_mllm(recipe, options))
}

fn fast_mllm(recipe: FastMllmRecipe, options: RunOptions) -> Result<RunEnd> {
    let options = options.within("mllm.");
    check_memory_of_both(&recipe.fast_mllm, &recipe.mllm, &options)?;
    let (folder, fingerprints) = open_run_with(&recipe, &options, || {
        let data = opened(&recipe.mllm, MllmData::open, &options)?;
        Ok([data.fingerprint(), data.test.fingerprint()].join(" "))
    })?;
    let config = &recipe.fast_mllm;
    let measure = |path: &Path, sample: SampleOptions| -> Result<Values> {
        let evaluate = EvaluateOptions {
            samples: config.samples,
            seed: recipe.seed(),
            sample,
            weights: None,
            phase: phases(options.progress),
        };
        let measured = evaluate_mllm(path, &evaluate, &options.device)?;
        Ok(measurements(&measured))
    };
    let students = Students {
        config,
        default: &recipe.mllm,
        conditions: format!("{fingerprints} {}", config.samples),
        listeners: BTreeMap::new(),
        measure: &measure,
    };
    students.run(&folder.run, &recipe, "fast-mllm", &options)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::students::{Model, recipe};

    /// The student of a comparison is the recipe that ships.
    #[test]
    fn the_student_has_the_fast_recipe() {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
        let from = ["lm.from=default".to_owned()];
        let FastTtsRecipe { fast_tts, speech } = FastTtsRecipe::default();
        let own = recipe(&fast_tts, &speech, Model::Student, 0).unwrap();
        let file = configs.join("tts/fast-voice.toml");
        assert_eq!(own, SpeechRecipe::resolve(Some(&file), &from).unwrap());
        let FastMllmRecipe { fast_mllm, mllm } = FastMllmRecipe::default();
        let own = recipe(&fast_mllm, &mllm, Model::Student, 0).unwrap();
        let file = configs.join("mllm/fast-twemoji.toml");
        assert_eq!(own, MllmRecipe::resolve(Some(&file), &from).unwrap());
        let other = recipe(&fast_mllm, &mllm, Model::Default, 2).unwrap();
        assert_eq!(other.seed, mllm.seed + 2);
    }

    /// A student learns from what its teacher draws with, whatever that is.
    #[test]
    fn a_student_draws_as_its_teacher_is_asked_to() {
        let speech = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            FastTtsRecipe::resolve(None, &changes)
        };
        let changed = [
            "speech.sample.noise_temperature=0.8",
            "speech.sample.guidance_scale=3.5",
        ];
        let FastTtsRecipe {
            fast_tts,
            speech: own,
        } = speech(&changed).unwrap();
        let student = recipe(&fast_tts, &own, Model::Student, 0).unwrap();
        let method = student.lm.method;
        let learned = (method.distilled_scale, method.distilled_temperature);
        assert_eq!(learned, (3.5, 0.8));
        let drawn = student.sample_options();
        assert_eq!((drawn.guidance_scale, drawn.noise_temperature), learned);
        for (change, part) in [
            ("noise_temperature=0", "noise_temperature must be above 0"),
            ("guidance_scale=101", "guidance_scale must be at most 100"),
        ] {
            let told = speech(&[&format!("speech.sample.{change}")]).unwrap_err();
            let part = format!("speech.sample.{part}");
            assert!(told.to_string().contains(&part), "{told}");
        }
        let changed = ["mllm.sample.guidance_scale=5".to_owned()];
        let FastMllmRecipe { fast_mllm, mllm } = FastMllmRecipe::resolve(None, &changed).unwrap();
        let student = recipe(&fast_mllm, &mllm, Model::Student, 0).unwrap();
        assert_eq!(student.lm.method.distilled_scale, 5.0);
        assert_eq!(student.lm.method.distilled_temperature, 1.0);
    }

    #[test]
    fn settings_of_an_evaluation_are_no_measurements() {
        let evaluation = serde_json::json!({
            "samples": [4, 4], "seed": 1, "guidance_scale": 3.0, "solver_steps": 20, "weights": "f32",
            "exact_captions": 0.5, "text_perplexity": null, "pictures_per_second": 7,
        });
        let expected = [("exact_captions", 0.5), ("pictures_per_second", 7.0)];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(measurements(&evaluation), Values::from(expected));
    }

    /// Before anything is trained.
    #[test]
    fn teachers_that_can_not_teach_guidance_are_refused() {
        fn refuses<R: Recipe>(table: &str) {
            let told = |changes: &[&str]| {
                let changes = changes.iter().map(|change| format!("{table}.{change}"));
                let changes: Vec<String> = changes.collect();
                R::resolve(None, &changes).unwrap_err().to_string()
            };
            let key = format!("the default was trained with {table}.lm.condition_dropout=0");
            let message = told(&["lm.condition_dropout=0"]);
            assert!(message.contains(&key), "{message}");
            let energy = [
                "lm.process=flow",
                "lm.few_step=energy",
                "sample.sampler=euler",
                "sample.steps=1",
            ];
            let message = told(&energy);
            assert!(
                message.contains("the default draws in one step"),
                "{message}"
            );
        }
        refuses::<FastTtsRecipe>("speech");
        refuses::<FastMllmRecipe>("mllm");
    }
}
