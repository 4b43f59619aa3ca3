//! LatentLM and its rivals on documents of text and pictures: the same data, codec, steps and number
//! of parameters.

use std::time::Instant;

use burn::module::Module;
use burn::tensor::Device;
use latentlm::MixedLm;
use latentlm_baselines::{MixedTransfusion, MixedVqLm};
use latentlm_data::{PICTURES, TextTokenizer};

use super::mixed_recipe::CompareMixedRecipe;
use super::mixed_rival::MixedRival;
use super::mixed_stage::{self, Common, Context};
use super::result::{self, Comparison};
use super::rival::Latents;
use super::run::{self, check_sizes, judge};
use super::stage_vq;
use crate::context::{RunEnd, RunOptions};
use crate::error::TrainError;
use crate::image::{self, Encoded, ImageData, read_all};
use crate::mixed::MixedData;

/// Folders of the two codecs' runs.
const CODEC: &str = "codec";
const VQ_CODEC: &str = "vq-codec";

/// Trains LatentLM, Transfusion and the vector-quantized model on text and pictures, or continues, and
/// writes `compare.json`, `compare.md` and `compare.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a rival has too many or too few parameters, a loss is not
/// finite, or a file can't be written.
pub fn compare_mixed(
    recipe: CompareMixedRecipe,
    options: RunOptions,
) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    let data = MixedData::open(&recipe.mixed)?;
    let tokenizer = data.tokenizer(&recipe.mixed)?;
    let parameters = parameters(&recipe, tokenizer.vocabulary(), &options.device)?;
    let parts = [CODEC, VQ_CODEC].map(|name| options.part(name));
    let mut context = Context::open(recipe, data, options)?;
    let pictures = &context.data.pictures;
    if pictures.train.len() < 2 || pictures.test.len() < 2 {
        let least = "two training and two held-out pictures are the least to measure with";
        return Err(context.run.error(least));
    }
    let judge = judge(pictures, &context.device)?;
    if !train_all(&mut context, parts, (&judge, &tokenizer))? {
        return Ok(RunEnd::Stopped);
    }
    let samples = context.recipe.evaluate.samples;
    let samples = samples.min(context.data.pictures.test.len());
    let known = read_all(&context.data.pictures.train, samples, &context.device)?;
    let comparison = Comparison {
        samples,
        classifier_accuracy: judge.accuracy(),
        frechet_distance_of_real: judge.frechet_distance(known),
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
    recipe: &CompareMixedRecipe,
    vocabulary: usize,
    device: &Device,
) -> Result<Vec<(&'static str, usize)>, TrainError> {
    let tied = recipe.mixed.text.tied;
    let own = recipe.mixed.model(vocabulary).init(device).num_params();
    let transfusion = recipe.transfusion(vocabulary).init_mixed(tied, device);
    let vq = recipe.vq_lm(vocabulary).init(device).num_params();
    let counts = vec![
        (MixedLm::NAME, own),
        (MixedTransfusion::NAME, transfusion.num_params()),
        (MixedVqLm::NAME, vq),
    ];
    check_sizes(&counts, recipe.evaluate.parameter_tolerance)?;
    Ok(counts)
}

/// Codecs and models, one after the other. Returns whether all are finished.
fn train_all(
    context: &mut Context,
    [codec, vq_codec]: [RunOptions; 2],
    (judge, tokenizer): (&image::Judge, &TextTokenizer),
) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let vocabulary = tokenizer.vocabulary();
    let Some(encoded) = image::encode(recipe.mixed.image(), codec)? else {
        return Ok(false);
    };
    let Encoded {
        codec,
        cache,
        whitening,
    } = encoded;
    let latents = Latents { codec, cache };
    let common = Common {
        coding: &latents,
        judge,
        tokenizer,
    };
    let latentlm = |device: &Device| {
        let mut model = recipe.mixed.model(vocabulary).init(device);
        let own = &mut model.adapters.latents[PICTURES];
        *own = own.clone().with_whitening(whitening);
        model
    };
    let transfusion = |device: &Device| {
        let tied = recipe.mixed.text.tied;
        let mut model = recipe.transfusion(vocabulary).init_mixed(tied, device);
        model.image.latent = model.image.latent.with_whitening(whitening);
        model
    };
    let finished = mixed_stage::train(context, &common, latentlm)?
        && mixed_stage::train(context, &common, transfusion)?;
    if !finished {
        return Ok(false);
    }
    let images = recipe.images();
    let pictures = ImageData::open(&images.image)?;
    let mut codes = run::Context::open(images, pictures, vq_codec)?;
    if !stage_vq::train(&mut codes)? {
        return Ok(false);
    }
    let codes = stage_vq::encode_all(&codes)?;
    mixed_stage::train(context, &common.with(&codes), |device| {
        recipe.vq_lm(vocabulary).init(device)
    })
}
