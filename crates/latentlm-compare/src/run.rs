//! LatentLM and its rivals on the same data, with the same codec, steps and number of parameters.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::LatentLm;
use latentlm::adapters::Whitening;
use latentlm_baselines::{ClassConditional, Dit, ImageDenoiser, Transfusion, VqLm};
use latentlm_data::PICTURES;
use latentlm_eval::Judge;
use latentlm_pipelines::{ImageData, TrainingData, read_all, read_evenly};
use latentlm_train::{Encoded, RunEnd, RunOptions, TrainError};

use super::recipe::CompareRecipe;
use super::result;
use super::result::Comparison;
use super::rival::{Latents, Rival};
use super::stage_rival;
use super::stage_rival::Common;
use super::stage_vq;

/// A comparison's run.
pub(crate) type Context = latentlm_train::Context<CompareRecipe, ImageData>;

/// The folder of the image run whose codec LatentLM, DiT and Transfusion share.
const CODEC: &str = "codec";

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
    if context.data.train.len() < 2 || context.data.test.len() < 2 {
        let least = "two training and two held-out pictures are the least to measure with";
        return Err(context.run.error(least).into());
    }
    let Some(encoded) = encode(&context, codec_options)? else {
        return Ok(RunEnd::Stopped);
    };
    let judge = judge(&context.data, &context.device)?;
    if !train_all(&mut context, encoded, &judge)? {
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
    let files = comparison.write(&context.run)?;
    Ok(RunEnd::Finished {
        samples: files.figure,
        report: files.table,
        seconds: started.elapsed().as_secs_f64(),
        skipped: Vec::new(),
    })
}

/// Names and numbers of parameters, LatentLM's first.
fn parameters(
    recipe: &CompareRecipe,
    classes: usize,
    device: &Device,
) -> Result<Vec<(&'static str, usize)>, TrainError> {
    let counts = vec![
        (
            <LatentLm as Rival>::NAME,
            recipe.image.model(classes).init(device).num_params(),
        ),
        (Dit::NAME, recipe.dit(classes).init(device).num_params()),
        (
            Transfusion::NAME,
            recipe.transfusion(classes).init(device).num_params(),
        ),
        (VqLm::NAME, recipe.vq_lm(classes).init(device).num_params()),
    ];
    check_sizes(&counts, recipe.evaluate.parameter_tolerance)?;
    Ok(counts)
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
pub(crate) fn judge(data: &ImageData, device: &Device) -> Result<Judge, TrainError> {
    let ImageData { train, test } = data;
    let labels: Vec<u32> = (0..test.len()).map(|index| test.label(index)).collect();
    let held_out = read_all(test, test.len(), device)?;
    Ok(Judge::train(train, held_out, &labels)?)
}

/// All rivals, one after the other. Returns whether all are finished.
fn train_all(
    context: &mut Context,
    (latents, whitening): (Latents, Whitening),
    judge: &Judge,
) -> Result<bool, TrainError> {
    let classes = context.data.train.classes().len();
    let recipe = context.recipe.clone();
    let common = Common {
        coding: &latents,
        judge,
    };
    let latentlm = |device: &Device| {
        let model = recipe.image.model(classes).init(device);
        model.with_whitening(PICTURES, whitening)
    };
    let dit = |device: &Device| with_whitening(recipe.dit(classes).init(device), whitening);
    let transfusion =
        |device: &Device| with_whitening(recipe.transfusion(classes).init(device), whitening);
    let finished = stage_rival::train(context, &common, latentlm)?
        && stage_rival::train(context, &common, dit)?
        && stage_rival::train(context, &common, transfusion)?
        && stage_vq::train(context)?;
    if !finished {
        return Ok(false);
    }
    let codes = stage_vq::encode_all(context)?;
    let common = Common {
        coding: &codes,
        judge,
    };
    stage_rival::train(context, &common, |device| {
        recipe.vq_lm(classes).init(device)
    })
}

/// The image codec, trained as an image run of its own, and what it makes of the pictures. `None` if
/// it was stopped.
fn encode(
    context: &Context,
    options: RunOptions,
) -> Result<Option<(Latents, Whitening)>, TrainError> {
    let encoded = latentlm_train::encode(context.recipe.image.clone(), options)?;
    Ok(encoded.map(|encoded| {
        let Encoded {
            codec,
            cache,
            whitening,
        } = encoded;
        (Latents { codec, cache }, whitening)
    }))
}

pub(crate) fn with_whitening<M: ImageDenoiser>(
    mut model: ClassConditional<M>,
    whitening: Whitening,
) -> ClassConditional<M> {
    model.image.latent = model.image.latent.with_whitening(whitening);
    model
}
