//! A default recipe and its fast student, with one codec and several training seeds each. Variants of heads on digits are
//! in `heads.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, absolute};
use std::time::Instant;

use burn::config::Config;
use latentlm::SampleOptions;
use latentlm::core::bundle::io_error;
use latentlm_eval::{ComparedSoFar, bar_chart, decimals, deviation, mean, stack};
use latentlm_pipelines::{LmConfig, PipelineError, Recipe, RunFolder, checked_within};
use latentlm_train::{
    Demanding, Result, RunEnd, RunOptions, check_memory, stoppable, wrong_teacher,
};
use serde::{Deserialize, Serialize};

use super::recipe::seed_at;
use super::result::{end, report, row, write_result};
use super::stored::{store, stored};

/// Measurements by name.
pub(crate) type Values = BTreeMap<String, f64>;

/// How often the default and its student are trained, and how they are measured.
#[derive(Config, Debug, PartialEq)]
pub struct StudentsConfig {
    /// Training seeds: the recipe's seed and those after it.
    pub seeds: u64,
    /// Training seeds before these, which are left to another run of the comparison.
    pub skip_seeds: u64,
    /// Utterances of each kind, or pictures of each split, for each measurement.
    pub samples: usize,
    /// Optimizer steps of a student.
    pub student_steps: u64,
}

impl StudentsConfig {
    /// Places of the training seeds: a place is added to the recipe's seed.
    fn places(&self) -> Range<u64> {
        self.skip_seeds..self.skip_seeds + self.seeds
    }
}

/// The default or its student, with all measurements.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentResult {
    /// `default` or `fast`, the beginning of the names of its runs.
    pub name: String,
    /// Solver steps a latent. With guidance from a second branch each evaluates the head for two conditions.
    pub solver_steps: usize,
    /// One for each training seed.
    pub runs: Vec<StudentRun>,
}

/// The measurements of one training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentRun {
    /// The seed of its training.
    pub training_seed: u64,
    /// The seed of the training of its codec.
    pub codec_seed: u64,
    /// Measurements by name, as in the `evaluation.json` of its run.
    pub values: BTreeMap<String, f64>,
}

impl StudentResult {
    /// A measurement of each run that has it.
    fn values(&self, name: &str) -> Vec<f64> {
        let values = self.runs.iter();
        values
            .filter_map(|run| run.values.get(name).copied())
            .collect()
    }
}

/// A recipe that has a fast student.
pub(crate) trait HasStudent: Recipe {
    /// Overrides that make the student, besides its steps, the run that it begins from, and what follows from how the
    /// default draws.
    const CHANGES: &'static [&'static str];
    /// The largest guidance scale that the student learns, if the default draws with no larger one.
    const DISTILLED_SCALE: f64;
    /// Measurements that are drawn as bars, if they were made.
    const SHOWN: &'static [&'static str];

    /// The table `lm`.
    fn language_model(&self) -> &LmConfig;

    /// The key `lm.from`.
    fn begins_from(&mut self) -> &mut String;

    /// How latents are drawn.
    fn drawing(&self) -> SampleOptions;

    /// Trains it, or continues, with the codec of a run or its own.
    ///
    /// # Errors
    /// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
    fn train(self, codec: Option<&Path>, options: RunOptions) -> Result<RunEnd>;
}

/// One of the two that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Model {
    /// The teacher.
    Default,
    /// The one that it teaches.
    Student,
}

impl Model {
    fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Student => "fast",
        }
    }

    /// The name of its run with a training seed.
    fn run(self, seed: u64) -> String {
        format!("{}-{seed}", self.name())
    }
}

/// Checks the recipes of both, of which the default's is the table `table` (with its dot) of the comparison's.
///
/// # Errors
/// If one of them is wrong, or the default can't teach the student.
pub(crate) fn check<R: HasStudent>(
    table: &str,
    config: &StudentsConfig,
    default: &R,
) -> Result<(), PipelineError> {
    checked_within::<R, _>(table, default.check_together())?;
    let student = recipe(config, default, Model::Student, 0);
    let student = checked_within::<R, _>(table, student)?;
    // The student's training would refuse it only after the default's.
    if let Some(reason) = wrong_teacher(student.language_model(), default.language_model()) {
        let wrong = PipelineError::config(format!("the default {reason}"));
        return checked_within::<R, _>(table, Err(wrong));
    }
    Ok(())
}

/// The recipe of a model with the seed of a place. A student's names its teacher and not the teacher's folder, which may
/// move. It learns to draw with the default's guidance, from noise of the default's temperature.
///
/// # Errors
/// If it is wrong, or the default draws from no noise or with a larger guidance than a student can learn.
pub(crate) fn recipe<R: HasStudent>(
    config: &StudentsConfig,
    default: &R,
    model: Model,
    place: u64,
) -> Result<R, PipelineError> {
    let mut changes = vec![format!("seed={}", seed_at(default.seed(), place))];
    if model == Model::Student {
        let SampleOptions {
            guidance_scale,
            noise_temperature,
            ..
        } = default.drawing();
        if noise_temperature == 0.0 {
            return Err(PipelineError::config(
                "sample.noise_temperature must be above 0: a student learns to draw from noise of this temperature",
            ));
        }
        let largest = R::keys().get("lm.distilled_scale").and_then(|key| key.max);
        if let Some(largest) = largest
            && guidance_scale > largest
        {
            return Err(PipelineError::config(format!(
                "sample.guidance_scale must be at most {largest}, not {guidance_scale}: a student learns no larger one"
            )));
        }
        let scale = guidance_scale.max(R::DISTILLED_SCALE);
        changes.extend(R::CHANGES.iter().map(ToString::to_string));
        changes.push(format!("lm.distilled_scale={scale:?}"));
        changes.push(format!("lm.distilled_temperature={noise_temperature:?}"));
        changes.push(format!("lm_train.steps={}", config.student_steps));
        changes.push(format!("lm.from={}", Model::Default.name()));
    }
    default.changed(&changes)
}

/// Refuses a default or a student that takes more memory than the machine has.
///
/// # Errors
/// If one does; the message names the keys to lower.
pub(crate) fn check_memory_of_both<R: HasStudent + Demanding>(
    config: &StudentsConfig,
    default: &R,
    options: &RunOptions,
) -> Result<()> {
    for model in [Model::Default, Model::Student] {
        check_memory(&recipe(config, default, model, 0)?, 1, options)?;
    }
    Ok(())
}

/// Measurements of a run, and what they depend on besides the run and its recipe.
#[derive(Serialize, Deserialize)]
struct Measured {
    conditions: String,
    /// Commands that listened, by what they were asked.
    listeners: BTreeMap<String, String>,
    codec_seed: u64,
    values: Values,
}

impl Measured {
    /// The measurements as those of a training seed.
    fn of_seed(self, training_seed: u64) -> StudentRun {
        StudentRun {
            training_seed,
            codec_seed: self.codec_seed,
            values: self.values,
        }
    }
}

/// A comparison of a default recipe with its student.
pub(crate) struct Students<'a, R> {
    pub(crate) config: &'a StudentsConfig,
    pub(crate) default: &'a R,
    /// What measurements depend on besides the run, its recipe and those who listen.
    pub(crate) conditions: String,
    /// The commands that listen, by what they are asked.
    pub(crate) listeners: BTreeMap<String, String>,
    /// Measures a finished run with some sampling options.
    pub(crate) measure: &'a dyn Fn(&Path, SampleOptions) -> Result<Values>,
}

impl<R: HasStudent> Students<'_, R> {
    /// Trains and measures both with every seed, or continues, each a run within the run's folder, and writes a table and a
    /// figure. `folder` is that of the comparison, `whole` its recipe, `name` that of its files.
    ///
    /// # Errors
    /// If the recipe or data are wrong, a loss is not finite, or a file can't be written.
    pub(crate) fn run<W: Recipe>(
        &self,
        folder: &RunFolder<W>,
        whole: &W,
        name: &str,
        options: &RunOptions,
    ) -> Result<RunEnd> {
        let started = Instant::now();
        let models = [Model::Default, Model::Student];
        let mut results = Vec::new();
        for model in models {
            let own = recipe(self.config, self.default, model, 0)?;
            results.push(StudentResult {
                name: model.name().into(),
                solver_steps: own.drawing().steps,
                runs: Vec::new(),
            });
        }
        for place in self.config.places() {
            for (index, model) in models.into_iter().enumerate() {
                let Some(run) = self.train_and_measure(model, place, options)? else {
                    return Ok(RunEnd::Stopped);
                };
                results[index].runs.push(run);
                let found = ComparedSoFar {
                    table: &table(&results),
                    figure: &figure(&results, R::SHOWN),
                    stages: &[],
                };
                report(folder, whole, &found, options.progress);
            }
            // After each pair: a comparison that is stopped or killed has the table of those before.
            let (table, drawn) = (table(&results), figure(&results, R::SHOWN));
            write_result(folder, name, &results, table, drawn)?;
        }
        Ok(end(folder, name, started))
    }

    /// Whether measurements of before count: under the same conditions, and at least these commands listened.
    fn counts(&self, known: &Measured) -> bool {
        let mut asked = self.listeners.iter();
        known.conditions == self.conditions
            && asked.all(|(asked, own)| known.listeners.get(asked) == Some(own))
    }

    /// Trains a model with the seed of a place, or continues, and measures it. `None` if it was stopped.
    fn train_and_measure(
        &self,
        model: Model,
        place: u64,
        options: &RunOptions,
    ) -> Result<Option<StudentRun>> {
        let compared = recipe(self.config, self.default, model, place)?;
        let training_seed = compared.seed();
        let path = options.path.join(model.run(training_seed));
        let file = path.with_extension("json");
        let known = stored::<Measured, _>(&file, &compared);
        if let Some(known) = known.filter(|own| self.counts(own)) {
            return Ok(Some(known.of_seed(training_seed)));
        }
        let Some(codec_seed) = self.train(model, place, options)? else {
            return Ok(None);
        };
        let mut values = stoppable(options, || (self.measure)(&path, compared.drawing()))?;
        values.retain(|_, value| value.is_finite());
        let measured = Measured {
            conditions: self.conditions.clone(),
            listeners: self.listeners.clone(),
            codec_seed,
            values,
        };
        store(&file, &compared, &measured)?;
        if options.interrupter.should_stop() {
            return Ok(None);
        }
        Ok(Some(measured.of_seed(training_seed)))
    }

    /// Trains a model with the seed of a place, or continues; before a student its teacher. Returns the seed of its codec,
    /// `None` if it was stopped.
    fn train(&self, model: Model, place: u64, options: &RunOptions) -> Result<Option<u64>> {
        let mut own = recipe(self.config, self.default, model, place)?;
        let seed = own.seed();
        let (mut codec, mut codec_seed) = (None, seed);
        if model == Model::Student {
            // It is finished, unless its measurements were brought from another run of the comparison.
            let Some(of_teacher) = self.train(Model::Default, place, options)? else {
                return Ok(None);
            };
            codec_seed = of_teacher;
            // A run that goes on may be started in another folder.
            let teacher = options.path.join(Model::Default.run(seed));
            let teacher = absolute(&teacher).map_err(io_error("find", &teacher))?;
            *own.begins_from() = teacher.to_string_lossy().into_owned();
        } else {
            let first_seed = seed_at(self.default.seed(), self.config.skip_seeds);
            let first = options.path.join(Model::Default.run(first_seed));
            // Measurements may be all that there is of the first one.
            if seed != first_seed && first.join("config.toml").is_file() {
                (codec, codec_seed) = (Some(first), first_seed);
            }
        }
        let trained = own.train(codec.as_deref(), options.part(&model.run(seed)))?;
        let stopped = trained == RunEnd::Stopped || options.interrupter.should_stop();
        Ok((!stopped).then_some(codec_seed))
    }
}

/// A row for each measurement, a column for each model, and the last one's difference to the first. Of two models that
/// were trained with the same seeds the difference is known better than each mean.
fn table(results: &[StudentResult]) -> String {
    let mut head = vec!["mean over training seeds (deviation)".to_owned()];
    head.extend(results.iter().map(|own| own.name.clone()));
    head.push("difference".to_owned());
    let mut text = format!("{}|{}\n", row(&head), "---|".repeat(head.len()));
    let steps = results.iter().map(|own| own.solver_steps.to_string());
    let mut cells = vec!["solver steps a latent".to_owned()];
    cells.extend(steps);
    cells.push(String::new());
    text += &row(&cells);
    let runs = || results.iter().flat_map(|own| &own.runs);
    let names: BTreeSet<&String> = runs().flat_map(|run| run.values.keys()).collect();
    for name in names {
        let mut cells = vec![name.replace('_', " ")];
        cells.extend(results.iter().map(|own| cell(&own.values(name))));
        cells.push(cell(&differences(results, name)));
        text += &row(&cells);
    }
    let count = results.first().map_or(0, |own| own.runs.len());
    let codecs: BTreeSet<u64> = runs().map(|run| run.codec_seed).collect();
    let codecs: Vec<String> = codecs.iter().map(u64::to_string).collect();
    text + &format!(
        "\nMeans over {count} training seeds. Codecs were trained with the seeds {}.\n",
        codecs.join(", ")
    )
}

/// The differences of a measurement between the last and the first model that have the same training seed.
fn differences(results: &[StudentResult], name: &str) -> Vec<f64> {
    let (Some(first), Some(last)) = (results.first(), results.last()) else {
        return Vec::new();
    };
    let of_first = |seed| first.runs.iter().find(|run| run.training_seed == seed);
    let pairs = last.runs.iter();
    let pairs = pairs.filter_map(|run| Some((run, of_first(run.training_seed)?)));
    let both =
        pairs.filter_map(|(last, first)| Some((last.values.get(name)?, first.values.get(name)?)));
    both.map(|(last, first)| last - first).collect()
}

/// The mean of values over training seeds, behind it their standard deviation if there are several; empty without values.
fn cell(values: &[f64]) -> String {
    match (mean(values.iter().copied()), deviation(values)) {
        (Some(mean), Some(deviation)) => {
            format!("{} ({})", decimals(mean, 3), decimals(deviation, 3))
        }
        (Some(mean), None) => decimals(mean, 3),
        (None, _) => String::new(),
    }
}

/// Bars of some measurements, those of both models below each other.
fn figure(results: &[StudentResult], shown: &[&'static str]) -> String {
    let mut charts = Vec::new();
    for name in shown {
        let bars = results.iter();
        let bars: Vec<(String, f64)> = bars
            .filter_map(|own| Some((own.name.clone(), mean(own.values(name))?)))
            .collect();
        if !bars.is_empty() {
            charts.push((*name, bar_chart(name, &bars)));
        }
    }
    stack(&charts)
}

#[cfg(test)]
mod tests {
    use latentlm_pipelines::MllmRecipe;

    use super::*;

    fn result(name: &str, runs: &[&[(&str, f64)]]) -> StudentResult {
        let runs = (1..).zip(runs).map(|(training_seed, values)| StudentRun {
            training_seed,
            codec_seed: 1,
            values: values.iter().map(|(k, v)| ((*k).into(), *v)).collect(),
        });
        StudentResult {
            name: name.into(),
            solver_steps: 2,
            runs: runs.collect(),
        }
    }

    /// More commands than are asked for may have listened.
    #[test]
    fn measurements_count_under_the_same_conditions() {
        let (config, default) = (StudentsConfig::new(1, 0, 2, 1), MllmRecipe::default());
        let named = |asked: &[&str]| -> BTreeMap<String, String> {
            let asked = asked.iter();
            asked.map(|own| ((*own).into(), "listen".into())).collect()
        };
        let measure = |_: &Path, _: SampleOptions| -> Result<Values> { Ok(Values::new()) };
        let students = Students {
            config: &config,
            default: &default,
            conditions: "data 2".into(),
            listeners: named(&["recognizer"]),
            measure: &measure,
        };
        for (conditions, listeners, counts) in [
            ("data 2", &["recognizer"][..], true),
            ("data 2", &["pesq", "recognizer"], true),
            ("data 2", &["pesq"], false),
            ("data 3", &["recognizer"], false),
        ] {
            let known = Measured {
                conditions: conditions.into(),
                listeners: named(listeners),
                codec_seed: 1,
                values: Values::new(),
            };
            assert_eq!(
                students.counts(&known),
                counts,
                "{conditions} {listeners:?}"
            );
        }
    }

    /// The mean of 1, 3 and 5 is 3, and the squares 4, 0 and 4 add up to 8, divided by two. The differences of the runs that
    /// have a partner are 1 and -2: their mean is -0.5, the squares 2.25 and 2.25 add up to 4.5.
    #[test]
    fn means_of_both_stand_beside_each_other() {
        let results = [
            result(
                "default",
                &[&[("a_b", 1.0)], &[("a_b", 3.0)], &[("a_b", 5.0)]],
            ),
            result("fast", &[&[("a_b", 2.0), ("c", 0.000_25)], &[("a_b", 1.0)]]),
        ];
        let told = table(&results);
        for line in [
            "| mean over training seeds (deviation) | default | fast | difference |",
            "| solver steps a latent | 2 | 2 |  |",
            "| a b | 3.000 (2.000) | 1.500 (0.707) | -0.500 (2.121) |",
            "| c |  | 0.00025 |  |",
            "Means over 3 training seeds. Codecs were trained with the seeds 1.",
        ] {
            assert!(told.lines().any(|own| own == line), "{line}: {told}");
        }
        let drawn = figure(&results, &["a_b", "d"]);
        assert!(drawn.contains(">default</text>") && drawn.contains(">a_b</text>"));
        assert!(!drawn.contains(">d</text>") && !drawn.contains("NaN"));
    }
}
