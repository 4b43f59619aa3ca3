//! The vector-quantized codec's stage.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm::core::bundle::load_module;
use latentlm::core::{CodecObjectiveConfig, LatentCodecConfig};
use latentlm_baselines::{VqCodec, VqObjective, perplexity};
use latentlm_kernels::ROWS_A_SHARD;
use latentlm_pipelines::{
    ImageData, StageConfig, ema_file, evenly, host_values, image_grid, read_evenly, save_png,
};
use latentlm_train::{
    Batches, CodecParts, CodecTask, TrainError, Trainer, each_batch, psnr_db, train_codec,
};

use super::recipe::{CompareRecipe, wrong};
use super::rival::{Codes, numbers};
use super::run::Context;

const STAGE: &str = "vq-codec";
/// Pictures whose reconstruction is logged and drawn.
const SHOWN: usize = 64;
/// Training pictures that tell which codes are used.
const PROBED: usize = 1000;

/// Training of the vector-quantized codec.
struct VqTask {
    batches: Batches,
    /// `[B, C, H, W]`
    probe: Tensor<4>,
}

/// Trains the vector-quantized codec as the image codec is trained, or takes up where it was left.
/// Returns whether it is finished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub(crate) fn train(context: &mut Context) -> Result<bool, TrainError> {
    train_codec::<VqTask, 4>(context)
}

impl CodecTask<4> for VqTask {
    type Recipe = CompareRecipe;
    type Data = ImageData;
    type Objective = VqObjective;
    const NAME: &'static str = STAGE;
    const ROWS_A_SHARD: usize = ROWS_A_SHARD;

    fn config(recipe: &CompareRecipe) -> &StageConfig {
        &recipe.image.codec_train
    }

    fn parts(
        recipe: &CompareRecipe,
        device: &Device,
    ) -> Result<CodecParts<VqObjective, 4>, TrainError> {
        let (image, config) = (&recipe.image, recipe.vq_codec());
        Ok(CodecParts {
            codec: config.init(device),
            discriminator: image.codec_loss.init_discriminator(&image.codec, device),
            discriminator_start: image.codec_loss.discriminator_start(),
            objective: config
                .init_objective(&image.codec_loss, device)
                .map_err(wrong)?,
            latents: image.codec.spec(),
        })
    }

    fn open(context: &mut Context, first_step: u64) -> Result<Self, TrainError> {
        let (image, train) = (&context.recipe.image, context.data.train.clone());
        let probe = read_evenly(&train, PROBED, &context.device)?;
        let config = &image.codec_train;
        let batches = Batches::start(train, &image.data, config, image.seed, first_step);
        Ok(Self { batches, probe })
    }

    fn batch(
        &mut self,
        context: &Context,
        _round: u64,
        device: &Device,
    ) -> Result<Tensor<4>, TrainError> {
        self.batches.next_batch(&context.run, device)
    }

    /// Moves codes that no probed picture uses to where latents are; at the very beginning all codes.
    /// Which they are follows from the weights alone, so that a resume does the same.
    fn before_step(&mut self, context: &Context, codec: &mut Trainer<VqCodec>) {
        let (recipe, step) = (&context.recipe, codec.step());
        if !step.is_multiple_of(recipe.vq.restart_every) {
            return;
        }
        let live = codec.model().valid();
        let latents = live.encode_latents(self.probe.clone());
        let nearest = live.quantizer.nearest(latents.clone());
        let usage = live.quantizer.usage(nearest);
        let unused = |&code: &usize| step == 0 || usage[code] == 0;
        let moved: Vec<usize> = (0..usage.len()).filter(unused).collect();
        let mut random = RandomStream::for_step(recipe.image.seed, "codes", step);
        let latents = Tensor::from_inner(latents);
        codec.edit(|codec| codec.restart(&moved, latents, &mut random));
    }

    /// Held-out pictures and what the codec makes of them, the PSNR of that, and how many codes are
    /// in use.
    fn show(
        &mut self,
        context: &mut Context,
        codec: &VqCodec,
        step: u64,
    ) -> Result<(), TrainError> {
        let pictures = read_evenly(&context.data.test, SHOWN, &context.device)?;
        let decoded = codec.decode(codec.encode(pictures.clone()));
        let used = codec.quantizer.usage(codec.encode(self.probe.clone()));
        let psnr = psnr_db(decoded.clone(), pictures.clone());
        let values = [
            ("held_out_psnr_db", psnr),
            ("code_perplexity", perplexity(&used)),
        ];
        context.log(STAGE, step, &values)?;
        let (path, shown) = (format!("samples/{STAGE}-step-{step}.png"), 16);
        let shown = evenly(shown, pictures.dims()[0]);
        let rows = [pictures, decoded].map(|all| {
            let own = shown.iter().map(|&index| all.clone().narrow(0, index, 1));
            Tensor::cat(own.collect(), 0)
        });
        let grid = image_grid(Tensor::cat(rows.to_vec(), 0), shown.len(), 2);
        Ok(save_png(&grid, &context.run.file(&path))?)
    }
}

/// The finished codec's averaged weights, and the codes of all training pictures; once more mirrored
/// where the recipe mirrors.
///
/// # Errors
/// If there is no checkpoint, it does not fit the recipe, or no picture can be decoded.
pub(crate) fn encode_all(context: &Context) -> Result<Codes, TrainError> {
    let (folder, manifest) = context.run.require(STAGE)?;
    let codec = manifest.recipe.vq_codec().init(&context.device);
    let codec = load_module(codec, &folder.join(ema_file("model")))?;
    let (recipe, mut codes) = (&context.recipe.image, Vec::new());
    each_batch(recipe, &context.data, &context.device, |pictures, _| {
        codes.extend(host_values(numbers(codec.encode(pictures))));
    })?;
    Ok(Codes {
        codec,
        codes,
        tokens: recipe.tokens(),
    })
}
