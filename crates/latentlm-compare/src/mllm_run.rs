//! LatentLM and its rivals on documents of text and pictures: the same data, codec, steps and number
//! of parameters.

use std::time::Instant;

use latentlm::LatentLm;
use latentlm_baselines::{MllmTransfusion, MllmVqLm};
use latentlm_data::{Caption, TextTokenizer};
use latentlm_eval::{Gallery, Judge, by_chance, majority};
use latentlm_pipelines::{ImageData, MllmData, evenly, read_evenly};
use latentlm_train::{RunEnd, RunOptions, TrainError, encode};

use super::mllm::Documents;
use super::mllm_recipe::CompareMllmRecipe;
use super::result;
use super::result::Comparison;
use super::run::{self, CODEC};
use super::stage;
use super::stage::Common;
use super::stage_vq;

/// A comparison's run.
type Context = latentlm_train::Context<CompareMllmRecipe, MllmData>;

/// The folder of the run of the codec with a codebook.
const VQ_CODEC: &str = "vq-codec";

/// Trains LatentLM, Transfusion and the vector-quantized model on text and pictures, or continues, and
/// writes `compare.json`, `compare.md` and `compare.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a rival has too many or too few parameters, a loss is not
/// finite, or a file can't be written.
pub fn compare_mllm(recipe: CompareMllmRecipe, options: RunOptions) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    let options = options.within("mllm.");
    let data = MllmData::open(&recipe.mllm)?;
    let tokenizer = data.tokenizer(&recipe.mllm)?;
    let parameters = recipe.parameters(tokenizer.vocabulary(), &options.device)?;
    let parts = [CODEC, VQ_CODEC].map(|name| options.part(name));
    let mut context = Context::open(recipe, data, options)?;
    let judge = run::judge(&context.run, &context.data.pictures, &context.device)?;
    if !train_all(&mut context, parts, (&judge, tokenizer))? {
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
    comparison.end(&context.run, started)
}

/// Codecs and models, one after the other. Returns whether all are finished.
fn train_all(
    context: &mut Context,
    [codec, vq_codec]: [RunOptions; 2],
    (judge, tokenizer): (&Judge, TextTokenizer),
) -> Result<bool, TrainError> {
    let Some(encoded) = encode(context.recipe.mllm.image(), codec)? else {
        return Ok(false);
    };
    let gallery = Gallery::open(&encoded.codec, &context.data, &context.device)?;
    let subject = Documents::new(context, tokenizer, gallery)?;
    let common = Common {
        subject: &subject,
        judge,
    };
    let finished = stage::train::<Documents, LatentLm>(context, &common, &encoded)?
        && stage::train::<Documents, MllmTransfusion>(context, &common, &encoded)?;
    if !finished {
        return Ok(false);
    }
    let images = context.recipe.images();
    let pictures = ImageData::open(&images.image)?;
    let mut codes = run::Context::open(images, pictures, vq_codec)?;
    if !stage_vq::train(&mut codes)? {
        return Ok(false);
    }
    let codes = stage_vq::encode_all(&codes)?;
    stage::train::<Documents, MllmVqLm>(context, &common, &codes)
}
