//! Comparisons of the default voice and the default emoji with their fast students.

use std::collections::BTreeMap;
use std::path::Path;

use burn::config::Config;
use latentlm::SampleOptions;
use latentlm::codec_audio::{CodecConfig, CodecLossConfig};
use latentlm_eval::{
    EvaluateOptions, EvaluateSpeechOptions, SpeechJudges, evaluate_mllm, evaluate_speech,
};
use latentlm_pipelines::{CodecTables, MllmRecipe, Recipe, SpeechRecipe, declare_recipe};
use latentlm_train::{
    Result, RunEnd, RunOptions, check_memory, phases, train_mllm_with, train_speech_with,
};

use super::recipe::{codec_of, key_table};
use super::students::{HasStudent, Students, StudentsConfig, Values, check};

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
        check: |recipe: &Self| check(&recipe.fast_tts, &recipe.speech),
    }
}

declare_recipe! {
    /// The file `configs/compare/fast_mllm.toml`.
    FastMllmRecipe {
        command: "compare fast-mllm",
        keys: "latentlm-compare/fast_mllm" in key_table,
        parts: codec_of("mllm", "mllm/twemoji"),
        seed: mllm.seed,
        check: |recipe: &Self| check(&recipe.fast_mllm, &recipe.mllm),
    }
}

impl HasStudent for SpeechRecipe {
    const CHANGES: &'static [&'static str] = &[
        "data.curriculum_steps=0",
        "lm.process=flow",
        "lm.few_step=shortcut",
        "lm.shortcut_share=0.5",
        "lm.shortcut_divisions=32",
        "lm.distilled_guidance=scale",
        "lm.distilled_scale=3.0",
        "lm.distilled_temperature=0.6",
        "sample.sampler=euler",
        "sample.steps=2",
    ];
    const SHOWN: &'static [&'static str] = &[
        "real_time_factor",
        "first_audio_ms",
        "digits_word_error_rate_model",
        "letters_word_error_rate_model",
        "dates_word_error_rate_model",
        "numbers_word_error_rate_model",
    ];

    fn begins_from(&mut self) -> &mut String {
        &mut self.lm.from
    }

    fn drawing(&self) -> SampleOptions {
        self.sample_options()
    }

    fn train(self, codec: Option<&Path>, options: RunOptions) -> Result<RunEnd> {
        train_speech_with(self, codec, options)
    }
}

impl HasStudent for MllmRecipe {
    const CHANGES: &'static [&'static str] = &[
        "lm.process=flow",
        "lm.few_step=shortcut",
        "lm.shortcut_share=0.5",
        "lm.shortcut_divisions=32",
        "lm.distilled_guidance=scale",
        "lm.distilled_scale=4.0",
        "lm_train.learning_rate=0.001",
        "sample.sampler=euler",
        "sample.steps=2",
    ];
    const SHOWN: &'static [&'static str] = &[
        "pictures_per_second",
        "asked_among_nearest",
        "neighbours_of_category",
        "neighbours_of_category_held_out",
        "exact_captions",
        "category_named_held_out",
    ];

    fn begins_from(&mut self) -> &mut String {
        &mut self.lm.from
    }

    fn drawing(&self) -> SampleOptions {
        self.sample_options()
    }

    fn train(self, codec: Option<&Path>, options: RunOptions) -> Result<RunEnd> {
        train_mllm_with(self, codec, options)
    }
}

/// Trains a voice and its fast student with every seed, or continues, and writes `fast-tts.json`, `fast-tts.md` and
/// `fast-tts.svg`. What was measured with the same judges is not measured again.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, a command that listens fails, or a file can't be written.
pub fn compare_fast_tts(
    recipe: FastTtsRecipe,
    judges: SpeechJudges,
    options: RunOptions,
) -> Result<RunEnd> {
    let options = options.within("speech.");
    // Before the folder is made: a run that can't begin leaves nothing behind.
    check_memory(&recipe.speech, 1, &options)?;
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
        conditions: format!("{} {judges:?}", config.samples),
        measure: &measure,
    };
    students.run(&recipe, "fast-tts", &options)
}

/// Trains a model of text and pictures and its fast student with every seed, or continues, and writes `fast-mllm.json`,
/// `fast-mllm.md` and `fast-mllm.svg`. What was measured is not measured again.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, or a file can't be written.
pub fn compare_fast_mllm(recipe: FastMllmRecipe, options: RunOptions) -> Result<RunEnd> {
    let options = options.within("mllm.");
    check_memory(&recipe.mllm, 1, &options)?;
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
        let measured = serde_json::to_value(&measured).unwrap_or_default();
        let entries = measured.as_object().into_iter().flatten();
        let numbers = entries.filter_map(|(name, value)| Some((name.clone(), value.as_f64()?)));
        Ok(numbers.filter(|(name, _)| name != "seed").collect())
    };
    let students = Students {
        config,
        default: &recipe.mllm,
        conditions: config.samples.to_string(),
        measure: &measure,
    };
    students.run(&recipe, "fast-mllm", &options)
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
}
