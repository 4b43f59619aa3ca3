//! Training of a codec with a discriminator beside it, as in a GAN: two modules, two optimizers.

use std::ops::Range;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use latentlm::core::bundle::BundleWriter;
use latentlm::core::{CodecDiscriminator, CodecObjective, LatentNoise, LatentSpec};
use latentlm_kernels::at_once;
use latentlm_pipelines::StageConfig;

use crate::error::TrainError;
use crate::optimize::{StepReport, Trainer, carry, fork};
use crate::spread::{DataParallel, ToDevice};

/// Numbers for the log under their names, `[1]` each.
pub type NamedValues = Vec<(&'static str, Tensor<1>)>;

/// What a codec's stage trains, and what it trains it with.
pub struct CodecParts<O: CodecObjective<D>, const D: usize> {
    /// The codec.
    pub codec: O::Codec,
    /// Its discriminator, if it has one.
    pub discriminator: Option<O::Discriminator>,
    /// Step at which the discriminator sets in.
    pub discriminator_start: u64,
    /// Its loss.
    pub objective: O,
    /// The geometry of its latents.
    pub latents: LatentSpec,
}

/// What one thread or device does of a batch.
pub struct CodecPart<O, const D: usize> {
    /// Share of the batch.
    share: f64,
    /// `[B, ...]`
    signal: Tensor<D>,
    noise: LatentNoise,
    objective: O,
}

impl<O: CodecObjective<D>, const D: usize> CodecPart<O, D> {
    /// A batch, cut into ranges of its rows.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`; `noise`: for latents `[B, T, Z]`
    pub fn all(
        signal: &Tensor<D>,
        noise: &LatentNoise,
        objective: &O,
        ranges: Vec<Range<usize>>,
    ) -> Vec<Self> {
        let batch = signal.dims()[0];
        let part = |rows: Range<usize>| Self {
            share: rows.len() as f64 / batch as f64,
            signal: signal.clone().narrow(0, rows.start, rows.len()),
            noise: noise.rows(rows),
            objective: objective.clone(),
        };
        ranges.into_iter().map(part).collect()
    }

    /// The part's share of the codec's loss, what it leaves, and its numbers for the log, the loss
    /// first.
    pub fn loss(
        self,
        codec: &O::Codec,
        discriminator: Option<&O::Discriminator>,
    ) -> (Tensor<1>, Decoded<D>, NamedValues) {
        let (share, signal) = (self.share, self.signal);
        let objective = self.objective;
        let output = objective.loss(codec, signal.clone(), self.noise, discriminator);
        let mut values = vec![("loss", output.total.clone())];
        values.extend(output.values);
        let decoded = Decoded {
            share,
            signal,
            decoded: output.decoded,
        };
        (output.total.mul_scalar(share), decoded, values)
    }
}

impl<O: CodecObjective<D>, const D: usize> ToDevice for CodecPart<O, D> {
    fn to_device(self, device: &Device) -> Self {
        Self {
            share: self.share,
            signal: self.signal.to_device(device),
            noise: self.noise.to_device(device),
            objective: self.objective.to_device(device),
        }
    }
}

/// A part of a batch and what the codec made of it.
pub struct Decoded<const D: usize> {
    /// Share of the batch.
    share: f64,
    signal: Tensor<D>,
    decoded: Tensor<D>,
}

impl<const D: usize> Decoded<D> {
    /// The part's share of the discriminator's loss.
    fn loss<M: CodecDiscriminator<D>>(self, discriminator: &M) -> Tensor<1> {
        let loss = discriminator.loss(self.signal, self.decoded);
        loss.mul_scalar(self.share)
    }
}

/// A codec under training, and the discriminator that it is trained against from some step on.
pub struct AdversarialTrainer<O: CodecObjective<D>, const D: usize> {
    /// The codec.
    pub codec: Trainer<O::Codec>,
    discriminator: Option<Trainer<O::Discriminator>>,
    /// Step at which the discriminator sets in.
    discriminator_start: u64,
    objective: O,
}

impl<O: CodecObjective<D>, const D: usize> AdversarialTrainer<O, D> {
    /// Codec and discriminator at step 0.
    pub fn new(parts: CodecParts<O, D>, config: &StageConfig, spread: DataParallel) -> Self {
        let codec = Trainer::new(parts.codec, config).with_spread(spread);
        let discriminator = parts.discriminator;
        Self {
            codec,
            discriminator: discriminator.map(|discriminator| Trainer::new(discriminator, config)),
            discriminator_start: parts.discriminator_start,
            objective: parts.objective,
        }
    }

    /// Trains the codec, and the discriminator if it has set in, on a batch in parts, each on a
    /// thread of its own. Returns each part's share of the batch and its numbers for the log.
    pub fn backward(
        &mut self,
        signal: &Tensor<D>,
        noise: &LatentNoise,
        ranges: Vec<Range<usize>>,
    ) -> (Option<StepReport>, Vec<(f64, NamedValues)>) {
        let has_set_in = self.codec.step() >= self.discriminator_start;
        let discriminator = self.discriminator.as_ref().filter(|_| has_set_in);
        let discriminator = discriminator.map(|player| player.model());
        let spread = self.codec.spread();
        let parts = CodecPart::all(signal, noise, &self.objective, ranges);
        let inputs = parts.into_iter().enumerate().map(|(index, part)| {
            let device = spread.device(index);
            let discriminator = discriminator.map(|own| fork(own, device));
            (
                fork(self.codec.model(), device),
                discriminator,
                carry(part, device),
            )
        });
        let done = at_once(inputs.collect(), |(codec, discriminator, part)| {
            gradients(&codec, discriminator.as_ref(), part)
        });
        let (mut of_codec, mut of_discriminator, mut results) = (vec![], vec![], vec![]);
        for (index, part) in done.into_iter().enumerate() {
            let Gradients {
                mut codec,
                mut discriminator,
                result,
            } = part;
            if spread.device(index).is_some() {
                codec = self.codec.bring_home(codec);
                if let Some(player) = &self.discriminator {
                    discriminator = discriminator.map(|own| player.bring_home(own));
                }
            }
            of_codec.push(codec);
            of_discriminator.extend(discriminator);
            results.push(result);
        }
        if let Some(player) = self.discriminator.as_mut().filter(|_| has_set_in) {
            player.gather(of_discriminator);
        }
        (self.codec.gather(of_codec), results)
    }

    /// Writes codec and discriminator into a checkpoint under construction.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn save(&self, bundle: &BundleWriter) -> Result<(), TrainError> {
        self.codec.save("model", bundle)?;
        match &self.discriminator {
            Some(discriminator) => discriminator.save("discriminator", bundle),
            None => Ok(()),
        }
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// If a file can't be read or belongs to another model.
    pub fn restore(&mut self, folder: &Path, step: u64) -> Result<(), TrainError> {
        self.codec.restore("model", folder, step)?;
        match &mut self.discriminator {
            // It has sat out the steps before it set in.
            Some(discriminator) => {
                let step = step.saturating_sub(self.discriminator_start);
                discriminator.restore("discriminator", folder, step)
            }
            None => Ok(()),
        }
    }
}

/// What a part of a batch gives.
struct Gradients {
    codec: GradientsParams,
    discriminator: Option<GradientsParams>,
    /// Share of the batch and numbers for the log.
    result: (f64, NamedValues),
}

/// Both losses of a part of a batch, backwards.
fn gradients<O: CodecObjective<D>, const D: usize>(
    codec: &O::Codec,
    discriminator: Option<&O::Discriminator>,
    part: CodecPart<O, D>,
) -> Gradients {
    // The codec's loss needs no gradient of the discriminator's weights.
    let fixed = discriminator.cloned().map(Module::no_grad);
    let (loss, decoded, values) = part.loss(codec, fixed.as_ref());
    let of_codec = GradientsParams::from_grads(loss.backward(), codec);
    let share = decoded.share;
    let of_discriminator = discriminator.map(|own| {
        let loss = decoded.loss(own);
        GradientsParams::from_grads(loss.backward(), own)
    });
    Gradients {
        codec: of_codec,
        discriminator: of_discriminator,
        result: (share, values),
    }
}
