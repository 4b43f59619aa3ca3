//! The second stage: the language model of classes and the codec's latents of their pictures.

use burn::tensor::{Device, Tensor};
use latentlm::adapters::Whitening;
use latentlm::codec_image::Codec;
use latentlm::core::bundle::BundleWriter;
use latentlm::sequence::Document;
use latentlm::{LatentCodec, LatentLm, RandomStream};
use latentlm_data::BatchOrder;
use latentlm_pipelines::{
    ImageData, ImageRecipe, LmConfig, StageConfig, image_grid, load_image_codec, save_png,
};

use super::run::Context;
use super::stage_codec;
use crate::context::RunOptions;
use crate::error::TrainError;
use crate::latents::{self, Encoded};
use crate::lm_stage::{self, LmRecipe, LmTask, Order};

/// Pictures whose latents the whitening is measured on, at most.
const MEASURED: usize = 10_000;
/// Classes that are drawn as training goes, at most.
const SHOWN: usize = 20;

impl LmRecipe for ImageRecipe {
    fn lm(&self) -> &LmConfig {
        &self.lm
    }

    fn lm_train(&self) -> &StageConfig {
        &self.lm_train
    }
}

/// Training on classes and their pictures.
struct ClassTask {
    encoded: Encoded<Codec>,
    classes: usize,
}

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the codec or data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    lm_stage::train::<ClassTask>(context, |context, _| {
        Ok(ClassTask {
            encoded: encoded(context)?,
            classes: context.data.train.classes().len(),
        })
    })
}

/// Trains the codec as an image run of its own, or continues, and encodes the pictures. `None` if it
/// was stopped.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a file can't be written.
pub fn encode(
    recipe: ImageRecipe,
    options: RunOptions,
) -> Result<Option<Encoded<Codec>>, TrainError> {
    let data = ImageData::open(&recipe)?;
    let mut context = Context::open(recipe, data, options)?;
    if !stage_codec::train(&mut context)? {
        return Ok(None);
    }
    let encoded = encoded(&mut context)?;
    context.data.list_left_out(&context.run)?;
    Ok(Some(encoded))
}

/// A run's finished codec and what it makes of the training pictures.
fn encoded(context: &mut Context) -> Result<Encoded<Codec>, TrainError> {
    let codec = load_image_codec(&context.run, &context.device)?;
    let cache = latents::cached(context, |context, cache| {
        let (recipe, data) = (&context.recipe, &context.data);
        stage_codec::each_batch(recipe, data, &context.device, |pictures, labels| {
            latents::encode(&codec, pictures, labels, cache);
        })
    })?;
    let first = |lengths: &[u32], _: &mut RandomStream| {
        (0..lengths.len().min(MEASURED)).collect::<Vec<usize>>()
    };
    Encoded::measure(codec, cache, first, context.recipe.seed, &context.device)
}

impl LmTask for ClassTask {
    type Recipe = ImageRecipe;
    type Data = ImageData;
    type Model = LatentLm;

    fn init(&self, recipe: &ImageRecipe, device: &Device) -> LatentLm {
        recipe.model(self.classes).init(device)
    }

    fn whitening(&self) -> Option<Whitening> {
        Some(self.encoded.whitening)
    }

    fn order(&self, recipe: &ImageRecipe) -> Order {
        let pictures = self.encoded.cache.len();
        let order = BatchOrder::new(pictures, recipe.lm_train.batch_size, recipe.seed);
        Order::Batches(order)
    }

    fn inputs(
        &self,
        samples: &[usize],
        random: &mut RandomStream,
        device: &Device,
    ) -> Vec<Tensor<2>> {
        vec![self.encoded.draw(samples, random, device)]
    }

    /// The class behind the last stands for none.
    fn document(&self, sample: usize, dropped: bool) -> Document {
        let cache = &self.encoded.cache;
        let class = if dropped {
            self.classes as u32
        } else {
            cache.labels[sample]
        };
        Document::of_class(class, cache.lengths[sample] as usize)
    }

    fn values(_: &ImageRecipe, _: f64, latents: f64) -> Vec<(&'static str, f64)> {
        vec![("loss", latents)]
    }

    /// A grid of samples, a row a class, from the same noise each time.
    fn show(
        &mut self,
        context: &mut Context,
        model: &LatentLm,
        step: u64,
    ) -> Result<(), TrainError> {
        let recipe = &context.recipe;
        let per_class = recipe.sample.per_class;
        let count = self.classes.min(SHOWN) * per_class;
        let labels: Vec<u32> = (0..count).map(|index| (index / per_class) as u32).collect();
        let mut random = RandomStream::for_step(recipe.seed, "samples", 0);
        let latents = model.draw_images(&labels, &recipe.sample_options(), &mut random);
        let grid = image_grid(self.encoded.codec.decode(latents), per_class, 2);
        let path = context.run.file(&format!("samples/lm-step-{step}.png"));
        Ok(save_png(&grid, &path)?)
    }

    fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError> {
        self.encoded.save(bundle)
    }
}
