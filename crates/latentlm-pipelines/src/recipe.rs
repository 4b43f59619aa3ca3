//! Shared code of all recipes: reading, checks, and the tables that each of them has. Every key stands in the
//! files under `configs`, with its meaning beside it.

use std::fmt::Debug;
use std::path::Path;

use burn::config::Config;
use latentlm::core::{DistilledGuidance, FallingSteps, HeadMethod, PartConfig, Precision, Sampler};
use latentlm::{LmSizes, SampleOptions, backbone, codec_image, diffusion};
use latentlm_keys::{Keys, RecipeError, Table};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};

use crate::drawing::refusal;
use crate::error::{PipelineError, Result};

/// A complete recipe. Its default is the preset that files and overrides are laid over (see
/// [`latentlm_keys`]). [`declare_recipe!`](crate::declare_recipe) implements it.
pub trait Recipe: Serialize + DeserializeOwned + Default + Clone + PartialEq + Debug {
    /// The command that trains it.
    const COMMAND: &'static str;

    /// Keys that may grow when a run goes on, besides the steps of stages: numbers that rise, and lists, which keep all
    /// that they have and their first entry in its place.
    const GROWING: &'static [&'static str] = &[];

    /// Keys that may change when a comparison goes on: they choose which of its models are made, and no model depends on
    /// them.
    const CHOOSING: &'static [&'static str] = &[];

    /// Its keys, with type, range and default.
    fn keys() -> &'static Keys;

    /// The one seed of all randomness.
    fn seed(&self) -> u64;

    /// Checks what concerns several keys; each by itself is checked already.
    ///
    /// # Errors
    /// With one line that names the first thing that is wrong.
    fn check_together(&self) -> Result<()>;

    /// Checks everything that can be checked without data.
    ///
    /// # Errors
    /// With one line that names the first thing that is wrong.
    fn validate(&self) -> Result<()> {
        latentlm_keys::check(self, Self::keys())?;
        self.check_together()
    }

    /// The recipe of a file with overrides, checked.
    ///
    /// # Errors
    /// If a key or value is wrong or the sizes do not fit each other.
    fn resolve(file: Option<&Path>, overrides: &[String]) -> Result<Self> {
        let recipe: Self = latentlm_keys::resolve(&Self::default(), Self::keys(), file, overrides)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// This recipe with overrides, checked.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    fn changed(&self, overrides: &[String]) -> Result<Self> {
        let recipe: Self = latentlm_keys::resolve(self, Self::keys(), None, overrides)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    ///
    /// # Errors
    /// Never for a recipe that was resolved.
    fn to_toml(&self) -> Result<String, RecipeError> {
        latentlm_keys::to_toml(self)
    }
}

/// The files of weights that the codec's loss of a recipe names, each with its key.
///
/// # Errors
/// If the recipe can't be written as TOML.
pub fn loss_weights<R: Recipe>(recipe: &R) -> Result<Vec<(String, String)>, RecipeError> {
    let table: Table = recipe.to_toml()?.parse().unwrap_or_default();
    let mut paths = R::keys().paths(&table);
    paths.retain(|(key, _)| key.contains("codec_loss."));
    Ok(paths)
}

/// Implements [`Recipe`] and `Default` for a recipe.
///
/// `keys` is the recipe's table of keys and the function that finds it and the tables that it includes by
/// name, `parts` the tables whose values come from the parts (see [`CodecTables`]), `seed` the field of the
/// seed, `check` a function for [`Recipe::check_together`]. `growing` and `choosing`, which may be left out, are the keys
/// of [`Recipe::GROWING`] and [`Recipe::CHOOSING`].
///
/// ```
/// use latentlm_pipelines::{PipelineError, Recipe, declare_recipe};
///
/// /// How fast something is.
/// #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
/// struct SpeedRecipe {
///     seed: u64,
///     rounds: usize,
/// }
///
/// impl SpeedRecipe {
///     fn check(&self) -> Result<(), PipelineError> {
///         Ok(())
///     }
/// }
///
/// fn table(name: &str) -> Option<&'static str> {
///     let text = r#"
///         seed = { type = "integer", default = 1, help = "Seed of the noise" }
///         rounds = { type = "integer", default = 3, min = 1, help = "Rounds that are timed" }
///     "#;
///     (name == "speed").then_some(text)
/// }
///
/// declare_recipe! {
///     /// Three rounds.
///     SpeedRecipe {
///         command: "speed",
///         keys: "speed" in table,
///         parts: std::collections::BTreeMap::<String, u64>::new(),
///         seed: seed,
///         check: SpeedRecipe::check,
///     }
/// }
///
/// assert_eq!(SpeedRecipe::default(), SpeedRecipe { seed: 1, rounds: 3 });
/// let wrong = SpeedRecipe::resolve(None, &["rounds=0".to_owned()]).unwrap_err();
/// assert!(wrong.to_string().contains("`rounds` must be"));
/// ```
#[macro_export]
macro_rules! declare_recipe {
    (
        $(#[$about:meta])*
        $recipe:ty {
            command: $command:literal,
            keys: $table:literal in $tables:path,
            parts: $parts:expr,
            seed: $($seed:ident).+,
            check: $check:expr,
            $(growing: $growing:expr,)?
            $(choosing: $choosing:expr,)?
        }
    ) => {
        impl Default for $recipe {
            $(#[$about])*
            fn default() -> Self {
                <Self as $crate::Recipe>::keys().preset(&$parts)
            }
        }

        impl $crate::Recipe for $recipe {
            const COMMAND: &'static str = $command;
            $(const GROWING: &'static [&'static str] = $growing;)?
            $(const CHOOSING: &'static [&'static str] = $choosing;)?

            fn keys() -> &'static $crate::Keys {
                static KEYS: ::std::sync::LazyLock<$crate::Keys> =
                    ::std::sync::LazyLock::new(|| $crate::recipe_keys($table, $tables));
                &KEYS
            }

            fn seed(&self) -> u64 {
                self.$($seed).+
            }

            fn check_together(&self) -> ::std::result::Result<(), $crate::PipelineError> {
                let check: fn(&Self) -> ::std::result::Result<(), $crate::PipelineError> = $check;
                check(self)
            }
        }
    };
}

/// A table of keys that this crate or a part of the model has, by the name that an `include` gives it.
pub fn key_table(name: &str) -> Option<&'static str> {
    let text = match name {
        "latentlm-codec-image" => codec_image::CodecConfig::keys(),
        #[cfg(feature = "speech")]
        "latentlm-codec-audio" => latentlm::codec_audio::CodecConfig::keys(),
        #[cfg(feature = "video")]
        "latentlm-codec-video" => latentlm::codec_video::CodecConfig::keys(),
        "latentlm-backbone" => backbone::KEYS.text(),
        "latentlm-diffusion" => diffusion::KEYS.text(),
        "latentlm-pipelines/image" => include_str!("../keys/image.toml"),
        "latentlm-pipelines/tts" => include_str!("../keys/tts.toml"),
        "latentlm-pipelines/mllm" => include_str!("../keys/mllm.toml"),
        "latentlm-pipelines/video" => include_str!("../keys/video.toml"),
        "latentlm-pipelines/lm" => include_str!("../keys/lm.toml"),
        "latentlm-pipelines/pictures" => include_str!("../keys/pictures.toml"),
        "latentlm-pipelines/solver" => include_str!("../keys/solver.toml"),
        "latentlm-pipelines/stage" => include_str!("../keys/stage.toml"),
        _ => "",
    };
    // A part may declare no keys.
    Some(text).filter(|text| !text.is_empty())
}

/// The keys of a recipe: of its table and of all that this includes.
///
/// # Panics
/// If a table is wrong. That is a mistake of the table's author, not of the user.
pub fn recipe_keys(table: &str, tables: fn(&str) -> Option<&'static str>) -> Keys {
    let keys = Keys::assemble(table, &|name| Ok(tables(name).map(str::to_owned)));
    keys.unwrap_or_else(|error| panic!("{error}"))
}

/// The tables of a recipe whose values come from the codec's crate.
#[derive(Debug, Serialize)]
pub struct CodecTables<C, L> {
    /// The codec.
    pub codec: C,
    /// The codec's loss.
    pub codec_loss: L,
}

impl<C: PartConfig, L: PartConfig> CodecTables<C, L> {
    /// The values that a shipped recipe begins with.
    pub fn preset(recipe: &str) -> Self {
        Self {
            codec: C::preset(recipe),
            codec_loss: L::preset(recipe),
        }
    }
}

/// Keys of the language model that do not follow from data or codec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LmConfig {
    /// Sizes of backbone and head.
    #[serde(flatten, deserialize_with = "read_sizes")]
    pub sizes: LmSizes,
    /// How the head is trained. Older checkpoints lack it and have the paper's diffusion.
    #[serde(flatten)]
    pub method: HeadMethod,
    /// Samples of noise and timestep per latent and step (`ddpm_batch_mul`).
    pub batch_mul: usize,
    /// Precision of training.
    pub precision: Precision,
    /// The folder of a finished run that training begins from; empty for none. Older checkpoints lack it.
    #[serde(default)]
    pub from: String,
    /// Share of labels or texts that are dropped, for guidance.
    pub condition_dropout: f64,
    /// Standard deviation of the noise in whitened latents that the backbone reads in training. Older
    /// checkpoints lack it.
    #[serde(default)]
    pub history_noise: f64,
}

/// Sizes of a recipe. Older checkpoints lack `recompute`, which then is false.
fn read_sizes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LmSizes, D::Error> {
    let mut table = serde_json::Map::<String, serde_json::Value>::deserialize(deserializer)?;
    table.entry("recompute").or_insert(false.into());
    serde_json::from_value(table.into()).map_err(D::Error::custom)
}

/// Refuses a recipe if something is wrong in it; the reason names the key.
pub(crate) fn refuse_if(wrong: bool, reason: &str) -> Result<()> {
    if wrong {
        return Err(PipelineError::config(reason));
    }
    Ok(())
}

/// How a stage is trained.
#[derive(Config, Debug, PartialEq)]
pub struct StageConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Samples per forward pass.
    pub batch_size: usize,
    /// Forward passes per optimizer step.
    pub grad_accumulation: usize,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// First moment's decay.
    pub beta_1: f64,
    /// Second moment's decay.
    pub beta_2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Learning rate at the end of the cosine, as a share of the peak.
    pub final_lr_ratio: f64,
    /// Global norm that gradients are clipped to; 0 switches clipping off.
    pub clip_norm: f64,
    /// Largest decay of the moving average of the weights.
    pub ema_decay: f64,
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between samples.
    pub sample_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

impl StageConfig {
    /// Checks that a batch is one pack of documents; `positions` is the key that says how long a pack is.
    ///
    /// # Errors
    /// If the batch size is not 1.
    pub fn check_packs(&self, positions: &str) -> Result<()> {
        let reason = format!("lm_train.batch_size must be 1: {positions} says how long a pack is");
        refuse_if(self.batch_size != 1, &reason)
    }
}

/// How latents are drawn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleConfig<O> {
    /// The solver.
    pub sampler: Sampler,
    /// Solver steps per latent.
    pub steps: usize,
    /// How steps fall along a run of latents. Checkpoints of older versions lack it.
    #[serde(flatten)]
    pub falling: FallingSteps,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
    /// Keys that the recipes of one modality have.
    #[serde(flatten)]
    pub own: O,
}

impl<O> SampleConfig<O> {
    /// The options that latents are drawn with.
    pub fn options(&self) -> SampleOptions {
        SampleOptions {
            sampler: self.sampler,
            steps: self.steps,
            falling: self.falling,
            guidance_scale: self.guidance_scale,
            ..SampleOptions::default()
        }
    }

    /// These options with another scale of the noise.
    pub fn options_at(&self, noise_temperature: f64) -> SampleOptions {
        SampleOptions {
            noise_temperature,
            ..self.options()
        }
    }
}

impl LmConfig {
    /// Checks what concerns several keys, except what the model's own configuration checks.
    ///
    /// # Errors
    /// If latents are drawn in more steps than there are timesteps or in a way that the head was not trained for, or
    /// guidance is to be learned from nobody.
    pub fn check_together(&self, options: &SampleOptions) -> Result<()> {
        refuse_if(
            !(1..self.sizes.num_train_timesteps).contains(&options.steps),
            "sample.steps must be positive and below lm.num_train_timesteps",
        )?;
        refuse_if(
            self.method.distilled_guidance != DistilledGuidance::None && self.from.is_empty(),
            "lm.distilled_guidance learns from a teacher: name a finished run with --from or lm.from",
        )?;
        self.check_method(options)
    }

    /// Checks the temperature that guidance is learned at in a recipe with some keys.
    ///
    /// # Errors
    /// If it is not 1, and the recipe has no key to draw at another one.
    pub(crate) fn check_temperature(&self, keys: &Keys) -> Result<()> {
        let learned = self.method.distilled_temperature;
        let is_taught = self.method.distilled_guidance != DistilledGuidance::None;
        let reason = format!(
            "lm.distilled_temperature must be 1, not {learned}: this recipe has no key to draw at another one"
        );
        let is_free = keys.get("sample.noise_temperature").is_some();
        refuse_if(is_taught && !is_free && learned != 1.0, &reason)
    }

    /// Checks that latents are drawn as the head was trained for.
    fn check_method(&self, options: &SampleOptions) -> Result<()> {
        match refusal(&self.method, options) {
            Some(reason) => Err(PipelineError::config(reason)),
            None => Ok(()),
        }
    }

    /// Checks the user's sampling options.
    ///
    /// # Errors
    /// If there are more steps than timesteps or none, guidance or temperature is not finite, or the head was not trained
    /// to be drawn from in this way.
    pub(crate) fn check_options(&self, options: &SampleOptions) -> Result<()> {
        let (steps, timesteps) = (options.steps, self.sizes.num_train_timesteps);
        let (guidance, temperature) = (options.guidance_scale, options.noise_temperature);
        if (1..timesteps).contains(&steps) && guidance.is_finite() && temperature.is_finite() {
            return self.check_method(options);
        }
        Err(PipelineError::config(format!(
            "solver steps must be in 1..{timesteps}, not {steps}, guidance a number, not {guidance}, \
             and so the noise's temperature, not {temperature}"
        )))
    }
}

#[cfg(all(test, any(feature = "mllm", feature = "speech")))]
pub(crate) use self::tests::read_without;

#[cfg(test)]
mod tests {
    use latentlm::core::Process;

    use super::*;
    use crate::image::ImageRecipe;

    /// A recipe as it is read from a checkpoint that lacks some keys, each named with its table.
    #[cfg(any(feature = "mllm", feature = "speech"))]
    pub(crate) fn read_without<R: Recipe>(recipe: &R, lacked: &[(&str, &str)]) -> R {
        let mut old = serde_json::to_value(recipe).unwrap();
        for (table, key) in lacked {
            let table = old[*table].as_object_mut().unwrap();
            assert!(table.remove(*key).is_some(), "{key}");
        }
        serde_json::from_value(old).unwrap()
    }

    #[test]
    fn options_that_no_solver_can_follow_are_refused() {
        let lm = ImageRecipe::default().lm;
        let most = lm.sizes.num_train_timesteps - 1;
        let fine = SampleOptions::default();
        for steps in [1, most] {
            lm.check_options(&SampleOptions { steps, ..fine }).unwrap();
        }
        let (guidance_scale, noise_temperature) = (f64::NAN, f64::INFINITY);
        for (wrong, part) in [
            (SampleOptions { steps: 0, ..fine }, "not 0"),
            (
                SampleOptions {
                    steps: most + 1,
                    ..fine
                },
                "not 1000",
            ),
            (
                SampleOptions {
                    guidance_scale,
                    ..fine
                },
                "not NaN",
            ),
            (
                SampleOptions {
                    noise_temperature,
                    ..fine
                },
                "not inf",
            ),
        ] {
            let message = lm.check_options(&wrong).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_default_method_is_the_tables() {
        assert_eq!(ImageRecipe::default().lm.method, HeadMethod::default());
        assert_eq!(
            ImageRecipe::default().sample.falling,
            FallingSteps::default()
        );
    }

    /// What is refused of a recipe, and what of the arguments of a command.
    #[test]
    fn methods_and_samplers_that_do_not_fit_are_refused_by_name() {
        let refused = |changes: &str| {
            let changes: Vec<String> = changes.split(' ').map(str::to_owned).collect();
            let recipe = ImageRecipe::resolve(None, &changes);
            recipe.map_or_else(|error| error.to_string(), |_| "nothing".into())
        };
        let euler = "lm.process=flow sample.sampler=euler";
        for (changes, part) in [
            (euler, "nothing"),
            (
                "lm.process=flow sample.sampler=heun sample.steps_last=4",
                "nothing",
            ),
            ("sample.steps_last=4 sample.steps_over=8", "nothing"),
            ("lm.process=flow", "sample.sampler must be \"euler\", "),
            ("sample.sampler=heun", "sample.sampler must be \"dpm"),
            ("lm.few_step=shortcut", "lm.few_step other than"),
            (
                "lm.process=flow lm.few_step=energy sample.sampler=heun sample.steps=2",
                "sample.sampler must be \"euler\" with lm.few_step = \"energy\"",
            ),
            (
                "lm.process=flow sample.sampler=heun sample.steps=5",
                "multiples of that, not 5",
            ),
            (
                "lm.process=flow sample.sampler=midpoint sample.steps_last=3",
                "multiples of that, not 3",
            ),
            ("sample.steps_over=3", "goes with sample.steps_last"),
            (
                "sample.steps_last=2 sample.steps_over=1",
                "sample.steps_over must be 2 or more",
            ),
            ("sample.steps_last=20", "nothing"),
            ("sample.steps_last=21", "21 is more than 20"),
            (
                "lm.distilled_guidance=fixed",
                "name a finished run with --from",
            ),
            (
                "lm.distilled_guidance=fixed lm.from=runs/mnist",
                "leave --guidance out; sample.guidance_scale must be 4",
            ),
        ] {
            let message = refused(changes);
            assert!(message.contains(part), "{changes}: {message}");
        }
        for (changes, part) in [
            ("lm.few_step=shortcut sample.steps=4", "nothing"),
            ("lm.few_step=energy sample.steps=1", "nothing"),
            ("lm.few_step=shortcut sample.steps=3", "not 3"),
            ("lm.few_step=shortcut sample.steps=256", "not 256"),
            ("lm.few_step=energy sample.steps=2", "must be 1, not 2"),
            (
                "lm.few_step=shortcut sample.steps=4 sample.steps_last=2",
                "sample.steps_last must be 0",
            ),
        ] {
            let message = refused(&format!("{euler} {changes}"));
            assert!(message.contains(part), "{changes}: {message}");
        }
    }

    #[test]
    fn students_refuse_scales_that_they_did_not_learn() {
        let mut lm = ImageRecipe::default().lm;
        lm.method.distilled_scale = 3.0;
        let told = |lm: &LmConfig, guidance_scale| {
            let options = SampleOptions {
                guidance_scale,
                ..SampleOptions::default()
            };
            let checked = lm.check_options(&options);
            checked.map_or_else(|error| error.to_string(), |()| "nothing".into())
        };
        lm.method.distilled_guidance = DistilledGuidance::Fixed;
        assert_eq!(told(&lm, 3.0), "nothing");
        for scale in [1.0, 2.0] {
            assert!(told(&lm, scale).contains("leave --guidance out"), "{scale}");
        }
        lm.method.distilled_guidance = DistilledGuidance::Scale;
        for scale in [1.0, 2.5, 3.0] {
            assert_eq!(told(&lm, scale), "nothing");
        }
        assert!(told(&lm, 3.5).contains("scales from 1 to 3"));
    }

    #[test]
    fn students_refuse_temperatures_that_they_did_not_learn() {
        let mut lm = ImageRecipe::default().lm;
        lm.method.distilled_temperature = 0.6;
        let told = |lm: &LmConfig, noise_temperature| {
            let options = SampleOptions {
                noise_temperature,
                ..SampleOptions::default()
            };
            let checked = lm.check_options(&options);
            checked.map_or_else(|error| error.to_string(), |()| "nothing".into())
        };
        assert_eq!(told(&lm, 1.0), "nothing", "without a teacher");
        lm.method.distilled_guidance = DistilledGuidance::Scale;
        assert_eq!(told(&lm, 0.6), "nothing");
        for temperature in [0.5, 1.0] {
            let told = told(&lm, temperature);
            assert!(
                told.contains("sample.noise_temperature must be 0.6"),
                "{told}"
            );
        }
        lm.method.distilled_temperature = 1.0;
        assert_eq!(told(&lm, 0.5), "nothing");
    }

    /// Recipes of pictures have no key of the temperature that latents are drawn at.
    #[test]
    fn recipes_that_draw_at_one_temperature_learn_at_it() {
        let told = |guidance: &str, temperature: &str| {
            let changes = [
                "lm.from=runs/mnist".to_owned(),
                format!("lm.distilled_guidance={guidance}"),
                format!("lm.distilled_temperature={temperature}"),
            ];
            let recipe = ImageRecipe::resolve(None, &changes);
            recipe.map_or_else(|error| error.to_string(), |_| "nothing".into())
        };
        assert_eq!(told("scale", "1.0"), "nothing");
        assert_eq!(told("none", "0.6"), "nothing");
        let message = told("scale", "0.6");
        let part = "lm.distilled_temperature must be 1, not 0.6";
        assert!(message.contains(part), "{message}");
        assert!(!message.contains("noise_temperature"), "{message}");
    }

    /// Checkpoints of before there were other methods, and one of them.
    #[test]
    fn methods_survive_a_manifest() {
        let mut lm = ImageRecipe::default().lm;
        let mut older = serde_json::to_value(&lm).unwrap();
        for key in ["process", "times", "few_step", "distilled_guidance"] {
            assert!(
                older.as_object_mut().unwrap().remove(key).is_some(),
                "{key}"
            );
        }
        let read: LmConfig = serde_json::from_value(older).unwrap();
        assert_eq!(read, lm);
        lm.method.process = Process::Flow;
        lm.method.time_mean = 0.3;
        lm.method.shortcut_divisions = 64;
        let again = serde_json::to_value(&lm).unwrap();
        assert_eq!(serde_json::from_value::<LmConfig>(again).unwrap(), lm);
    }

    #[test]
    fn checkpoints_without_newer_keys_load() {
        let mut lm = ImageRecipe::default().lm;
        lm.sizes.recompute = true;
        let mut older = serde_json::to_value(&lm).unwrap();
        for key in ["recompute", "history_noise", "from"] {
            older.as_object_mut().unwrap().remove(key).unwrap();
        }
        let read: LmConfig = serde_json::from_value(older).unwrap();
        lm.sizes.recompute = false;
        assert_eq!(read, lm);
    }
}
