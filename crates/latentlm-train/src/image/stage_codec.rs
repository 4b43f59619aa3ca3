//! The first stage: the codec.

use burn::tensor::{Device, Tensor};
use latentlm::LatentCodec;
use latentlm::RandomStream;
use latentlm::codec_image::{
    Codec, CodecLoss, CodecLossOutput, PatchDiscriminator, discriminator_loss,
};
use latentlm::core::Posterior;
use latentlm::core::bundle::load_module;

use super::batches::{Batches, HostBatch};
use super::grid::{host_values, image_grid, save_png};
use super::recipe::ImageRecipe;
use super::run::Context;
use crate::error::TrainError;
use crate::optimize::{Player, StepReport, ema_file};
use crate::run::RunFolder;

const STAGE: &str = "codec";
/// Pictures whose reconstruction is logged and drawn.
const SHOWN: usize = 64;

/// Latents drawn from a posterior with the noise of a stream.
pub(crate) fn draw_latents(posterior: &Posterior, random: &mut RandomStream) -> Tensor<3> {
    let device = posterior.mean.device();
    let shape = posterior.mean.dims();
    let scale = random.normal([shape[0]], &device);
    posterior.sample(scale, random.normal(shape, &device))
}

struct CodecStage<'a> {
    context: &'a mut Context,
    codec: Player<Codec>,
    discriminator: Option<Player<PatchDiscriminator>>,
    loss: CodecLoss,
}

/// Trains the codec or takes up where it was left. Returns whether it is finished: a stop leaves
/// it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub(crate) fn train(context: &mut Context) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let config = &recipe.codec_train;
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "codec-init", 0).seed());
    let codec = Player::new(recipe.codec.init(&device), config);
    let discriminator = recipe
        .codec_loss
        .init_discriminator(recipe.codec.channels, &device)
        .map(|d| Player::new(d, config));
    let loss = recipe.codec_loss.init(&device)?;
    let mut stage = CodecStage {
        context,
        codec,
        discriminator,
        loss,
    };
    stage.restore()?;
    stage.run(&device)
}

impl CodecStage<'_> {
    fn restore(&mut self) -> Result<(), TrainError> {
        let Some((folder, manifest)) = self.context.run.latest(STAGE)? else {
            return Ok(());
        };
        self.codec.restore("model", &folder, manifest.step)?;
        if let Some(discriminator) = &mut self.discriminator {
            // It has sat out the steps before the adversarial part.
            let late = self.context.recipe.codec_loss.adversarial_start;
            let step = manifest.step.saturating_sub(late);
            discriminator.restore("discriminator", &folder, step)?;
        }
        Ok(())
    }

    fn run(mut self, device: &Device) -> Result<bool, TrainError> {
        let recipe = self.context.recipe.clone();
        let config = &recipe.codec_train;
        let first = self.codec.step();
        if first >= config.steps {
            return Ok(true);
        }
        self.context.begin(STAGE, first, config.steps)?;
        let train = self.context.data.train.clone();
        let mut batches = Batches::start(train, &recipe.data, config, recipe.seed, first);
        let mut round = first * config.grad_accumulation as u64;
        while let Some(batch) = batches.next() {
            let pictures = batch?.tensor(device);
            let (report, output) = self.round(pictures, round);
            round += 1;
            let Some(report) = report else { continue };
            let step = self.codec.step();
            let due = self.context.due(config, step);
            if due.log {
                self.log(step, report, &output)?;
            }
            if due.show {
                self.show(step)?;
            }
            if due.save {
                self.save(step)?;
            }
            if due.stop {
                break;
            }
        }
        self.context.end();
        Ok(self.codec.step() >= config.steps)
    }

    /// One forward and backward pass of both players.
    fn round(&mut self, pictures: Tensor<4>, round: u64) -> (Option<StepReport>, CodecLossOutput) {
        let recipe = &self.context.recipe;
        let mut random = RandomStream::for_step(recipe.seed, "codec-noise", round);
        let adversarial = self.codec.step() >= recipe.codec_loss.adversarial_start;
        let discriminator = self.discriminator.as_mut().filter(|_| adversarial);
        let posterior = self.codec.model().encode(pictures.clone());
        let latents = draw_latents(&posterior, &mut random);
        let output = self.loss.forward(
            self.codec.model(),
            pictures.clone(),
            &posterior,
            latents,
            discriminator.as_ref().map(|d| d.model()),
        );
        let report = self.codec.backward(output.total.clone());
        if let Some(discriminator) = discriminator {
            let loss = discriminator_loss(discriminator.model(), pictures, output.decoded.clone());
            discriminator.backward(loss);
        }
        (report, output)
    }

    fn log(
        &mut self,
        step: u64,
        report: StepReport,
        output: &CodecLossOutput,
    ) -> Result<(), TrainError> {
        let value = |x: &Tensor<1>| f64::from(x.clone().into_scalar::<f32>());
        let loss = value(&output.total);
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { stage: STAGE, step });
        }
        let mut values = vec![
            ("loss", loss),
            ("reconstruction", value(&output.reconstruction)),
            ("kl", value(&output.kl)),
            ("lr", report.learning_rate),
            ("gradient_norm", f64::from(report.gradient_norm)),
        ];
        if let Some(part) = &output.perceptual {
            values.push(("lpips", value(part)));
        }
        if let Some(part) = &output.adversarial {
            values.push(("adversarial", value(part)));
        }
        self.context.log(STAGE, step, &values)
    }

    /// Held-out pictures and what the averaged codec makes of them, and the PSNR of that.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let count = SHOWN.min(self.context.data.test.len());
        let indices: Vec<usize> = (0..count).collect();
        let batch = HostBatch::read(&self.context.data.test, &indices, &[])?;
        let pictures = batch.tensor(&self.context.device);
        let codec = self.codec.ema();
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
        save_png(&image_grid(pairs, shown, 2), &path)
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let manifest = self.context.manifest(STAGE, step);
        let folder = self.context.run.checkpoint(&manifest, |bundle| {
            self.codec.save("model", bundle)?;
            match &self.discriminator {
                Some(discriminator) => discriminator.save("discriminator", bundle),
                None => Ok(()),
            }
        })?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}

/// The finished codec of a run: its averaged weights.
///
/// # Errors
/// If there is no checkpoint or it does not fit the recipe.
pub(crate) fn load(run: &RunFolder<ImageRecipe>, device: &Device) -> Result<Codec, TrainError> {
    let (folder, manifest) = run.require(STAGE)?;
    let codec = manifest.recipe.codec.init(device);
    Ok(load_module(codec, &folder.join(ema_file("model")))?)
}

/// All latents of the training pictures: what the encoder puts out, once for each picture, and
/// once more mirrored where the recipe mirrors.
///
/// # Errors
/// If a picture can't be decoded.
pub(crate) fn encode_all(
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
            let batch = HostBatch::read(&context.data.train, &indices, &vec![flip; indices.len()])?;
            let pictures = batch.tensor(&context.device);
            parameters.extend(host_values(codec.encode_parameters(pictures)));
            labels.extend(indices.iter().map(|&i| context.data.train.label(i)));
        }
    }
    Ok((parameters, labels))
}
