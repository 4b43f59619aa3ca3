//! The vector-quantized codec's stage.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm::codec_image::{CodecLoss, CodecLossOutput, PatchDiscriminator, discriminator_loss};
use latentlm::core::bundle::{BundleWriter, load_module};
use latentlm_baselines::{VqCodec, VqLoss, perplexity};
use latentlm_kernels::ROWS_A_PART;
use latentlm_pipelines::{
    HostBatch, ImageData, ema_file, evenly, image_grid, read_evenly, save_png,
};
use latentlm_train::stage::{self, Rivals, Shares, Stage, mean, number};
use latentlm_train::{Batches, StepReport, TrainError};

use super::recipe::{CompareRecipe, wrong};
use super::rival::Codes;
use super::run::Context;

const STAGE: &str = "vq-codec";
/// Pictures whose reconstruction is logged and drawn.
const SHOWN: usize = 64;
/// Training pictures that tell which codes are used.
const PROBED: usize = 1000;
/// Pictures encoded at once.
const BATCH: usize = 100;

struct VqStage<'a> {
    context: &'a mut Context,
    rivals: Rivals<VqCodec, PatchDiscriminator>,
    loss: CodecLoss,
    batches: Batches,
    /// `[B, C, H, W]`
    probe: Tensor<4>,
    device: Device,
}

/// Trains the vector-quantized codec as the image codec is trained, or takes up where it was left.
/// Returns whether it is finished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub(crate) fn train(context: &mut Context) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let (image, config) = (&recipe.image, &recipe.image.codec_train);
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(image.seed, "vq-codec-init", 0).seed());
    let codec = recipe.vq_codec().init(&device);
    let channels = image.codec.channels;
    let judge = image.codec_loss.init_discriminator(channels, &device);
    let start = image.codec_loss.adversarial_start;
    let mut rivals = Rivals::new(codec, judge, start, config, context.spread());
    if let Some((folder, manifest)) = context.run.latest(STAGE)? {
        rivals.restore(&folder, manifest.step)?;
    }
    let pictures = context.data.train.clone();
    let first = rivals.codec.step();
    let stage = VqStage {
        loss: recipe
            .vq_codec()
            .init_loss(&image.codec_loss, &device)
            .map_err(wrong)?,
        probe: read_evenly(&pictures, PROBED, &context.device)?,
        batches: Batches::start(pictures, &image.data, config, image.seed, first),
        context,
        rivals,
        device,
    };
    stage::run(stage, config)
}

impl VqStage<'_> {
    /// Moves codes that no probed picture uses to where latents are; at the very beginning all codes.
    /// Which they are follows from the weights alone, so that a resume does the same.
    fn restart(&mut self, step: u64) {
        let codec = self.rivals.codec.model().valid();
        let latents = codec.encode_latents(self.probe.clone());
        let usage = codec
            .quantizer
            .usage(codec.quantizer.nearest(latents.clone()));
        let unused = |&code: &usize| step == 0 || usage[code] == 0;
        let moved: Vec<usize> = (0..usage.len()).filter(unused).collect();
        let mut random = RandomStream::for_step(self.context.recipe.image.seed, "codes", step);
        let latents = Tensor::from_inner(latents);
        let restart = |codec: VqCodec| codec.restart(&moved, latents, &mut random);
        self.rivals.codec.edit(restart);
    }
}

/// What one thread does of a batch: its share of the codec's loss, what the log takes, and what
/// discriminators see.
fn part_loss(
    codec: &VqCodec,
    judge: Option<&PatchDiscriminator>,
    (share, pictures, loss): (f64, Tensor<4>, CodecLoss),
) -> (Tensor<1>, (f64, VqLoss), (f64, Tensor<4>, Tensor<4>)) {
    let output = codec.loss(&loss, pictures.clone(), judge);
    let total = output.total.clone().mul_scalar(share);
    let decoded = output.pixels.decoded.clone();
    (total, (share, output), (share, pictures, decoded))
}

impl Stage for VqStage<'_> {
    type Recipe = CompareRecipe;
    type Data = ImageData;
    type Output = Shares<VqLoss>;
    const NAME: &'static str = STAGE;
    const TABLE: &'static str = "codec_train";

    fn context(&mut self) -> &mut Context {
        self.context
    }

    fn step(&self) -> u64 {
        self.rivals.codec.step()
    }

    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError> {
        let (recipe, step) = (&self.context.recipe, self.step());
        let begins = round.is_multiple_of(recipe.image.codec_train.grad_accumulation as u64);
        if begins && step.is_multiple_of(recipe.vq.restart_every) {
            self.restart(step);
        }
        let Some(batch) = self.batches.next() else {
            let run = &self.context.run;
            return Err(run.error("the thread that decodes pictures ended").into());
        };
        let pictures = batch?.tensor(&self.device);
        let batch = pictures.dims()[0];
        let parts = self
            .context
            .spread()
            .parts(&self.context.device, batch, ROWS_A_PART)
            .into_iter()
            .map(|rows| {
                let share = rows.len() as f64 / batch as f64;
                let own = pictures.clone().narrow(0, rows.start, rows.len());
                (share, own, self.loss.clone())
            });
        Ok(self
            .rivals
            .backward_parts(parts.collect(), part_loss, |judge, (share, real, fake)| {
                discriminator_loss(judge, real, fake).mul_scalar::<f64>(share)
            }))
    }

    fn values(output: Self::Output) -> Vec<(&'static str, f64)> {
        let pixels = |part: fn(&CodecLossOutput) -> Option<&Tensor<1>>| {
            mean(&output, |loss: &VqLoss| part(&loss.pixels))
        };
        let values = [
            ("loss", mean(&output, |loss| Some(&loss.total))),
            ("reconstruction", pixels(|part| Some(&part.reconstruction))),
            (
                "commitment",
                mean(&output, |loss| Some(&loss.quantized.commitment_loss)),
            ),
            ("lpips", pixels(|part| part.perceptual.as_ref())),
            ("adversarial", pixels(|part| part.adversarial.as_ref())),
        ];
        values
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// Held-out pictures and what the averaged codec makes of them, the PSNR of that, and how many
    /// codes are in use.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let (test, device) = (&self.context.data.test, &self.context.device);
        let pictures = read_evenly(test, SHOWN, device)?;
        let codec = self.rivals.codec.ema();
        let decoded = codec.decode(codec.encode(pictures.clone()));
        let error = (decoded.clone().clamp(-1.0, 1.0) - pictures.clone())
            .square()
            .mean();
        let used = codec.quantizer.usage(codec.encode(self.probe.clone()));
        let values = [
            ("held_out_psnr_db", -10.0 * (number(error) / 4.0).log10()),
            ("code_perplexity", perplexity(&used)),
        ];
        self.context.log(STAGE, step, &values)?;
        let (path, shown) = (format!("samples/{STAGE}-step-{step}.png"), 16);
        let shown = evenly(shown, pictures.dims()[0]);
        let rows = [pictures, decoded].map(|all| {
            let own = shown.iter().map(|&index| all.clone().narrow(0, index, 1));
            Tensor::cat(own.collect(), 0)
        });
        let grid = image_grid(Tensor::cat(rows.to_vec(), 0), shown.len(), 2);
        Ok(save_png(&grid, &self.context.run.file(&path))?)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let manifest = self.context.manifest(STAGE, step);
        let save = |bundle: &BundleWriter| self.rivals.save(bundle);
        let folder = self.context.run.checkpoint(&manifest, save)?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}

/// The finished codec's averaged weights, and the codes of all training pictures; once more mirrored
/// where the recipe mirrors.
///
/// # Errors
/// If there is no checkpoint, it does not fit the recipe, or a picture can't be decoded.
pub(crate) fn encode_all(context: &Context) -> Result<Codes, TrainError> {
    let (folder, manifest) = context.run.require(STAGE)?;
    let codec = manifest.recipe.vq_codec().init(&context.device);
    let codec = load_module(codec, &folder.join(ema_file("model")))?;
    let train = &context.data.train;
    let mirrored: &[bool] = match manifest.recipe.image.data.horizontal_flip {
        true => &[false, true],
        false => &[false],
    };
    let (mut codes, mut labels) = (Vec::new(), Vec::new());
    for &flip in mirrored {
        for start in (0..train.len()).step_by(BATCH) {
            let indices: Vec<usize> = (start..train.len().min(start + BATCH)).collect();
            let batch = HostBatch::read(train, &indices, &vec![flip; indices.len()])?;
            let encoded = codec.encode(batch.tensor(&context.device));
            let data = encoded.into_data().convert::<i64>();
            let values: Vec<i64> = data.try_into_vec().unwrap_or_default();
            codes.extend(values);
            labels.extend(indices.iter().map(|&index| train.label(index)));
        }
    }
    Ok(Codes {
        codec,
        codes,
        labels,
    })
}
