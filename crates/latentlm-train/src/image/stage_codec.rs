//! The first stage: the codec.

use burn::tensor::{Device, Tensor};
use latentlm::LatentCodec;
use latentlm::RandomStream;
use latentlm::codec_image::{
    Codec, CodecLoss, CodecLossOutput, PatchDiscriminator, discriminator_loss,
};
use latentlm::core::bundle::BundleWriter;
use latentlm_kernels::ROWS_A_PART;
use latentlm_pipelines::{HostBatch, ImageData, ImageRecipe, host_values, image_grid, save_png};

use super::batches::Batches;
use super::run::Context;
use crate::error::TrainError;
use crate::optimize::StepReport;
use crate::spread::Portable;
use crate::stage;
use crate::stage::{Rivals, Shares, Stage, mean};

const STAGE: &str = "codec";
/// Pictures whose reconstruction is logged and drawn.
const SHOWN: usize = 64;

struct CodecStage<'a> {
    context: &'a mut Context,
    rivals: Rivals<Codec, PatchDiscriminator>,
    loss: CodecLoss,
    batches: Batches,
    device: Device,
}

/// Trains the codec or takes up where it was left. Returns whether it is finished: a stop leaves
/// it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub fn train(context: &mut Context) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let config = &recipe.codec_train;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "codec-init", 0).seed());
    let codec = recipe.codec.init(&device);
    let discriminator = recipe
        .codec_loss
        .init_discriminator(recipe.codec.channels, &device);
    let start = recipe.codec_loss.adversarial_start;
    let mut rivals = Rivals::new(codec, discriminator, start, config, context.spread());
    if let Some((folder, manifest)) = context.run.latest(STAGE)? {
        rivals.restore(&folder, manifest.step)?;
    }
    let train = context.data.train.clone();
    let first = rivals.codec.step();
    let stage = CodecStage {
        loss: recipe.codec_loss.init(&device)?,
        batches: Batches::start(train, &recipe.data, config, recipe.seed, first),
        context,
        rivals,
        device,
    };
    stage::run(stage, config)
}

/// What one thread does of a batch.
struct Part {
    /// Of the batch.
    share: f64,
    /// `[B, C, H, W]`
    pictures: Tensor<4>,
    /// Of the noise, `[B]`.
    scale: Tensor<1>,
    /// `[B, T, Z]`
    noise: Tensor<3>,
    loss: CodecLoss,
}

impl Portable for Part {
    fn to_device(self, device: &Device) -> Self {
        Self {
            share: self.share,
            pictures: self.pictures.to_device(device),
            scale: self.scale.to_device(device),
            noise: self.noise.to_device(device),
            loss: self.loss.to_device(device),
        }
    }
}

impl Part {
    /// Its share of the codec's loss, what the log takes, and what discriminators see.
    fn codec_loss(
        codec: &Codec,
        judge: Option<&PatchDiscriminator>,
        part: Self,
    ) -> (
        Tensor<1>,
        (f64, CodecLossOutput),
        (f64, Tensor<4>, Tensor<4>),
    ) {
        let (share, pictures) = (part.share, part.pictures);
        let posterior = codec.encode(pictures.clone());
        let latents = posterior.sample(part.scale, part.noise);
        let output = part
            .loss
            .forward(codec, pictures.clone(), &posterior, latents, judge);
        let total = output.total.clone().mul_scalar(share);
        let decoded = output.decoded.clone();
        (total, (share, output), (share, pictures, decoded))
    }
}

impl Stage for CodecStage<'_> {
    type Recipe = ImageRecipe;
    type Data = ImageData;
    type Output = Shares<CodecLossOutput>;
    const NAME: &'static str = STAGE;
    const TABLE: &'static str = "codec_train";

    fn context(&mut self) -> &mut Context {
        self.context
    }

    fn step(&self) -> u64 {
        self.rivals.codec.step()
    }

    fn round(&mut self, round: u64) -> Result<(Option<StepReport>, Self::Output), TrainError> {
        let Some(batch) = self.batches.next() else {
            let run = &self.context.run;
            return Err(run.error("the thread that decodes pictures ended").into());
        };
        let pictures = batch?.tensor(&self.device);
        let batch = pictures.dims()[0];
        let config = &self.context.recipe.codec;
        let mut random = RandomStream::for_step(self.context.recipe.seed, "codec-noise", round);
        let scale: Tensor<1> = random.normal([batch], &self.device);
        let shape = [batch, config.tokens(), config.latent_dim];
        let noise: Tensor<3> = random.normal(shape, &self.device);
        let parts = self
            .context
            .spread()
            .parts(&self.context.device, batch, ROWS_A_PART)
            .into_iter()
            .map(|rows| {
                let (start, count) = (rows.start, rows.len());
                Part {
                    share: count as f64 / batch as f64,
                    pictures: pictures.clone().narrow(0, start, count),
                    scale: scale.clone().narrow(0, start, count),
                    noise: noise.clone().narrow(0, start, count),
                    loss: self.loss.clone(),
                }
            });
        let judged = |judge: &PatchDiscriminator, (share, pictures, decoded)| {
            discriminator_loss(judge, pictures, decoded).mul_scalar::<f64>(share)
        };
        Ok(self
            .rivals
            .backward_parts(parts.collect(), Part::codec_loss, judged))
    }

    fn values(output: Self::Output) -> Vec<(&'static str, f64)> {
        let values = [
            ("loss", mean(&output, |part| Some(&part.total))),
            (
                "reconstruction",
                mean(&output, |part| Some(&part.reconstruction)),
            ),
            ("kl", mean(&output, |part| Some(&part.kl))),
            ("lpips", mean(&output, |part| part.perceptual.as_ref())),
            (
                "adversarial",
                mean(&output, |part| part.adversarial.as_ref()),
            ),
        ];
        values
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect()
    }

    /// Held-out pictures and what the averaged codec makes of them, and the PSNR of that.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let count = SHOWN.min(self.context.data.test.len());
        let indices: Vec<usize> = (0..count).collect();
        let batch = HostBatch::read(&self.context.data.test, &indices, &[])?;
        let pictures = batch.tensor(&self.context.device);
        let codec = self.rivals.codec.ema();
        let decoded = codec.decode(codec.encode(pictures.clone()).mode());
        let error = (decoded.clone().clamp(-1.0, 1.0) - pictures.clone())
            .square()
            .mean();
        let psnr = -10.0 * (f64::from(error.into_scalar::<f32>()) / 4.0).log10();
        self.context
            .log(STAGE, step, &[("held_out_psnr_db", psnr)])?;
        let shown = count.min(16);
        let pairs = Tensor::cat(
            vec![pictures.narrow(0, 0, shown), decoded.narrow(0, 0, shown)],
            0,
        );
        let path = self
            .context
            .run
            .file(&format!("samples/codec-step-{step}.png"));
        Ok(save_png(&image_grid(pairs, shown, 2), &path)?)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let manifest = self.context.manifest(STAGE, step);
        let save = |bundle: &BundleWriter| self.rivals.save(bundle);
        let folder = self.context.run.checkpoint(&manifest, save)?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}

/// All latents of the training pictures: what the encoder puts out, once for each picture, and
/// once more mirrored where the recipe mirrors.
///
/// # Errors
/// If a picture can't be decoded.
pub fn encode_all(
    context: &mut Context,
    codec: &Codec,
) -> Result<(Vec<f32>, Vec<u32>), TrainError> {
    let count = context.data.train.len();
    let mut parameters = Vec::new();
    let mut labels = Vec::new();
    let mirrored: &[bool] = if context.recipe.data.horizontal_flip {
        &[false, true]
    } else {
        &[false]
    };
    for &flip in mirrored {
        for start in (0..count).step_by(100) {
            let indices: Vec<usize> = (start..count.min(start + 100)).collect();
            let flips = vec![flip; indices.len()];
            let mut random =
                RandomStream::for_step(context.recipe.seed, "stand-in-latents", start as u64);
            let train = &context.data.train;
            let batch = HostBatch::read_or_draw(train, &indices, &flips, &mut random)?;
            let pictures = batch.tensor(&context.device);
            parameters.extend(host_values(codec.encode_parameters(pictures)));
            labels.extend(indices.iter().map(|&i| context.data.train.label(i)));
        }
    }
    Ok((parameters, labels))
}
