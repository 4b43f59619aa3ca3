//! Variants of an image recipe, each trained with several seeds and measured on pictures.

use std::ops::Range;
use std::path::{Path, absolute};
use std::time::Instant;

use burn::config::Config;
use latentlm::core::bundle::io_error;
use latentlm_eval::{ComparedSoFar, EvaluateOptions, ImageEvaluation, Judges, evaluate_image_by};
use latentlm_pipelines::{ImageRecipe, PipelineError, Recipe, checked_within};
use latentlm_train::{
    EncodedPictures, Result, RunEnd, RunOptions, encode, phases, stoppable, take_codec,
    train_image, train_image_lm, wrong_teacher,
};

#[cfg(test)]
pub(crate) use self::tests::{check_list, measured};
use super::begin::begin;
use super::recipe::seed_at;
use super::result::{JUDGE, end, report, rough, table, write_result};
use super::stored::{store, stored};
use super::variant::Variant;
use super::variant_result::{VariantResult, VariantRun, columns};

/// The folder of the run whose codec all variants share, where they share one.
const CODEC: &str = "codec";

/// Which variants are compared, and how often each is trained.
#[derive(Config, Debug, PartialEq)]
pub struct VariantsConfig {
    /// Training seeds of each variant: the recipe's seed and those after it.
    pub seeds: u64,
    /// Training seeds before these, which are left to another run of the comparison.
    pub skip_seeds: u64,
    /// Pictures drawn for each measurement.
    pub samples: usize,
    /// Names of the variants, with commas between them; all if it is empty.
    pub variants: String,
}

impl VariantsConfig {
    /// Places of the training seeds: a place is added to the recipe's seed.
    fn places(&self) -> Range<u64> {
        self.skip_seeds..self.skip_seeds + self.seeds
    }
}

/// Declares the recipe of a comparison: the table of its variants, and the recipe that they are variants of.
macro_rules! declare_variants {
    (
        $(#[$about:meta])*
        $recipe:ident {
            name: $name:ident,
            command: $command:literal,
            keys: $table:literal,
            all: $all:expr,
            one_codec: $one_codec:expr,
        }
    ) => {
        $(#[$about])*
        #[derive(::burn::config::Config, Debug, PartialEq)]
        pub struct $recipe {
            /// The variants.
            pub $name: $crate::variants::VariantsConfig,
            /// The recipe that they are variants of.
            pub image: ::latentlm_pipelines::ImageRecipe,
        }

        ::latentlm_pipelines::declare_recipe! {
            /// The file of the comparison in `configs/compare`.
            $recipe {
                command: $command,
                keys: $table in $crate::recipe::key_table,
                parts: $crate::recipe::codec_of("image", "image/mnist"),
                seed: image.seed,
                check: |recipe: &Self| recipe.variants().check(),
                growing: &[concat!(stringify!($name), ".samples")],
                choosing: &[
                    concat!(stringify!($name), ".seeds"),
                    concat!(stringify!($name), ".skip_seeds"),
                    concat!(stringify!($name), ".variants"),
                ],
            }
        }

        impl $recipe {
            fn variants(&self) -> $crate::variants::Variants<'_> {
                $crate::variants::Variants {
                    name: stringify!($name),
                    all: $all,
                    config: &self.$name,
                    image: &self.image,
                    one_codec: $one_codec,
                }
            }
        }
    };
}
pub(crate) use declare_variants;

/// The variants of a comparison.
pub(crate) struct Variants<'a> {
    /// Name of its files of results, and of its table in the recipe.
    pub(crate) name: &'static str,
    /// All known variants, the default first.
    pub(crate) all: &'static [Variant],
    /// Which variants are compared, and how often each is trained.
    pub(crate) config: &'a VariantsConfig,
    /// The recipe that they are variants of.
    pub(crate) image: &'a ImageRecipe,
    /// Whether all variants have one codec. Otherwise each has its own.
    pub(crate) one_codec: bool,
}

impl Variants<'_> {
    /// Checks the names and the recipes of all chosen variants.
    ///
    /// # Errors
    /// If a name is unknown, overrides do not fit the recipe, or a variant can't begin from its teacher.
    pub(crate) fn check(&self) -> Result<(), PipelineError> {
        checked_within::<ImageRecipe, _>("image.", self.image.check_together())?;
        for variant in self.chosen()? {
            let student = checked_within::<ImageRecipe, _>("image.", self.recipe(variant, 0))?;
            let Some(named) = self.teacher_of(variant) else {
                continue;
            };
            let teacher = checked_within::<ImageRecipe, _>("image.", self.recipe(named, 0))?;
            // The student's training would refuse it only after the teacher's.
            if let Some(reason) = wrong_teacher(&student.lm, &teacher.lm) {
                let wrong = PipelineError::config(format!("the variant {} {reason}", named.name));
                return checked_within::<ImageRecipe, _>("image.", Err(wrong));
            }
        }
        Ok(())
    }

    /// The variants to compare, in the order of the list.
    fn chosen(&self) -> Result<Vec<&'static Variant>, PipelineError> {
        let names = self.config.variants.split(',').map(str::trim);
        let names: Vec<&str> = names.filter(|name| !name.is_empty()).collect();
        if self.config.variants.is_empty() {
            return Ok(self.all.iter().collect());
        }
        if names.is_empty() {
            let reason = format!(
                "{}.variants names none: leave it empty for all of them",
                self.name
            );
            return Err(PipelineError::config(reason));
        }
        for name in &names {
            if !self.all.iter().any(|variant| variant.name == *name) {
                let known: Vec<&str> = self.all.iter().map(|own| own.name).collect();
                let name: String = name
                    .chars()
                    .take(40)
                    .flat_map(char::escape_default)
                    .collect();
                return Err(PipelineError::config(format!(
                    "{}.variants has no `{name}`; there are {}",
                    self.name,
                    known.join(", ")
                )));
            }
        }
        let chosen = self.all.iter();
        Ok(chosen.filter(|own| names.contains(&own.name)).collect())
    }

    /// The recipe of a variant with the seed of a place.
    fn recipe(&self, variant: &Variant, place: u64) -> Result<ImageRecipe, PipelineError> {
        let changes: Vec<String> = variant.changes().map(str::to_owned).collect();
        let mut recipe = self.image.changed(&changes)?;
        recipe.seed = seed_at(recipe.seed, place);
        Ok(recipe)
    }

    /// The first variant that is trained in the same way: both differ in sampling alone. Its recipe is the one that
    /// they are trained with.
    fn trained_as(&self, variant: &'static Variant) -> &'static Variant {
        let mut variants = self.all.iter();
        let first = variants.find(|other| other.training().eq(variant.training()));
        first.unwrap_or(variant)
    }

    /// The variant that another begins from, if it begins from one.
    fn teacher_of(&self, variant: &Variant) -> Option<&'static Variant> {
        let name = variant.teacher()?;
        self.all.iter().find(|other| other.name == name)
    }

    /// The recipes of all trainings with the first seed, those of variants that others begin from too.
    fn trainings(&self) -> Result<Vec<ImageRecipe>, PipelineError> {
        let mut recipes = Vec::new();
        for variant in self.chosen()? {
            let mut next = Some(variant);
            while let Some(own) = next {
                let recipe = self.recipe(self.trained_as(own), 0)?;
                if !recipes.contains(&recipe) {
                    recipes.push(recipe);
                }
                next = self.teacher_of(own);
            }
        }
        Ok(recipes)
    }

    /// Options of the run that a variant is trained in with the seed of a place.
    fn run_of(
        &self,
        variant: &'static Variant,
        place: u64,
        options: &RunOptions,
    ) -> Result<RunOptions> {
        let first = self.trained_as(variant);
        let seed = self.recipe(first, place)?.seed;
        Ok(options.part(&format!("{}-{seed}", first.name)))
    }

    /// The recipe of a variant, which begins from the run of its teacher in the run's folder, if it has a teacher.
    fn begun(&self, variant: &Variant, place: u64, options: &RunOptions) -> Result<ImageRecipe> {
        let mut recipe = self.recipe(variant, place)?;
        if let Some(teacher) = self.teacher_of(variant) {
            let path = self.run_of(teacher, place, options)?.path;
            // A run that goes on may be started in another folder.
            let path = absolute(&path).map_err(io_error("find", &path))?;
            recipe.lm.from = path.to_string_lossy().into_owned();
        }
        Ok(recipe)
    }

    /// Trains and measures all chosen variants, or continues, each an image run within the run's folder, and
    /// writes a table and a figure. `recipe` is the recipe of the comparison.
    ///
    /// # Errors
    /// If the folder, recipe or data are wrong, a loss is not finite, or a file can't be written.
    pub(crate) fn run<R: Recipe>(
        &self,
        recipe: &R,
        options: RunOptions,
        figure: fn(&[VariantResult]) -> String,
    ) -> Result<RunEnd> {
        let started = Instant::now();
        let (folder, options) = begin(recipe, &self.trainings()?, options)?;
        let mut encoded = None;
        if self.one_codec {
            encoded = encode(self.image.clone(), options.part(CODEC), None)?;
            if encoded.is_none() {
                return Ok(RunEnd::Stopped);
            }
        }
        let mut results = Vec::new();
        for variant in self.chosen()? {
            let mut runs = Vec::new();
            for place in self.config.places() {
                let run = self.train_and_measure(variant, place, encoded.as_ref(), &options)?;
                let Some(run) = run else {
                    return Ok(RunEnd::Stopped);
                };
                runs.push(run);
            }
            results.push(VariantResult {
                name: variant.name.into(),
                changes: variant.changes().map(str::to_owned).collect(),
                head_evaluations: head_evaluations(&self.recipe(variant, 0)?),
                runs,
            });
            let (table, drawn) = (self.table(&results), figure(&results));
            let found = ComparedSoFar {
                table: &table,
                figure: &drawn,
                stages: &[],
            };
            report(&folder.run, recipe, &found, options.progress);
            // After each variant: a comparison that is stopped or killed has the table of those before.
            write_result(&folder.run, self.name, &results, table, drawn)?;
        }
        Ok(end(&folder.run, self.name, started))
    }

    /// Trains a variant with the seed of a place, or continues; before it the variant that it begins from. Returns
    /// whether it is finished.
    fn train(
        &self,
        variant: &'static Variant,
        place: u64,
        encoded: Option<&EncodedPictures>,
        options: &RunOptions,
    ) -> Result<bool> {
        if let Some(teacher) = self.teacher_of(variant)
            && !self.train(teacher, place, encoded, options)?
        {
            return Ok(false);
        }
        let recipe = self.begun(self.trained_as(variant), place, options)?;
        let part = self.run_of(variant, place, options)?;
        let finished = match encoded {
            Some(encoded) => train_image_lm(recipe, encoded, part)?,
            None => train_image(recipe, part)? != RunEnd::Stopped,
        };
        self.share_codec(variant, place, options)?;
        Ok(finished && !options.interrupter.should_stop())
    }

    /// Gives the run that a variant is trained in the codec that all share, so that it is a whole run to other commands.
    /// Runs of older versions lack it until their comparison goes on.
    fn share_codec(
        &self,
        variant: &'static Variant,
        place: u64,
        options: &RunOptions,
    ) -> Result<()> {
        let part = self.run_of(variant, place, options)?;
        // A user may have removed a run that is measured, and one may have been stopped before it began to learn.
        if self.one_codec && part.resume && part.path.join("checkpoints").is_dir() {
            take_codec(&part.path, &options.path.join(CODEC))?;
        }
        Ok(())
    }

    /// Trains a variant with the seed of a place, or continues, and measures it. `None` if it was stopped.
    fn train_and_measure(
        &self,
        variant: &'static Variant,
        place: u64,
        encoded: Option<&EncodedPictures>,
        options: &RunOptions,
    ) -> Result<Option<VariantRun>> {
        let recipe = self.begun(variant, place, options)?;
        let (training_seed, samples) = (recipe.seed, self.config.samples);
        // With the name of the variant that it begins from, and not the folder, which may move.
        let compared = self.recipe(variant, place)?;
        let name = format!("{}-{training_seed}.json", variant.name);
        let file = options.path.join(name);
        let known = stored::<ImageEvaluation, _>(&file, &compared);
        if let Some(evaluation) = known.filter(|own| own.samples >= samples) {
            self.share_codec(variant, place, options)?;
            return Ok(Some(VariantRun {
                training_seed,
                evaluation,
            }));
        }
        if !self.train(variant, place, encoded, options)? {
            return Ok(None);
        }
        let path = self.run_of(variant, place, options)?.path;
        let evaluate = EvaluateOptions {
            samples,
            // The same noise for all.
            seed: self.image.seed,
            sample: recipe.sample_options(),
            weights: None,
            phase: phases(options.progress),
        };
        let evaluation = measure(&path, &evaluate, options)?;
        store(&file, &compared, &evaluation)?;
        if options.interrupter.should_stop() {
            return Ok(None);
        }
        Ok(Some(VariantRun {
            training_seed,
            evaluation,
        }))
    }

    /// Means over training seeds, a row for each variant.
    fn table(&self, results: &[VariantResult]) -> String {
        let rows = results
            .iter()
            .map(|own| (vec![own.name.clone(), own.changes.join(" ")], own));
        let text = table(&["variant", "changes"], &columns(), rows);
        let first = results.first().and_then(|own| own.runs.first());
        let first = first.map(|run| &run.evaluation);
        let real = first.map_or(f64::NAN, |own| own.frechet_distance_of_real);
        let (seeds, samples) = (self.config.seeds, self.config.samples);
        let means = format!(
            "{text}\nMeans over {seeds} training seeds, {samples} pictures each. Frechet distance of real \
             pictures: {real:.2}.\n"
        );
        // Gives the same before and after measurements were written to files and read: these lack the number of
        // held-out pictures.
        means + &rough(samples, 0)
    }
}

/// Measures a finished run of pictures. All runs of a comparison, whose options these are, have the same judge.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, a file can't be written, or a stop came.
pub(crate) fn measure(
    run: &Path,
    evaluate: &EvaluateOptions,
    options: &RunOptions,
) -> Result<ImageEvaluation> {
    let judge = options.path.join(JUDGE);
    let judges = Judges {
        folder: Some(&judge),
        command: None,
    };
    stoppable(options, || {
        evaluate_image_by(run, evaluate, &judges, &options.device)
    })
}

/// Evaluations of the head for a latent, on average over a picture's latents. Solvers that evaluate it twice in an
/// interval count both as steps.
fn head_evaluations(recipe: &ImageRecipe) -> f64 {
    let (options, tokens) = (recipe.sample_options(), recipe.tokens());
    let steps = (0..tokens).map(|latent| options.of_latent(latent, tokens).steps);
    steps.sum::<usize>() as f64 / tokens as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use burn::tensor::Device;
    use latentlm_eval::{CommandVerdict, MeasuredWeights, Reconstruction, Verdict};
    use latentlm_train::{Interrupter, ProgressMode};

    use super::*;

    /// A variant that was measured with some Frechet distances.
    pub(crate) fn measured(name: &str, steps: usize, distances: &[f64]) -> VariantResult {
        let run = |(training_seed, &frechet_distance): (u64, &f64)| VariantRun {
            training_seed,
            evaluation: ImageEvaluation {
                step: 4,
                samples: 20,
                seed: 1,
                guidance_scale: 2.0,
                solver_steps: steps,
                weights: MeasuredWeights::F32,
                reconstruction: Reconstruction {
                    reconstruction_psnr_db: 20.0,
                    reconstruction_ssim: 0.9,
                    noisy_reconstruction_psnr_db: 18.0,
                },
                classifier_accuracy: 0.97,
                verdict: Verdict {
                    class_agreement: 0.5,
                    worst_class_agreement: 0.25,
                    frechet_distance,
                },
                other_judge: CommandVerdict::default(),
                frechet_distance_of_real: 13.25,
                nearest_training_distance: 0.25,
                nearest_training_distance_of_real: 0.5,
                smallest_training_distance: 0.1,
                diversity: 0.75,
                worst_class_diversity: 0.5,
                samples_per_second: 4000.0 / steps as f64,
                held_out: 0,
            },
        };
        VariantResult {
            name: name.into(),
            changes: vec![format!("sample.steps={steps}")],
            head_evaluations: steps as f64,
            runs: (1..).zip(distances).map(run).collect(),
        }
    }

    /// What both lists must keep: unlike names, the default first, recipes that resolve and differ.
    pub(crate) fn check_list(variants: &Variants<'_>) {
        let all = variants.all;
        assert_eq!(all[0], Variant::new("default", &[]));
        let names: BTreeSet<&str> = all.iter().map(|own| own.name).collect();
        assert_eq!(names.len(), all.len(), "{names:?}");
        let mut recipes = Vec::new();
        for variant in all {
            let recipe = variants.recipe(variant, 0).unwrap();
            assert!(!recipes.contains(&recipe), "{}", variant.name);
            recipes.push(recipe);
        }
        assert_eq!(&recipes[0], variants.image);
    }

    static LIST: &[Variant] = &[
        Variant::new("default", &[]),
        Variant::new("steps-4", &["sample.steps=4"]),
        Variant::new("epsilon", &["lm.prediction=Epsilon"]),
        Variant::new("epsilon-4", &["lm.prediction=Epsilon", "sample.steps=4"]),
        Variant::new("student", &["lm.from=steps-4"]),
    ];

    fn with_list(variants: &str, test: impl FnOnce(&Variants<'_>)) {
        test(&Variants {
            name: "heads",
            all: LIST,
            config: &VariantsConfig::new(3, 0, 20, variants.to_owned()),
            image: &ImageRecipe::default(),
            one_codec: true,
        });
    }

    #[test]
    fn variants_that_differ_in_sampling_share_a_training() {
        with_list("", |variants| {
            let names = LIST.iter().map(|own| variants.trained_as(own).name);
            let names: Vec<&str> = names.collect();
            assert_eq!(
                names,
                ["default", "default", "epsilon", "epsilon", "student"]
            );
            let recipe = |own: &Variant, place| variants.recipe(own, place).unwrap();
            assert_eq!(recipe(&LIST[0], 2).seed, variants.image.seed + 2);
            assert_eq!(recipe(&LIST[1], 1).sample.steps, 4);
            check_list(variants);
        });
    }

    fn options(path: &Path) -> RunOptions {
        RunOptions {
            path: path.into(),
            resume: false,
            accept_changed_data: false,
            device: Device::default(),
            more_devices: Vec::new(),
            progress: ProgressMode::Silent,
            interrupter: Interrupter::new(),
            within: String::new(),
        }
    }

    /// The teacher of the student is trained as the default is, with the same seed.
    #[test]
    fn a_student_begins_from_its_teachers_run() {
        let options = options(Path::new("runs/heads"));
        with_list("", |variants| {
            let begun = |own: &Variant| variants.begun(own, 2, &options).unwrap();
            let seed = variants.image.seed + 2;
            let expected = absolute(options.path.join(format!("default-{seed}"))).unwrap();
            assert_eq!(begun(&LIST[4]).lm.from, expected.to_string_lossy());
            assert_eq!(begun(&LIST[0]).lm.from, "");
            let own = variants.run_of(&LIST[4], 2, &options).unwrap();
            let expected = options.path.join(format!("student-{seed}"));
            assert_eq!(own.path, expected);
        });
    }

    /// Each once, with those that others begin from.
    #[test]
    fn all_trainings_are_known_before_the_first() {
        let trainings = |variants: &str| {
            let mut found = Vec::new();
            with_list(variants, |variants| {
                let recipe = |own: &Variant| variants.recipe(own, 0).unwrap();
                let known = [&LIST[0], &LIST[2], &LIST[4]].map(|own| (own.name, recipe(own)));
                for own in variants.trainings().unwrap() {
                    let named = known.iter().find(|(_, recipe)| *recipe == own);
                    found.push(named.unwrap().0);
                }
            });
            found
        };
        assert_eq!(trainings(""), ["default", "epsilon", "student"]);
        assert_eq!(trainings("steps-4"), ["default"]);
        assert_eq!(trainings("student"), ["student", "default"]);
    }

    /// Where the machine's memory is known: the default would be trained first.
    #[test]
    fn a_variant_beyond_the_memory_is_refused_before_any_is_trained() {
        static HUGE: &[Variant] = &[
            Variant::new("default", &[]),
            Variant::new("huge", &["lm.width=131072", "lm.depth=2048"]),
        ];
        let device = Device::default();
        let is_cpu = latentlm::device("cpu").is_ok_and(|cpu| cpu == device);
        if !is_cpu || !Path::new("/proc/meminfo").exists() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let image = ImageRecipe::default();
        let variants = Variants {
            name: "heads",
            all: HUGE,
            config: &VariantsConfig::new(1, 0, 20, String::new()),
            image: &image,
            one_codec: true,
        };
        let failed = variants.run(&image, options(&path), |_| String::new());
        let message = failed.unwrap_err().to_string();
        let part = "lower image.lm.width, image.lm.depth";
        assert!(message.contains(part), "{message}");
        assert!(!path.exists());
    }

    /// From 20 to 4 on a line over a picture's latents; two evaluations in each of two intervals.
    #[test]
    fn evaluations_are_a_mean_over_latents() {
        let recipe = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            ImageRecipe::default().changed(&changes).unwrap()
        };
        let falling = recipe(&["sample.steps=20", "sample.steps_last=4"]);
        assert_eq!(head_evaluations(&falling), 12.0);
        let heun = recipe(&["lm.process=flow", "sample.sampler=heun", "sample.steps=4"]);
        assert_eq!(head_evaluations(&heun), 4.0);
    }

    #[test]
    fn variants_are_chosen_by_name() {
        let chosen = |variants: &str| {
            let mut names = Vec::new();
            with_list(variants, |variants| {
                let own = variants.chosen().unwrap();
                names = own.iter().map(|own| own.name).collect();
            });
            names
        };
        assert_eq!(chosen("").len(), LIST.len());
        assert_eq!(chosen("epsilon, default"), ["default", "epsilon"]);
        with_list("default,steps-3", |variants| {
            let message = variants.check().unwrap_err().to_string();
            assert!(
                message.contains("heads.variants has no `steps-3`; there are default, steps-4"),
                "{message}"
            );
        });
    }

    /// The mean of 20, 22 and 27 is 23. The squares of the differences 3, 1 and 4 add up to 26, divided by two.
    #[test]
    fn means_and_deviations_by_hand() {
        let result = measured("default", 20, &[20.0, 22.0, 27.0]);
        let distance = |e: &ImageEvaluation| e.verdict.frechet_distance;
        assert_eq!(result.mean(distance), Some(23.0));
        assert_eq!(result.deviation(distance), Some(13f64.sqrt()));
        let alone = measured("default", 20, &[20.0]);
        assert_eq!(alone.deviation(distance), None);
        let results = [result, alone];
        with_list("", |variants| {
            let table = variants.table(&results);
            for part in [
                "| default | sample.steps=20 | 20 | 20.00 | 0.500 | 0.000 | 23.00 | 3.61 | 0.500 | 0.750 | 0.500 | 200.0 |",
                "| 20.00 |  | 0.500 |",
                "Means over 3 training seeds, 20 pictures each. Frechet distance of real pictures: 13.25.",
                "Note: the Frechet distance is rough: 20 drawn pictures ",
            ] {
                assert!(table.contains(part), "{part}: {table}");
            }
        });
    }
}
