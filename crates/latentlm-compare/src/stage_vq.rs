//! The vector-quantized codec's stage.

use std::path::PathBuf;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm::core::bundle::load_module;
use latentlm::core::{CodecObjectiveConfig, LatentCodecConfig};
use latentlm_baselines::{VqCodec, VqObjective};
use latentlm_eval::{EvalError, perplexity};
use latentlm_pipelines::{
    HostBatch, ImageData, RunFolder, StageConfig, Wanted, ema_file, evenly, image_grid,
    read_evenly, save_png,
};
use latentlm_train::{
    Ahead, CodecSetup, CodecTask, LatentCache, Result, TrainError, Trainer, batches, each_batch,
    psnr_db, train_codec,
};

use super::recipe::{CompareRecipe, wrong};
use super::result::report_of_stages;
use super::rival::{Codes, Run, numbers};
use super::stage::select;

type Context = Run<ImageData>;

const STAGE: &str = "vq-codec";
/// Held-out pictures whose reconstruction is measured.
const MEASURED: usize = 64;
/// Measured pictures that are saved with their reconstruction.
const SHOWN: usize = 16;
/// Training pictures that tell which codes are used.
const PROBED: usize = 1000;

/// Training of the vector-quantized codec.
struct VqTask {
    batches: Ahead<HostBatch>,
    /// `[B, C, H, W]`
    probe: Tensor<4>,
}

/// Trains the vector-quantized codec as the image codec is trained, or continues, and encodes all training
/// pictures; once more mirrored where the recipe mirrors. `None` if it was stopped.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be read or written.
pub(crate) fn encode(context: &mut Context) -> Result<Option<Codes>> {
    if !train_codec::<VqTask, 4>(context)? {
        return Ok(None);
    }
    let found = context.run.require(STAGE, Wanted::Weights)?;
    let codec = found.manifest.recipe.vq_codec().init(&context.device);
    let codec = load_module(codec, &found.folder.join(ema_file("model")))?;
    let (recipe, mut cache) = (&context.recipe.image, LatentCache::default());
    let (data, options) = (&context.data, &context.options);
    let encoded = each_batch(recipe, data, options, |pictures, labels| {
        cache.add(numbers(codec.encode(pictures)), labels);
    });
    match encoded {
        Err(TrainError::Stopped) => Ok(None),
        encoded => encoded.map(|()| Some(Codes { codec, cache })),
    }
}

/// Writes the report of a run that trains this codec alone.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub(crate) fn report(
    run: &RunFolder<CompareRecipe>,
    recipe: &CompareRecipe,
) -> Result<PathBuf, EvalError> {
    report_of_stages(run, recipe, &[STAGE])
}

impl CodecTask<4> for VqTask {
    type Recipe = CompareRecipe;
    type Data = ImageData;
    type Objective = VqObjective;
    const NAME: &'static str = STAGE;

    fn config(recipe: &CompareRecipe) -> &StageConfig {
        &recipe.image.codec_train
    }

    fn setup(recipe: &CompareRecipe, device: &Device) -> Result<CodecSetup<VqObjective, 4>> {
        let (config, image) = (recipe.vq_codec(), &recipe.image);
        Ok(CodecSetup {
            codec: config.init(device),
            discriminator: image.codec_loss.init_discriminator(&image.codec, device),
            discriminator_start: image.codec_loss.discriminator_start(),
            objective: config
                .init_objective(&image.codec_loss, device)
                .map_err(wrong)?,
            latents: image.codec.spec(),
        })
    }

    fn open(context: &mut Context, first_step: u64) -> Result<Self> {
        let (image, train) = (&context.recipe.image, context.data.train.clone());
        let probe = read_evenly(&train, PROBED, &context.device)?;
        let batches = batches(train, image, first_step);
        Ok(Self { batches, probe })
    }

    fn batch(&mut self, context: &Context, _round: u64, device: &Device) -> Result<Tensor<4>> {
        Ok(self.batches.next_batch(&context.run)?.tensor(device))
    }

    /// Moves codes that no probed picture uses to latents of pictures; at the very beginning all codes.
    /// The choice follows from the weights alone, so that a resume does the same.
    fn before_step(&mut self, context: &Context, codec: &mut Trainer<VqCodec>) {
        let (recipe, step) = (&context.recipe, codec.step());
        if !step.is_multiple_of(recipe.vq.restart_every) {
            return;
        }
        let live = codec.model().valid();
        let latents = live.encode_latents(self.probe.clone());
        let nearest = live.quantizer.nearest(latents.clone());
        let usage = live.quantizer.usage(nearest);
        let moved: Vec<usize> = (0..usage.len())
            .filter(|&code| step == 0 || usage[code] == 0)
            .collect();
        let mut random = RandomStream::for_step(recipe.image.seed, "codes", step);
        let latents = Tensor::from_inner(latents);
        codec.edit(|codec| codec.restart(&moved, latents, &mut random));
    }

    /// Saves held-out pictures and their reconstructions. Logs the PSNR of these, and how many codes are in
    /// use.
    fn show(&mut self, context: &mut Context, codec: &VqCodec, step: u64) -> Result<()> {
        let pictures = read_evenly(&context.data.test, MEASURED, &context.device)?;
        let decoded = codec.decode(codec.encode(pictures.clone()));
        let used = codec.quantizer.usage(codec.encode(self.probe.clone()));
        let psnr = psnr_db(decoded.clone(), pictures.clone());
        let values = [
            ("held_out_psnr_db", psnr),
            ("code_perplexity", perplexity(&used)),
        ];
        context.log(STAGE, step, &values)?;
        let shown = evenly(SHOWN, pictures.dims()[0]);
        let rows = vec![select(&pictures, &shown), select(&decoded, &shown)];
        let grid = image_grid(Tensor::cat(rows, 0), shown.len(), 2);
        let path = context.sample_file(STAGE, step, "png");
        Ok(save_png(&grid, &path)?)
    }
}
