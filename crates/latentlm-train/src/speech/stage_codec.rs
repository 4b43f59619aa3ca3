//! The first stage: the speech codec.

use burn::tensor::{Device, Tensor};
use latentlm::LatentCodec;
use latentlm::RandomStream;
use latentlm::codec_audio::{
    Codec, CodecLoss, CodecLossOutput, StftDiscriminator, discriminator_loss,
};
use latentlm::core::bundle::BundleWriter;
use latentlm_data::speech::write_wav;
use latentlm_eval::{mel_distance_db, save_spectrograms, stoi};
use latentlm_pipelines::{SpeechData, SpeechRecipe, reconstruct};

use super::pieces::Pieces;
use super::run::Context;
use crate::error::TrainError;
use crate::optimize::StepReport;
use crate::spread::Portable;
use crate::stage;
use crate::stage::{Rivals, Shares, Stage, mean};

const STAGE: &str = "codec";
/// Held-out recordings that are heard as training goes.
const HEARD: usize = 4;

struct CodecStage<'a> {
    context: &'a mut Context,
    rivals: Rivals<Codec, StftDiscriminator>,
    loss: CodecLoss,
    pieces: Pieces,
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
    let latest = context.run.latest(STAGE)?;
    if let Some((_, manifest)) = &latest
        && manifest.step >= config.steps
    {
        return Ok(true);
    }
    let device = context.device.clone().autodiff();
    device.seed(RandomStream::for_step(recipe.seed, "codec-init", 0).seed());
    let codec = recipe.codec.init(&device);
    let discriminator = recipe.codec_loss.init_discriminator(&device);
    let start = recipe.codec_loss.adversarial_start;
    let mut rivals = Rivals::new(codec, discriminator, start, config, context.spread());
    if let Some((folder, manifest)) = latest {
        rivals.restore(&folder, manifest.step)?;
    }
    let rate = recipe.codec.sample_rate_hz;
    let loss = recipe.codec_loss.init(rate, &device);
    let samples = recipe.codec_frames() * recipe.codec.hop_samples();
    let stage = CodecStage {
        loss: loss.map_err(latentlm::ModelError::from)?,
        pieces: Pieces::new(&mut context.data, config.batch_size, samples, recipe.seed)?,
        context,
        rivals,
        device,
    };
    stage::run(stage, config)
}

/// What one thread does of a batch.
pub struct Part {
    /// Of the batch.
    pub share: f64,
    /// `[B, 1, N]`
    pub signal: Tensor<3>,
    /// Of the noise, `[B]`.
    pub scale: Tensor<1>,
    /// `[B, T, Z]`
    pub noise: Tensor<3>,
    /// The losses of the recipe.
    pub loss: CodecLoss,
}

impl Portable for Part {
    fn to_device(self, device: &Device) -> Self {
        Self {
            share: self.share,
            signal: self.signal.to_device(device),
            scale: self.scale.to_device(device),
            noise: self.noise.to_device(device),
            loss: self.loss.to_device(device),
        }
    }
}

impl Part {
    /// Its share of the codec's loss, what the log takes, and what discriminators hear.
    pub fn codec_loss(
        codec: &Codec,
        judge: Option<&StftDiscriminator>,
        part: Self,
    ) -> (
        Tensor<1>,
        (f64, CodecLossOutput),
        (f64, Tensor<3>, Tensor<3>),
    ) {
        let (share, signal) = (part.share, part.signal);
        let posterior = codec.encode(signal.clone());
        let decoded = codec.decode(posterior.sample(part.scale, part.noise));
        let output = part
            .loss
            .forward(decoded.clone(), signal.clone(), &posterior, judge);
        let total = output.total.clone().mul_scalar(share);
        (total, (share, output), (share, signal, decoded))
    }
}

impl Stage for CodecStage<'_> {
    type Recipe = SpeechRecipe;
    type Data = SpeechData;
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
        let signal = self.pieces.batch(round, &self.device);
        let [batch, _, samples] = signal.dims();
        let config = &self.context.recipe.codec;
        let mut random = RandomStream::for_step(self.context.recipe.seed, "codec-noise", round);
        let scale: Tensor<1> = random.normal([batch], &self.device);
        let shape = [batch, samples / config.hop_samples(), config.latent_dim];
        let noise: Tensor<3> = random.normal(shape, &self.device);
        let parts = self
            .context
            .spread()
            .parts(&self.context.device, batch, 1)
            .into_iter()
            .map(|rows| {
                let (start, count) = (rows.start, rows.len());
                Part {
                    share: count as f64 / batch as f64,
                    signal: signal.clone().narrow(0, start, count),
                    scale: scale.clone().narrow(0, start, count),
                    noise: noise.clone().narrow(0, start, count),
                    loss: self.loss.clone(),
                }
            });
        let judged = |judge: &StftDiscriminator, (share, signal, decoded)| {
            discriminator_loss(judge, signal, decoded).mul_scalar::<f64>(share)
        };
        Ok(self
            .rivals
            .backward_parts(parts.collect(), Part::codec_loss, judged))
    }

    fn values(output: Self::Output) -> Vec<(&'static str, f64)> {
        let values = [
            ("loss", mean(&output, |part| Some(&part.total))),
            ("mel", mean(&output, |part| Some(&part.mel))),
            ("stft", mean(&output, |part| Some(&part.stft))),
            ("waveform", mean(&output, |part| Some(&part.waveform))),
            ("kl", mean(&output, |part| Some(&part.kl))),
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

    /// Held-out recordings through the averaged codec, without noise: a number, a picture, a sound.
    fn show(&mut self, step: u64) -> Result<(), TrainError> {
        let context = &mut *self.context;
        let (mut sounds, mut distance, mut likeness) = (Vec::new(), 0.0, 0.0);
        let rate = context.recipe.codec.sample_rate_hz;
        for index in 0..context.data.test.len().min(HEARD) {
            // A recording that turns out to be broken is not heard.
            let Ok(original) = context.data.test.get(index) else {
                continue;
            };
            let (original, decoded) =
                reconstruct(self.rivals.codec.ema(), original.samples, &context.device);
            distance += mel_distance_db(&original, &decoded, rate);
            likeness += stoi(&original, &decoded, rate).unwrap_or_default();
            sounds.extend([original, decoded]);
        }
        let pairs = sounds.len() / 2;
        if pairs == 0 {
            return Ok(());
        }
        let count = pairs as f64;
        let values = [
            ("held_out_mel_distance_db", distance / count),
            ("held_out_stoi", likeness / count),
        ];
        context.log(STAGE, step, &values)?;
        let file = |ending: &str| {
            let name = format!("samples/codec-step-{step}.{ending}");
            context.run.file(&name)
        };
        save_spectrograms(&sounds[..2], &file("png"), &context.device)?;
        write_wav(&file("wav"), &sounds[1], rate)?;
        Ok(())
    }

    fn save(&mut self, step: u64) -> Result<(), TrainError> {
        let manifest = self.context.manifest(STAGE, step);
        let save = |bundle: &BundleWriter| self.rivals.save(bundle);
        let folder = self.context.run.checkpoint(&manifest, save)?;
        self.context.note(&format!("saved {}", folder.display()));
        Ok(())
    }
}
