//! LatentLM and its rivals on the same data, with the same codec, steps and number of parameters.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::Device;
use latentlm_eval::{ComparedSoFar, EvalError, Judge, write_comparison_report};
use latentlm_pipelines::{ImageData, RunFolder, read_all, read_evenly};
use latentlm_train::{
    Context, Result, RunEnd, RunOptions, TrainError, check_demands, check_memory, encode, phases,
    stoppable,
};

use super::documents::Documents;
use super::recipe::{CompareMllmRecipe, CompareRecipe};
use super::result::{self, Comparison, JUDGE, end, sample_note, write_result};
use super::rival::{Common, Run, Subject};

/// The folder of the image run whose codec all models but the vector-quantized one share.
const CODEC: &str = "codec";
/// Folder of the run of the vector-quantized codec, if that has a separate run.
const VQ_CODEC: &str = "vq-codec";

/// Trains LatentLM and its rivals on classes and their pictures, or continues, and writes
/// `compare.json`, `compare.md` and `compare.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a rival has too many or too few parameters, a loss is not
/// finite, or a file can't be written.
pub fn compare_image(recipe: CompareRecipe, options: RunOptions) -> Result<RunEnd> {
    RunEnd::of(compare::<ImageData>(recipe, options))
}

/// Trains LatentLM, Transfusion and the vector-quantized model on text and pictures, or continues, and
/// writes `compare.json`, `compare.md` and `compare.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a rival has too many or too few parameters, a loss is not
/// finite, or a file can't be written.
pub fn compare_mllm(recipe: CompareMllmRecipe, options: RunOptions) -> Result<RunEnd> {
    RunEnd::of(compare::<Documents>(recipe, options))
}

fn compare<S: Subject>(recipe: S::Recipe, options: RunOptions) -> Result<RunEnd> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    let options = options.within(S::WITHIN);
    check_memory(&S::images(&recipe).image, 1, &options)?;
    let [codec, vq_codec] = [CODEC, VQ_CODEC].map(|name| options.part(name));
    let device = options.device.clone();
    let mut counts = Vec::new();
    let mut context = Context::open(recipe, options, |recipe| {
        let subject = S::open(recipe, &device)?;
        counts = parameters::<S>(recipe, subject.size(), &device)?;
        // A codec is trained before the models.
        let samples = subject.pictures().train.len();
        for (model, (_, count)) in S::models().into_iter().zip(&counts) {
            check_demands(&[(model.demand)(recipe, *count)], samples, &device, "")?;
        }
        Ok(subject)
    })?;
    context.report = Some(report::<S>);
    let ImageData { train, test } = context.data.pictures();
    if train.len() < 2 || test.len() < 2 {
        let least = "two training and two held-out pictures are the least to measure with";
        return Err(context.run.error(least).into());
    }
    let held_out_count = test.len();
    let held_out = read_all(test, &context.device)?;
    let phase = phases(context.options.progress);
    phase("training the judge on real pictures, unless that was done");
    let judge = stoppable(&context.options, || {
        Judge::kept(&context.run.file(JUDGE), context.data.pictures(), held_out)
    })?;
    if !train_all::<S>(&mut context, &judge, codec, vq_codec)? {
        return Ok(RunEnd::Stopped);
    }
    let samples = Subject::samples(&context.data, &context.recipe);
    let train = &context.data.pictures().train;
    let known = read_evenly(train, samples, &context.device)?;
    let mut comparison = Comparison {
        samples,
        classifier_accuracy: judge.accuracy,
        frechet_distance_of_real: judge.frechet_distance(known),
        category_named_by_majority: None,
        neighbours_of_category_by_chance: None,
        rivals: result::read(&context.run, &counts)?,
    };
    context.data.complete(&mut comparison);
    let table = comparison.table() + &sample_note(samples, held_out_count);
    let figure = comparison.figure();
    write_result(&context.run, "compare", &comparison, table, figure)?;
    context.write_report();
    Ok(end(&context.run, "compare", started))
}

/// Writes the report of a comparison: its results, if there are any yet, and what is known of each model.
fn report<S: Subject>(
    run: &RunFolder<S::Recipe>,
    recipe: &S::Recipe,
) -> Result<PathBuf, EvalError> {
    let written = |ending: &str| fs::read_to_string(run.file(&format!("compare.{ending}")));
    let models = S::models();
    let mut stages: Vec<&str> = models.iter().map(|model| model.name).collect();
    stages.push(VQ_CODEC);
    let found = ComparedSoFar {
        table: &written("md").unwrap_or_default(),
        figure: &written("svg").unwrap_or_default(),
        stages: &stages,
    };
    write_comparison_report(run, recipe, &found)
}

/// Trains codecs and models, one after the other. Returns whether all are finished.
fn train_all<S: Subject>(
    context: &mut Run<S>,
    judge: &Judge,
    codec: RunOptions,
    vq_codec: RunOptions,
) -> Result<bool> {
    let Some(encoded) = encode(S::images(&context.recipe).image, codec, None)? else {
        return Ok(false);
    };
    let common = Common {
        gallery: context.data.gallery(&encoded.codec, &context.device)?,
        encoded: &encoded,
        judge,
        size: context.data.size(),
        vq_codec,
    };
    for model in S::models() {
        if !(model.train)(context, &common)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Names of all models and their numbers of parameters, LatentLM's first.
fn parameters<S: Subject>(
    recipe: &S::Recipe,
    size: usize,
    device: &Device,
) -> Result<Vec<(&'static str, usize)>> {
    let tolerance = S::images(recipe).evaluate.parameter_tolerance;
    let models = S::models().into_iter();
    let counts = models.map(|model| (model.name, (model.parameters)(recipe, size, device)));
    let counts: Vec<(&'static str, usize)> = counts.collect();
    let own = counts[0].1;
    for (name, count) in &counts {
        let difference = *count as f64 / own as f64 - 1.0;
        if difference.abs() > tolerance {
            return Err(TrainError::config(format!(
                "{name} has {count} parameters, {:+.1} % of LatentLM's {own}: change its sizes, \
                 or evaluate.parameter_tolerance",
                difference * 100.0
            )));
        }
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use latentlm_pipelines::Recipe;

    use super::*;

    /// The default recipe, which ships, passes the check that the command begins with.
    #[test]
    fn rivals_that_write_have_as_many_parameters() {
        let device = Device::default();
        let resolve = |changes: &[String]| CompareMllmRecipe::resolve(None, changes).unwrap();
        let recipe = resolve(&[]);
        let vocabulary = recipe.mllm.text.tokenizer.vocabulary;
        let counts = parameters::<Documents>(&recipe, vocabulary, &device).unwrap();
        let names: Vec<&str> = counts.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["latentlm", "transfusion", "vq"]);
        let own = recipe.mllm.model(vocabulary).init(&device).num_params();
        assert_eq!(counts[0].1, own);
        assert_eq!(recipe.evaluate.parameter_tolerance, 0.05);
        for (name, count) in &counts {
            let share = *count as f64 / own as f64 - 1.0;
            assert!(share.abs() <= 0.05, "{name}: {count} for {own}");
        }
        for deeper in ["transfusion", "vq"] {
            let changed = resolve(&[format!("{deeper}.depth=12")]);
            let message = parameters::<Documents>(&changed, vocabulary, &device).unwrap_err();
            assert!(
                message
                    .to_string()
                    .starts_with(&format!("recipe: {deeper} has "))
            );
        }
    }
}
