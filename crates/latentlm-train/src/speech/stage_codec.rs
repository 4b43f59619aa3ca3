//! The first stage: the speech codec.

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::LatentCodec;
use latentlm::RandomStream;
use latentlm::codec_audio::{
    Codec, CodecLoss, CodecLossOutput, StftDiscriminator, discriminator_loss,
};
use latentlm::core::bundle::load_module;
use latentlm_data::speech::write_wav;

use super::data::Pieces;
use super::metrics::mel_distance_db;
use super::recipe::SpeechRecipe;
use super::run::Context;
use super::spectrogram;
use crate::error::TrainError;
use crate::image::{draw_latents, host_values};
use crate::optimize::{Player, StepReport, ema_file};
use crate::run::RunFolder;

const STAGE: &str = "codec";
/// Held-out recordings that are heard as training goes.
const HEARD: usize = 4;

struct CodecStage<'a> {
    context: &'a mut Context,
    codec: Player<Codec>,
    discriminator: Option<Player<StftDiscriminator>>,
    loss: CodecLoss,
    pieces: Pieces,
}

/// Trains the codec or takes up where it was left. Returns whether it is finished: a stop leaves
/// it unfinished.
///
/// # Errors
/// If data can't be read, the loss is not finite, or a checkpoint can't be written.
pub(crate) fn train(context: &mut Context) -> Result<bool, TrainError> {
    let recipe = context.recipe.clone();
    let config = &recipe.codec_train;
    if let Some((_, manifest)) = context.run.latest(STAGE)?
        && manifest.step >= config.steps
    {
        return Ok(true);
    }
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "codec-init", 0).seed());
    let codec = Player::new(recipe.codec.init(&device), config);
    let discriminator = recipe
        .codec_loss
        .init_discriminator(&device)
        .map(|d| Player::new(d, config));
    let rate = recipe.codec.sample_rate_hz;
    let loss = recipe.codec_loss.init(rate, &device);
    let loss = loss.map_err(latentlm::ModelError::from)?;
    let samples = recipe.codec_frames() * recipe.codec.hop_samples();
    let pieces = Pieces::new(&mut context.data, config.batch_size, samples, recipe.seed)?;
    let mut stage = CodecStage {
        context,
        codec,
        discriminator,
        loss,
        pieces,
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
        let config = self.context.recipe.codec_train.clone();
        let first = self.codec.step();
        self.context.begin(STAGE, first, config.steps)?;
        let accumulation = config.grad_accumulation as u64;
        for round in first * accumulation..config.steps * accumulation {
            let signal = self.pieces.batch(round, device);
            let (report, output) = self.round(signal, round);
            let Some(report) = report else { continue };
            let step = self.codec.step();
            let due = self.context.due(&config, step);
            if due.log {
                self.log(step, report, output)?;
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
    fn round(&mut self, signal: Tensor<3>, round: u64) -> (Option<StepReport>, CodecLossOutput) {
        let recipe = &self.context.recipe;
        let mut random = RandomStream::for_step(recipe.seed, "codec-noise", round);
        let adversarial = self.codec.step() >= recipe.codec_loss.adversarial_start;
        let discriminator = self.discriminator.as_mut().filter(|_| adversarial);
        let codec = self.codec.model();
        let posterior = codec.encode(signal.clone());
        let decoded = codec.decode(draw_latents(&posterior, &mut random));
        let judge = discriminator.as_ref().map(|d| d.model());
        let output = self
            .loss
            .forward(decoded.clone(), signal.clone(), &posterior, judge);
        let report = self.codec.backward(output.total.clone());
        if let Some(discriminator) = discriminator {
            let loss = discriminator_loss(discriminator.model(), signal, decoded);
            discriminator.backward(loss);
        }
        (report, output)
    }

    fn log(
        &mut self,
        step: u64,
        report: StepReport,
        output: CodecLossOutput,
    ) -> Result<(), TrainError> {
        let number = |x: Tensor<1>| f64::from(x.into_scalar::<f32>());
        let loss = number(output.total);
        if !loss.is_finite() {
            return Err(TrainError::NotFinite { stage: STAGE, step });
        }
        let mut values = vec![
            ("loss", loss),
            ("mel", number(output.mel)),
            ("stft", number(output.stft)),
            ("waveform", number(output.waveform)),
            ("kl", number(output.kl)),
            ("lr", report.learning_rate),
            ("gradient_norm", f64::from(report.gradient_norm)),
        ];
        if let Some(adversarial) = output.adversarial {
            values.push(("adversarial", number(adversarial)));
        }
        self.context.log(STAGE, step, &values)
    }

    /// Held-out recordings through the averaged codec, without noise: a number, a picture, a sound.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let context = &mut *self.context;
        let (mut sounds, mut distance) = (Vec::new(), 0.0);
        let rate = context.recipe.codec.sample_rate_hz;
        for index in 0..context.data.test.len().min(HEARD) {
            // A recording that turns out to be broken is not heard.
            let Ok(original) = context.data.test.get(index) else {
                continue;
            };
            let (original, decoded) =
                reconstruct(self.codec.ema(), original.samples, &context.device);
            distance += mel_distance_db(&original, &decoded, rate);
            sounds.extend([original, decoded]);
        }
        let pairs = sounds.len() / 2;
        if pairs == 0 {
            return Ok(());
        }
        let distance = distance / pairs as f64;
        context.log(STAGE, step, &[("held_out_mel_distance_db", distance)])?;
        let file = |ending: &str| {
            let name = format!("samples/codec-step-{step}.{ending}");
            context.run.file(&name)
        };
        spectrogram::save(&sounds[..2], &file("png"), &context.device)?;
        write_wav(&file("wav"), &sounds[1], rate)?;
        Ok(())
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

/// Samples as a batch of one, `[1, 1, N]`, silence behind them up to a whole latent.
pub(crate) fn signal(mut samples: Vec<f32>, hop_samples: usize, device: &Device) -> Tensor<3> {
    let whole = samples.len().next_multiple_of(hop_samples).max(hop_samples);
    samples.resize(whole, 0.0);
    Tensor::from_data(TensorData::new(samples, [1, 1, whole]), device)
}

/// A sound and what the codec makes of it, of one length.
pub(crate) fn reconstruct(
    codec: &Codec,
    samples: Vec<f32>,
    device: &Device,
) -> (Vec<f32>, Vec<f32>) {
    let hop = hop_samples(codec);
    let latents = codec.encode(signal(samples.clone(), hop, device)).mode();
    let mut decoded = host_values(codec.decode(latents));
    decoded.truncate(samples.len());
    (samples, decoded)
}

/// Samples a latent.
pub(crate) fn hop_samples(codec: &Codec) -> usize {
    match codec.spec().layout {
        latentlm::core::SignalLayout::Frames { hop_samples, .. } => hop_samples,
        // A codec of sound has frames; one sample a latent is what a grid would come to.
        latentlm::core::SignalLayout::Grid { .. } => 1,
    }
}

/// The finished codec of a run: its averaged weights.
///
/// # Errors
/// If there is no checkpoint or it does not fit the recipe.
pub(crate) fn load(run: &RunFolder<SpeechRecipe>, device: &Device) -> Result<Codec, TrainError> {
    let (folder, manifest) = run.require(STAGE)?;
    let codec = manifest.recipe.codec.init(device);
    Ok(load_module(codec, &folder.join(ema_file("model")))?)
}
