//! Runs of pictures: the codec of pictures, then the language model of classes and the codec's latents of
//! their pictures.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::codec_image::{Codec, CodecLossConfig};
use latentlm::core::CodecObjectiveConfig;
use latentlm::sequence::Document;
use latentlm::{LatentCodec, RandomStream};
use latentlm_data::BatchOrder;
use latentlm_eval::write_image_report;
use latentlm_pipelines::{
    HostBatch, ImageData, ImagePipeline, ImageRecipe, PipelineError, RunFolder, StageConfig,
    TrainingData, Wanted, image_grid, load_codec, read_readable, save_png,
};

use super::batches::batches;
use crate::adversarial::CodecSetup;
use crate::ahead::Ahead;
use crate::codec_stage::{self, CodecTask, codec_setup};
use crate::context::{self, RunEnd, WholeReport};
use crate::error::{Result, TrainError};
use crate::latents::{self, Encoded};
use crate::lm_recipe::{LmPlan, LmRecipe, STAGE};
use crate::lm_stage::{self, Corpus, LmSetup, PipelineTask};
use crate::memory::{Demand, Demanding, check_demands};
use crate::options::RunOptions;
use crate::precision;
use crate::progress::Encoding;
use crate::run::Modality;
use crate::stage::number;
use crate::teacher;

/// A run of images.
type Context = context::Context<ImageRecipe, ImageData>;
/// Training on classes and their pictures.
type ClassTask = PipelineTask<ImageRecipe, ImageData, (), 4>;

/// Held-out pictures whose reconstruction is measured.
const RECONSTRUCTED: usize = 64;
/// Held-out pictures that are shown above their reconstructions.
const SHOWN: usize = 16;
/// Pictures that are encoded at once.
const BATCH: usize = 100;
/// Pictures whose latents the whitening is measured on, at most.
const MEASURED: usize = 10_000;
/// Classes that are drawn as training goes, at most.
const CLASSES: usize = 20;

/// Training of a codec of pictures.
struct PictureTask(Ahead<HostBatch>);

impl CodecTask<4> for PictureTask {
    type Recipe = ImageRecipe;
    type Data = ImageData;
    type Objective = <CodecLossConfig as CodecObjectiveConfig<4>>::Objective;

    fn config(recipe: &ImageRecipe) -> &StageConfig {
        &recipe.codec_train
    }

    fn setup(recipe: &ImageRecipe, device: &Device) -> Result<CodecSetup<Self::Objective, 4>> {
        let setup = codec_setup(&recipe.codec, &recipe.codec_loss, device);
        Ok(setup.map_err(PipelineError::from)?)
    }

    fn open(context: &mut Context, first_step: u64) -> Result<Self> {
        let train = context.data.train.clone();
        Ok(Self(batches(train, &context.recipe, first_step)))
    }

    fn batch(&mut self, context: &Context, _round: u64, device: &Device) -> Result<Tensor<4>> {
        Ok(self.0.next_batch(&context.run)?.tensor(device))
    }

    /// Held-out pictures above their reconstructions, and the PSNR. Pictures that turn out to be broken are
    /// left out.
    fn show(&mut self, context: &mut Context, codec: &Codec, step: u64) -> Result<()> {
        let count = RECONSTRUCTED.min(context.data.test.len());
        let indices: Vec<usize> = (0..count).collect();
        let (pictures, read) = read_readable(&context.data.test, &indices, &context.device);
        if read.is_empty() {
            return Ok(());
        }
        let decoded = codec.decode(codec.encode(pictures.clone()).mode());
        let psnr = psnr_db(decoded.clone(), pictures.clone());
        context.log(Self::NAME, step, &[("held_out_psnr_db", psnr)])?;
        let shown = read.len().min(SHOWN);
        let rows = [pictures, decoded].map(|all| all.narrow(0, 0, shown));
        let grid = image_grid(Tensor::cat(rows.to_vec(), 0), shown, 2);
        let path = context.sample_file(Self::NAME, step, "png");
        Ok(save_png(&grid, &path)?)
    }
}

/// Peak signal-to-noise ratio of all pictures together, in decibels.
///
/// # Shapes
/// - `decoded`, `pictures`: `[B, C, H, W]`, in `[-1, 1]`; the first is clamped to that
pub fn psnr_db(decoded: Tensor<4>, pictures: Tensor<4>) -> f64 {
    let error = (decoded.clamp(-1.0, 1.0) - pictures).square().mean();
    -10.0 * (number(error) / 4.0).log10()
}

/// Calls `each` with batches of all training pictures and their classes; once more with mirrored pictures
/// where the recipe mirrors. Others stand in for pictures that can't be decoded. The work ends with a stop.
///
/// # Shapes
/// - arguments of `each`: `[B, C, H, W]`, in `[-1, 1]`; `B`
///
/// # Errors
/// If none of many pictures can be decoded, or [`TrainError::Stopped`].
pub fn each_batch(
    recipe: &ImageRecipe,
    data: &ImageData,
    options: &RunOptions,
    mut each: impl FnMut(Tensor<4>, &[u32]),
) -> Result<()> {
    let train = &data.train;
    // The second pass is the mirrored one.
    let passes = &[false, true][..=usize::from(recipe.data.horizontal_flip)];
    let mut encoding = Encoding::begin(passes.len() * train.len(), options);
    for &flip in passes {
        for start in (0..train.len()).step_by(BATCH) {
            let indices: Vec<usize> = (start..train.len().min(start + BATCH)).collect();
            let flips = vec![flip; indices.len()];
            let mut random = RandomStream::for_step(recipe.seed, "stand-in-latents", start as u64);
            let batch = HostBatch::read_or_draw(train, &indices, &flips, &mut random)?;
            let labels: Vec<u32> = indices.iter().map(|&index| train.label(index)).collect();
            each(batch.tensor(&options.device), &labels);
            encoding.count(labels.len())?;
        }
    }
    Ok(())
}

impl Demanding for ImageRecipe {
    fn demands(&self, device: &Device) -> [Demand; 2] {
        let spec = self.image_spec();
        let picture = [spec.channels, spec.height, spec.width];
        let mut codec =
            Demand::of_codec(&self.codec, &self.codec_loss, picture, &["codec.*"], device);
        codec.batch_size = self.codec_train.batch_size as u64;
        [codec, Demand::of_lm(self, self.tokens(), device)]
    }
}

impl LmRecipe for ImageRecipe {
    fn lm(&self) -> LmPlan<'_> {
        LmPlan::new(&self.lm, &self.lm_train, None)
    }
}

/// Classes and their pictures.
struct Classes {
    /// The class of each picture.
    labels: Vec<u32>,
    /// How many classes there are; the one behind the last stands for none.
    classes: usize,
    /// Latents a picture.
    tokens: usize,
}

impl Corpus for Classes {
    fn document(&self, sample: usize, dropped: bool) -> Document {
        let null = self.classes as u32;
        let class = if dropped { null } else { self.labels[sample] };
        Document::of_class(class, self.tokens)
    }
}

/// Setup of a model that learns encoded pictures of `classes` classes.
pub fn class_setup(encoded: &EncodedPictures, classes: usize, recipe: &ImageRecipe) -> LmSetup {
    let corpus = Classes {
        labels: encoded.cache.labels.clone(),
        classes,
        tokens: recipe.tokens(),
    };
    let batch_size = recipe.lm_train.batch_size;
    let mut order = BatchOrder::new(corpus.labels.len(), batch_size, recipe.seed);
    LmSetup::new(corpus, move |round| order.batch(round))
}

/// A codec of pictures and what it makes of them.
pub type EncodedPictures = Encoded<Codec, 4>;

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_image(recipe: ImageRecipe, options: RunOptions) -> Result<RunEnd> {
    let modality = Modality::<ImageRecipe, ImageData> {
        open: ImageData::open,
        has_codec: teacher::has_codec,
        adopt: teacher::adopt_codec,
        train: |context| {
            let coded = codec_stage::train::<PictureTask, 4>(context)?;
            Ok(coded && lm_stage::train::<ClassTask>(context, open)?)
        },
        report: write_image_report,
        samples: "png",
        train_samples: |data| data.train.len(),
    };
    modality.run(recipe, options)
}

/// Trains the language model of a recipe, or continues a run that has no codec of its own: its pictures are
/// encoded already. Returns whether it is finished.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_image_lm(
    recipe: ImageRecipe,
    encoded: &EncodedPictures,
    options: RunOptions,
) -> Result<bool> {
    precision::check(recipe.lm.precision, &options)?;
    let asked = options.clone();
    let opened = Context::open(recipe, options, |recipe| {
        let data = ImageData::open(recipe)?;
        let [_, of_lm] = recipe.demands(&asked.device);
        check_demands(&[of_lm], data.train.len(), &asked.device, &asked.within)?;
        Ok(data)
    });
    let mut context = match opened {
        Err(TrainError::Stopped) => return Ok(false),
        opened => opened?,
    };
    context.report = Some(write_image_report);
    let encoded = encoded.clone();
    let finished =
        lm_stage::train::<ClassTask>(&mut context, |context, _| Ok(task_of(context, encoded)))?;
    // As in a whole run: a finished stage keeps no recipe.
    context.run.set_recipe(&context.recipe)?;
    context.data.list_left_out(&context.run)?;
    Ok(finished)
}

/// Gives a run of [`train_image_lm`] the codec that encoded its pictures, that of the run `from`, if it has none yet: with
/// it the run can be begun from and continued by itself.
///
/// # Errors
/// If a folder is no run of pictures, the other run has no codec, or a file can't be copied.
pub fn take_codec(run: &Path, from: &Path) -> Result<()> {
    let (run, _) = RunFolder::<ImageRecipe>::open(run)?;
    if run.latest(teacher::CODEC, Wanted::Weights)?.is_some() {
        return Ok(());
    }
    let (from, _) = RunFolder::<ImageRecipe>::open(from)?;
    // The latents are made again by a run that needs them.
    teacher::copy_codec(&run, &from, false)
}

fn open(context: &mut Context, _: Option<&Path>) -> Result<(ClassTask, LmSetup)> {
    let encoded = encoded(context)?;
    Ok(task_of(context, encoded))
}

/// The task to learn encoded pictures.
fn task_of(context: &Context, encoded: EncodedPictures) -> (ClassTask, LmSetup) {
    let classes = context.data.train.classes();
    let setup = class_setup(&encoded, classes.len(), &context.recipe);
    let task = ClassTask {
        encoded,
        vocabulary: classes.to_vec(),
        held_out: (),
        show,
    };
    (task, setup)
}

/// Trains the codec as an image run of its own, or continues, and encodes the pictures. `None` if it was stopped.
/// `whole_report` writes the report of the run that it is a part of, if there is one, from the codec's first
/// checkpoint on.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a file can't be written.
pub fn encode(
    recipe: ImageRecipe,
    options: RunOptions,
    whole_report: Option<WholeReport>,
) -> Result<Option<EncodedPictures>> {
    let asked = options.clone();
    let opened = Context::open(recipe, options, |recipe| {
        let data = ImageData::open(recipe)?;
        let [of_codec, _] = recipe.demands(&asked.device);
        check_demands(&[of_codec], data.train.len(), &asked.device, &asked.within)?;
        Ok(data)
    });
    let mut context = match opened {
        Err(TrainError::Stopped) => return Ok(None),
        opened => opened?,
    };
    context.report = Some(write_image_report);
    context.whole_report = whole_report;
    if !codec_stage::train::<PictureTask, 4>(&mut context)? {
        return Ok(None);
    }
    let encoded = match encoded(&mut context) {
        Err(TrainError::Stopped) => return Ok(None),
        encoded => encoded?,
    };
    context.data.list_left_out(&context.run)?;
    Ok(Some(encoded))
}

/// A run's finished codec and what it makes of the training pictures.
fn encoded(context: &mut Context) -> Result<EncodedPictures> {
    let codec = load_codec(&context.run, &context.device)?;
    let cache = latents::cached(context, |context, cache| {
        let (recipe, data) = (&context.recipe, &context.data);
        each_batch(recipe, data, &context.options, |pictures, labels| {
            cache.add(codec.encode_parameters(pictures), labels);
        })
    })?;
    let first: Vec<usize> = (0..cache.len().min(MEASURED)).collect();
    let (seed, device) = (context.recipe.seed, &context.device);
    Encoded::measure(codec, cache, |_, _| first, seed, device)
}

/// A grid of samples, a row a class, from the same noise each time.
fn show(context: &mut Context, pipeline: &ImagePipeline, _: &(), step: u64) -> Result<()> {
    let recipe = &context.recipe;
    let per_class = recipe.sample.own.per_class;
    let count = context.data.train.classes().len().min(CLASSES) * per_class;
    let labels: Vec<u32> = (0..count).map(|index| (index / per_class) as u32).collect();
    let mut random = RandomStream::for_step(recipe.seed, "samples", 0);
    let options = recipe.sample_options();
    let latents = pipeline.model.draw_images(&labels, &options, &mut random);
    let grid = image_grid(pipeline.codec.decode(latents), per_class, 2);
    Ok(save_png(&grid, &context.sample_file(STAGE, step, "png"))?)
}
