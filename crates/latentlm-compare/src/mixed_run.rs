//! LatentLM and its rivals on documents of text and pictures: the same data, codec, steps and number
//! of parameters.

use std::time::Instant;

use burn::tensor::Device;
use latentlm_data::{Caption, PICTURES, TextTokenizer};
use latentlm_eval::{Gallery, Judge, by_chance, majority};
use latentlm_pipelines::{ImageData, MixedData, evenly, read_evenly};
use latentlm_train::{Encoded, RunEnd, RunOptions, TrainError};

use super::mixed_recipe::CompareMixedRecipe;
use super::mixed_stage;
use super::mixed_stage::{Common, Context};
use super::result;
use super::result::Comparison;
use super::rival::Latents;
use super::run;
use super::run::judge;
use super::stage_vq;

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
    let options = options.within("mixed.");
    let data = MixedData::open(&recipe.mixed)?;
    let tokenizer = data.tokenizer(&recipe.mixed)?;
    let parameters = recipe.parameters(tokenizer.vocabulary(), &options.device)?;
    let parts = [CODEC, VQ_CODEC].map(|name| options.part(name));
    let mut context = Context::open(recipe, data, options)?;
    let pictures = &context.data.pictures;
    if pictures.train.len() < 2 || pictures.test.len() < 2 {
        let least = "two training and two held-out pictures are the least to measure with";
        return Err(context.run.error(least).into());
    }
    let judge = judge(pictures, &context.device)?;
    if !train_all(&mut context, parts, (&judge, &tokenizer))? {
        return Ok(RunEnd::Stopped);
    }
    let (device, data) = (&context.device, &context.data);
    let samples = evenly(context.recipe.evaluate.samples, data.pictures.test.len());
    let known = read_evenly(&data.pictures.train, samples.len(), device)?;
    let (train, test) = (&data.train.captions, &data.test.captions);
    let asked: Vec<Caption> = samples.iter().map(|&index| test[index].clone()).collect();
    let all = [&train[..], &test[..]].concat();
    let comparison = Comparison {
        samples: samples.len(),
        classifier_accuracy: judge.accuracy(),
        frechet_distance_of_real: judge.frechet_distance(known),
        category_named_by_majority: majority(train, &asked),
        neighbours_of_category_by_chance: by_chance(&all, &asked),
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

/// Codecs and models, one after the other. Returns whether all are finished.
fn train_all(
    context: &mut Context,
    [codec, vq_codec]: [RunOptions; 2],
    (judge, tokenizer): (&Judge, &TextTokenizer),
) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let vocabulary = tokenizer.vocabulary();
    let Some(encoded) = latentlm_train::encode(recipe.mixed.image(), codec)? else {
        return Ok(false);
    };
    let Encoded {
        codec,
        cache,
        whitening,
    } = encoded;
    let gallery = Gallery::open(&codec, &context.data, &context.device)?;
    let latents = Latents { codec, cache };
    let common = Common {
        coding: &latents,
        judge,
        gallery: &gallery,
        tokenizer,
    };
    let latentlm = |device: &Device| {
        let model = recipe.mixed.model(vocabulary).init(device);
        model.with_whitening(PICTURES, whitening)
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
