//! LatentLM and its rivals on the same data, with the same codec, steps and number of parameters.

use std::time::Instant;

use burn::tensor::Device;
use latentlm::LatentLm;
use latentlm_baselines::{Dit, Transfusion, VqLm};
use latentlm_eval::Judge;
use latentlm_pipelines::{ImageData, Recipe, RunFolder, TrainingData, read_all, read_evenly};
use latentlm_train::{Classes, RunEnd, RunOptions, TrainError, encode};

use super::recipe::CompareRecipe;
use super::result;
use super::result::Comparison;
use super::rival::{Rival, Subject};
use super::stage;
use super::stage::Common;
use super::stage_vq;

/// A comparison's run.
pub(crate) type Context = latentlm_train::Context<CompareRecipe, ImageData>;

/// The folder of the image run whose codec LatentLM, DiT and Transfusion share.
pub(crate) const CODEC: &str = "codec";

/// Trains LatentLM and its rivals, or continues, and writes `compare.json`, `compare.md` and
/// `compare.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a rival has too many or too few parameters, a loss is not
/// finite, or a file can't be written.
pub fn compare_image(recipe: CompareRecipe, options: RunOptions) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    let options = options.within("image.");
    let data = ImageData::open(&recipe.image)?;
    let parameters = parameters(&recipe, data.classes().len(), &options.device)?;
    let codec_options = options.part(CODEC);
    let mut context = Context::open(recipe, data, options)?;
    let judge = judge(&context.run, &context.data, &context.device)?;
    if !train_all(&mut context, codec_options, &judge)? {
        return Ok(RunEnd::Stopped);
    }
    let samples = context.recipe.evaluate.samples;
    let known = read_evenly(&context.data.train, samples, &context.device)?;
    let comparison = Comparison {
        samples,
        classifier_accuracy: judge.accuracy(),
        frechet_distance_of_real: judge.frechet_distance(known),
        category_named_by_majority: None,
        neighbours_of_category_by_chance: None,
        rivals: result::read(&context.run, &parameters)?,
    };
    comparison.end(&context.run, started)
}

/// Names and numbers of parameters, LatentLM's first.
fn parameters(
    recipe: &CompareRecipe,
    classes: usize,
    device: &Device,
) -> Result<Vec<(&'static str, usize)>, TrainError> {
    let counts = vec![
        size::<Classes, LatentLm>(recipe, classes, device),
        size::<Classes, Dit>(recipe, classes, device),
        size::<Classes, Transfusion>(recipe, classes, device),
        size::<Classes, VqLm>(recipe, classes, device),
    ];
    check_sizes(&counts, recipe.evaluate.parameter_tolerance)?;
    Ok(counts)
}

/// A model's name and number of parameters.
pub(crate) fn size<S: Subject, M: Rival<S>>(
    recipe: &S::Recipe,
    size: usize,
    device: &Device,
) -> (&'static str, usize) {
    (M::NAME, M::init(recipe, size, device).num_params())
}

/// Whether all have about as many parameters as the first.
pub(crate) fn check_sizes(
    counts: &[(&'static str, usize)],
    tolerance: f64,
) -> Result<(), TrainError> {
    let own = counts[0].1;
    for (name, count) in counts {
        let difference = *count as f64 / own as f64 - 1.0;
        if difference.abs() > tolerance {
            return Err(TrainError::config(format!(
                "{name} has {count} parameters, {:+.1} % of LatentLM's {own}: change its sizes, \
                     or evaluate.parameter_tolerance",
                difference * 100.0
            )));
        }
    }
    Ok(())
}

/// A judge of a dataset's pictures.
pub(crate) fn judge<R: Recipe>(
    run: &RunFolder<R>,
    data: &ImageData,
    device: &Device,
) -> Result<Judge, TrainError> {
    let ImageData { train, test } = data;
    if train.len() < 2 || test.len() < 2 {
        let least = "two training and two held-out pictures are the least to measure with";
        return Err(run.error(least).into());
    }
    let labels: Vec<u32> = (0..test.len()).map(|index| test.label(index)).collect();
    let held_out = read_all(test, test.len(), device)?;
    Ok(Judge::train(train, held_out, &labels)?)
}

/// Codecs and models, one after the other. Returns whether all are finished.
fn train_all(
    context: &mut Context,
    codec_options: RunOptions,
    judge: &Judge,
) -> Result<bool, TrainError> {
    let Some(encoded) = encode(context.recipe.image.clone(), codec_options)? else {
        return Ok(false);
    };
    let subject = Classes {
        labels: encoded.cache.labels.clone(),
        classes: context.data.train.classes().len(),
        tokens: context.recipe.image.tokens(),
    };
    let common = Common {
        subject: &subject,
        judge,
    };
    let finished = stage::train::<Classes, LatentLm>(context, &common, &encoded)?
        && stage::train::<Classes, Dit>(context, &common, &encoded)?
        && stage::train::<Classes, Transfusion>(context, &common, &encoded)?
        && stage_vq::train(context)?;
    if !finished {
        return Ok(false);
    }
    let codes = stage_vq::encode_all(context)?;
    stage::train::<Classes, VqLm>(context, &common, &codes)
}
