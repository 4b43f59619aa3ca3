//! The second stage: the language model of classes and the codec's latents of their pictures.

use burn::tensor::Device;
use latentlm::codec_image::Codec;
use latentlm::sequence::Document;
use latentlm::{LatentCodec, LatentLm, RandomStream};
use latentlm_data::BatchOrder;
use latentlm_pipelines::{ImageData, ImageRecipe, StageConfig, image_grid, load_codec, save_png};

use super::run::Context;
use super::stage_codec;
use crate::context::RunOptions;
use crate::error::TrainError;
use crate::latents::{self, Coding, Encoded};
use crate::lm_stage::{self, Corpus, LmParts, LmPlan, LmRecipe, LmTask};

/// Pictures whose latents the whitening is measured on, at most.
const MEASURED: usize = 10_000;
/// Classes that are drawn as training goes, at most.
const SHOWN: usize = 20;

impl LmRecipe for ImageRecipe {
    fn lm(&self) -> LmPlan<'_> {
        LmPlan::new(&self.lm, &self.lm_train, None)
    }
}

/// Classes and their pictures.
#[derive(Debug, Clone)]
pub struct Classes {
    /// The class of each picture.
    pub labels: Vec<u32>,
    /// How many classes there are; the one behind the last stands for none.
    pub classes: usize,
    /// Latents a picture.
    pub tokens: usize,
}

impl Corpus for Classes {
    fn document(&self, sample: usize, dropped: bool) -> Document {
        let null = self.classes as u32;
        let class = if dropped { null } else { self.labels[sample] };
        Document::of_class(class, self.tokens)
    }
}

impl Classes {
    /// What a model of them is trained with.
    pub fn parts(self, config: &StageConfig, seed: u64) -> LmParts {
        let mut order = BatchOrder::new(self.labels.len(), config.batch_size, seed);
        LmParts::new(self, move |round| order.batch(round))
    }
}

/// Training on classes and their pictures.
struct ClassTask {
    encoded: EncodedPictures,
    classes: usize,
}

/// A codec of pictures and what it makes of them.
pub type EncodedPictures = Encoded<Codec, 4>;

/// Trains the language model or takes up where it was left. Returns whether it is finished.
///
/// # Errors
/// If the codec or data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    lm_stage::train::<ClassTask>(context, |context, _| {
        let encoded = encoded(context)?;
        let classes = Classes {
            labels: encoded.cache.labels.clone(),
            classes: context.data.train.classes().len(),
            tokens: context.recipe.tokens(),
        };
        let task = ClassTask {
            classes: classes.classes,
            encoded,
        };
        let (config, seed) = (&context.recipe.lm_train, context.recipe.seed);
        Ok((task, classes.parts(config, seed)))
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
) -> Result<Option<EncodedPictures>, TrainError> {
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
fn encoded(context: &mut Context) -> Result<EncodedPictures, TrainError> {
    let codec = load_codec(&context.run, &context.device)?;
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

    fn coding(&self) -> &dyn Coding {
        &self.encoded
    }

    /// A grid of samples, a row a class, from the same noise each time.
    fn show(&self, context: &mut Context, model: &LatentLm, step: u64) -> Result<(), TrainError> {
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
}
