//! Training of a codec with a discriminator beside it, as in a GAN: two modules, two optimizers.

use std::ops::Range;
use std::path::Path;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm::core::bundle::{BundleWriter, load_module};
use latentlm::core::{CodecDiscriminator, CodecObjective, LatentNoise, LatentSpec};
use latentlm_pipelines::StageConfig;

use crate::error::Result;
use crate::optimize::{StepReport, Trainer, fork};
use crate::spread::{DataParallel, ToDevice};

/// Numbers for the log under their names, `[1]` each.
pub type NamedValues = Vec<(&'static str, Tensor<1>)>;

/// Codec, discriminator and loss of a codec's stage.
pub struct CodecSetup<O: CodecObjective<D>, const D: usize> {
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

/// The part of a batch that one thread or device works on.
pub struct CodecShard<O, const D: usize> {
    /// Share of the batch.
    share: f64,
    /// `[B, ...]`
    signal: Tensor<D>,
    noise: LatentNoise,
    objective: O,
}

impl<O: CodecObjective<D>, const D: usize> CodecShard<O, D> {
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
        let shard = |rows: Range<usize>| Self {
            share: rows.len() as f64 / batch as f64,
            signal: signal.clone().narrow(0, rows.start, rows.len()),
            noise: noise.rows(rows.clone()),
            objective: objective.clone().for_rows(rows),
        };
        ranges.into_iter().map(shard).collect()
    }

    /// The shard's share of the codec's loss, what the codec decoded, and the shard's numbers for the log,
    /// the loss first.
    ///
    /// # Shapes
    /// - returns: `[1]`; `[B, ...]` as the signal
    pub fn loss(
        self,
        codec: &O::Codec,
        discriminator: Option<&O::Discriminator>,
    ) -> (Tensor<1>, Tensor<D>, NamedValues) {
        let output = self
            .objective
            .loss(codec, self.signal, self.noise, discriminator);
        let mut values = vec![("loss", output.total.clone())];
        values.extend(output.values);
        (output.total.mul_scalar(self.share), output.decoded, values)
    }

    /// Gradients of codec and discriminator, and the shard's share of the batch with its numbers for the log.
    fn gradients(
        self,
        codec: &O::Codec,
        discriminator: Option<&O::Discriminator>,
    ) -> (GradientsParams, Option<GradientsParams>, (f64, NamedValues)) {
        let (share, signal) = (self.share, self.signal.clone());
        // The codec's loss needs no gradient of the discriminator's weights.
        let fixed = discriminator.cloned().map(Module::no_grad);
        let (loss, decoded, values) = self.loss(codec, fixed.as_ref());
        let of_codec = GradientsParams::from_grads(loss.backward(), codec);
        let of_discriminator = discriminator.map(|own| {
            let loss = CodecDiscriminator::loss(own, signal, decoded).mul_scalar(share);
            GradientsParams::from_grads(loss.backward(), own)
        });
        (of_codec, of_discriminator, (share, values))
    }
}

impl<O: CodecObjective<D>, const D: usize> ToDevice for CodecShard<O, D> {
    fn to_device(self, device: &Device) -> Self {
        Self {
            signal: self.signal.to_device(device),
            noise: self.noise.to_device(device),
            objective: self.objective.to_device(device),
            ..self
        }
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
    pub fn new(setup: CodecSetup<O, D>, config: &StageConfig, spread: DataParallel) -> Self {
        let mut codec = Trainer::new(setup.codec, config);
        codec.spread = spread.clone();
        let mut discriminator = setup.discriminator.map(|own| Trainer::new(own, config));
        if let Some(own) = &mut discriminator {
            own.spread = spread;
        }
        Self {
            codec,
            discriminator,
            discriminator_start: setup.discriminator_start,
            objective: setup.objective,
        }
    }

    /// Draws what the objective needs for the next batch besides the noise of latents.
    ///
    /// # Shapes
    /// - `latents`: the shape of the batch's latents, `[B, T, Z]`
    pub fn begin_batch(&mut self, latents: [usize; 3], random: &mut RandomStream, device: &Device) {
        self.objective = self.objective.clone().for_batch(latents, random, device);
    }

    /// Trains the codec, and the discriminator if it has set in, on a batch in shards, each on a
    /// thread of its own. Returns each shard's share of the batch and its numbers for the log.
    ///
    /// # Shapes
    /// - `signal`: `[B, ...]`; `noise`: for latents `[B, T, Z]`
    pub fn backward(
        &mut self,
        signal: &Tensor<D>,
        noise: &LatentNoise,
        ranges: Vec<Range<usize>>,
    ) -> (Option<StepReport>, Vec<(f64, NamedValues)>) {
        let has_set_in = self.codec.step() >= self.discriminator_start;
        let discriminator = self.discriminator.as_ref().filter(|_| has_set_in);
        let done = self.codec.spread.at_once(
            CodecShard::all(signal, noise, &self.objective, ranges),
            |device| {
                let discriminator = discriminator.map(|own| fork(own.model(), device));
                (fork(self.codec.model(), device), discriminator)
            },
            |(codec, discriminator), shard| shard.gradients(&codec, discriminator.as_ref()),
        );
        let (mut of_codec, mut of_discriminator, mut results) = (vec![], vec![], vec![]);
        for (codec, discriminator, result) in done {
            of_codec.push(codec);
            of_discriminator.extend(discriminator);
            results.push(result);
        }
        let mut report = self.codec.gather(of_codec);
        if let Some(trainer) = self.discriminator.as_mut().filter(|_| has_set_in)
            && let Some(own) = trainer.gather(of_discriminator)
            && let Some(report) = &mut report
        {
            report.skipped |= own.skipped;
        }
        (report, results)
    }

    /// Writes codec and discriminator into a checkpoint under construction.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn save(&self, bundle: &BundleWriter) -> Result<()> {
        self.codec.save("model", bundle)?;
        if let Some(discriminator) = &self.discriminator {
            discriminator.save("discriminator", bundle)?;
        }
        Ok(())
    }

    /// Continues from a saved state.
    ///
    /// # Errors
    /// If a file can't be read or belongs to another model.
    pub fn restore(&mut self, folder: &Path, step: u64) -> Result<()> {
        self.codec.restore("model", folder, step, load_module)?;
        if let Some(discriminator) = &mut self.discriminator {
            // It took no steps before it set in.
            let step = step.saturating_sub(self.discriminator_start);
            discriminator.restore("discriminator", folder, step, load_module)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{Param, ParamId};
    use burn::nn::Linear;
    use latentlm::RandomStream;
    use latentlm::core::{ObjectiveOutput, Verdict};
    use latentlm_pipelines::{SpeechRecipe, host_values};

    use super::*;
    use crate::skips::Skips;

    /// Its loss, and so its gradient, is infinite.
    #[derive(Module, Debug)]
    struct Overflowing {
        layer: Linear,
    }

    impl CodecDiscriminator<2> for Overflowing {
        fn judge(&self, _signal: Tensor<2>) -> Verdict {
            Verdict {
                logits: Vec::new(),
                features: Vec::new(),
            }
        }

        fn loss(&self, real: Tensor<2>, _fake: Tensor<2>) -> Tensor<1> {
            self.layer
                .forward(real)
                .square()
                .sum()
                .mul_scalar(f64::INFINITY)
        }
    }

    #[derive(Clone)]
    struct SquaredError;

    impl CodecObjective<2> for SquaredError {
        type Codec = Linear;
        type Discriminator = Overflowing;

        fn to_device(self, _: &Device) -> Self {
            self
        }

        fn loss(
            &self,
            codec: &Linear,
            signal: Tensor<2>,
            _: LatentNoise,
            _: Option<&Overflowing>,
        ) -> ObjectiveOutput<2> {
            let decoded = codec.forward(signal.clone());
            let error = (decoded.clone() - signal).square().mean();
            let values = [("error", Some(error.clone()))];
            ObjectiveOutput::new(error, decoded, values)
        }
    }

    fn layer(random: &mut RandomStream, device: &Device) -> Linear {
        let weight = random.normal([2, 2], device).require_grad();
        Linear {
            weight: Param::initialized(ParamId::new(), weight),
            bias: None,
        }
    }

    /// The codec's own gradients are finite throughout.
    #[test]
    fn skipped_steps_of_the_discriminator_end_the_run() {
        let device = Device::default().autodiff();
        let config = StageConfig {
            grad_accumulation: 1,
            warmup_steps: 0,
            ..SpeechRecipe::default().codec_train
        };
        let mut random = RandomStream::new(1);
        let codec = layer(&mut random, &device);
        let discriminator = Overflowing {
            layer: layer(&mut random, &device),
        };
        let start = 3;
        let mut trainer = AdversarialTrainer::<SquaredError, 2> {
            codec: Trainer::new(codec, &config),
            discriminator: Some(Trainer::new(discriminator, &config)),
            discriminator_start: start,
            objective: SquaredError,
        };
        let weights = |trainer: &AdversarialTrainer<SquaredError, 2>| {
            let own = trainer.discriminator.as_ref().unwrap();
            let codec = trainer.codec.model().weight.val();
            [codec, own.model().layer.weight.val()].map(host_values)
        };
        let [codec, discriminator] = weights(&trainer);
        let mut skips = Skips::default();
        let ended = (1..=100).find(|&step| {
            let signal = random.normal([4, 2], &device);
            let noise = LatentNoise::draw([4, 1, 1], &mut random, &device);
            let (report, _) = trainer.backward(&signal, &noise, vec![0..2, 2..4]);
            let report = report.unwrap();
            assert!(report.gradient_norm.is_finite(), "step {step}");
            assert_eq!(report.skipped, step > start, "step {step}");
            let counted = skips.count(report.skipped, "codec", "codec_train", step);
            counted.is_err()
        });
        assert_eq!(ended, Some(start + 20));
        assert_eq!(skips.total, 20);
        let [trained, unchanged] = weights(&trainer);
        assert_eq!(unchanged, discriminator);
        assert_ne!(trained, codec);
    }
}
