//! A module under training: its weights, their moving average, the optimizer, and the step they take.

use std::path::Path;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use latentlm::core::bundle::{BundleError, BundleWriter, save_module};
use latentlm::core::number_parameters;
use latentlm_kernels::AdamWStep;
use latentlm_pipelines::{LearningRate, StageConfig, ema_decay, ema_file, weights_file};

use crate::adamw::{AdamW, EPSILON};
use crate::clip::{clip_factor, global_norm};
use crate::error::{Result, TrainError};
use crate::precision::{Precision, in_precision};
use crate::spread::{DataParallel, ToDevice};

/// Result of an optimizer step.
#[derive(Debug, Clone, Copy)]
pub struct StepReport {
    /// The learning rate.
    pub learning_rate: f64,
    /// Global norm of the gradients before clipping.
    pub gradient_norm: f32,
    /// Whether the step changed nothing because gradients were not finite, those of a discriminator
    /// included.
    pub skipped: bool,
}

/// A module under training.
pub struct Trainer<M: Module> {
    /// Live weights, and averaged weights without autodiff.
    weights: Option<(M, M)>,
    optimizer: AdamW,
    accumulator: GradientsAccumulator<M>,
    config: StageConfig,
    /// The precision that shards are computed in.
    pub precision: Precision,
    /// The devices that shards of a batch are worked on.
    pub spread: DataParallel,
    /// Rounds since the last step.
    rounds: usize,
    step: u64,
}

impl<M: Module> Trainer<M> {
    /// A trainer at step 0. The module must live on an autodiff device.
    pub fn new(model: M, config: &StageConfig) -> Self {
        let model = number_parameters(model);
        let average = model.valid();
        Self {
            weights: Some((model, average)),
            optimizer: AdamW::default(),
            accumulator: GradientsAccumulator::new(),
            config: config.clone(),
            precision: Precision::F32,
            spread: DataParallel::default(),
            rounds: 0,
            step: 0,
        }
    }

    fn weights(&self) -> &(M, M) {
        let weights = self.weights.as_ref();
        weights.expect("weights are absent only while the optimizer holds them")
    }

    /// The live weights.
    pub fn model(&self) -> &M {
        &self.weights().0
    }

    /// The averaged weights, without autodiff.
    pub fn ema(&self) -> &M {
        &self.weights().1
    }

    /// Changes the live weights by other means than a step; the average follows with the next one.
    /// Parameters must keep their ids.
    pub fn edit(&mut self, change: impl FnOnce(M) -> M) {
        let weights = self.weights.take();
        self.weights = weights.map(|(model, average)| (change(model), average));
    }

    /// Optimizer steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Adds the gradients of one loss. At every `grad_accumulation`-th call the optimizer takes a step, and a report
    /// of it is returned. A step whose gradients are not finite is left out.
    pub fn backward(&mut self, loss: Tensor<1>) -> Option<StepReport> {
        let gradients = GradientsParams::from_grads(loss.backward(), self.model());
        self.gather(vec![gradients])
    }

    /// [`backward`](Self::backward) of a batch in shards, each on a thread of its own from beginning to end. The loss
    /// of a shard is its share of the batch's loss, so gradients are added up. Other results of `work` are returned
    /// in the order of the shards.
    pub fn backward_shards<T: ToDevice + Send, R: Send>(
        &mut self,
        shards: Vec<T>,
        work: impl Fn(&M, T) -> (Tensor<1>, R) + Sync,
    ) -> (Option<StepReport>, Vec<R>) {
        let precision = self.precision;
        let done = self.spread.at_once(
            shards,
            |device| fork(self.model(), device),
            |model, shard| {
                in_precision(precision, &model, |rounded| {
                    let (loss, result) = work(rounded, shard);
                    let gradients = GradientsParams::from_grads(loss.backward(), &model);
                    (gradients, result)
                })
            },
        );
        let (gradients, results): (Vec<_>, Vec<R>) = done.into_iter().unzip();
        (self.gather(gradients), results)
    }

    /// Takes the gradients of the shards of one round, from the devices that they were worked on.
    pub fn gather(&mut self, shards: Vec<GradientsParams>) -> Option<StepReport> {
        let (model, _) = self.weights.as_ref()?;
        for mut gradients in shards {
            // The first of several devices has the weights.
            if let Some(home) = self.spread.device(0) {
                gradients = gradients.to_device(&home.clone().inner(), model);
            }
            self.accumulator.accumulate(model, gradients);
        }
        self.rounds += 1;
        if self.rounds < self.config.grad_accumulation {
            return None;
        }
        self.rounds = 0;
        let gradients = self.accumulator.grads();
        Some(self.update(gradients))
    }

    fn update(&mut self, gradients: GradientsParams) -> StepReport {
        let config = &self.config;
        let schedule = LearningRate {
            peak: config.learning_rate,
            warmup_steps: config.warmup_steps,
            total_steps: config.steps,
            floor_ratio: config.final_lr_ratio,
        };
        let learning_rate = schedule.at(self.step);
        let share = 1.0 / config.grad_accumulation as f64;
        let gradient_norm = share as f32 * global_norm(self.model(), &gradients);
        let settings = AdamWStep {
            learning_rate,
            beta_1: config.beta_1,
            beta_2: config.beta_2,
            epsilon: EPSILON,
            weight_decay: config.weight_decay,
            time: 0,
            gradient_scale: share * clip_factor(gradient_norm, config.clip_norm),
            average_decay: ema_decay(config.ema_decay, self.step),
        };
        if gradient_norm.is_finite()
            && let Some((model, average)) = self.weights.take()
        {
            self.weights = Some(self.optimizer.step(model, average, gradients, settings));
        }
        self.step += 1;
        StepReport {
            learning_rate,
            gradient_norm,
            skipped: !gradient_norm.is_finite(),
        }
    }

    /// Writes weights, averaged weights and optimizer state into a checkpoint under construction.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn save(&self, name: &str, bundle: &BundleWriter) -> Result<()> {
        save_module(self.model(), &bundle.path(&weights_file(name)))?;
        save_module(self.ema(), &bundle.path(&ema_file(name)))?;
        let file = optimizer_file(name);
        let path = bundle.path(&file);
        let written = self.optimizer.write(self.model(), &path);
        written.map_err(|error| TrainError::Record(path, error))?;
        Ok(bundle.wrote(&file)?)
    }

    /// Continues from a saved state; `load` reads weights into a module.
    ///
    /// # Errors
    /// If a file can't be read or belongs to another model.
    pub fn restore(
        &mut self,
        name: &str,
        folder: &Path,
        step: u64,
        load: impl Fn(M, &Path) -> Result<M, BundleError>,
    ) -> Result<()> {
        let (model, average) = self.weights();
        let model = load(model.clone(), &folder.join(weights_file(name)))?;
        let average = load(average.clone(), &folder.join(ema_file(name)))?;
        let path = folder.join(optimizer_file(name));
        let loaded = self.optimizer.load(&model, &path);
        loaded.map_err(|error| TrainError::Record(path, error))?;
        self.weights = Some((model, average));
        self.step = step;
        Ok(())
    }
}

/// Copies a model with its weights as leaves of a new autodiff graph, on another device if one is given. Graphs without
/// common leaves do not wait for each other.
pub fn fork<M: Module>(model: &M, device: Option<&Device>) -> M {
    let device = device.cloned().or(model.devices().into_iter().next());
    match device {
        Some(device) => model.clone().fork(&device),
        None => model.clone(),
    }
}

fn optimizer_file(name: &str) -> String {
    format!("{name}-optimizer.bpk")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Param, ParamId};
    use burn::nn::Linear;
    use burn::tensor::DType;
    use latentlm::RandomStream;
    use latentlm::core::conformance::assert_close;
    use latentlm_kernels::without_kernels;

    /// Its weights are not of the device's generator, which tests share.
    fn trainer(device: &Device, accumulate: usize) -> Trainer<Linear> {
        let config = StageConfig {
            grad_accumulation: accumulate,
            warmup_steps: 0,
            ..latentlm_pipelines::SpeechRecipe::default().codec_train
        };
        let weight = RandomStream::new(1).normal([3, 2], device).require_grad();
        let model = Linear {
            weight: Param::initialized(ParamId::new(), weight),
            bias: None,
        };
        Trainer::new(model, &config)
    }

    fn loss(model: &Linear, x: Tensor<2>) -> Tensor<1> {
        model.forward(x).square().mean()
    }

    /// The graph computes in bfloat16, or with kernels in float32 with rounded factors of products. The weights behind it
    /// stay float32, and so do their gradients.
    #[test]
    fn a_rounded_step_is_nearly_the_same() {
        check_rounded_step(DType::F32);
        without_kernels(|| check_rounded_step(DType::BF16));
    }

    fn check_rounded_step(kind: DType) {
        let device = Device::default().autodiff();
        let x = RandomStream::new(2).normal([5, 3], &device);
        let mut exact = trainer(&device, 1);
        let mut rounded = trainer(&device, 1);
        rounded.precision = Precision::Bf16;
        let mut norms = Vec::new();
        for trainer in [&mut exact, &mut rounded] {
            let (report, kinds) = trainer.backward_shards(vec![x.clone()], |model, x| {
                let y = latentlm_kernels::linear_layer(model, x);
                (y.clone().cast(DType::F32).square().mean(), y.dtype())
            });
            norms.push((report.unwrap().gradient_norm, kinds[0]));
        }
        let [(exact_norm, exact_kind), (norm, rounded_kind)] = norms[..] else {
            panic!("{norms:?}");
        };
        assert_eq!([exact_kind, rounded_kind], [DType::F32, kind]);
        let near = (norm / exact_norm - 1.0).abs() < 0.02;
        assert!(near && norm != exact_norm, "{norm} for {exact_norm}");
        let weight = rounded.model().weight.val();
        assert_eq!(weight.dtype(), DType::F32);
        assert_close("weights", weight, exact.model().weight.val(), 2e-3);
    }

    /// A shard's share of the batch, and its rows.
    impl ToDevice for (f64, Tensor<2>) {
        fn to_device(self, device: &Device) -> Self {
            (self.0, self.1.to_device(device))
        }
    }

    /// A batch at once, in two shards, on two devices, and in two rounds: one step, the same.
    #[test]
    fn shards_and_rounds_add_up_to_the_batch() {
        let device = Device::default().autodiff();
        let x = RandomStream::new(2).normal([5, 3], &device);
        let shards = [(0, 2), (2, 3)].map(|(start, count)| {
            let share = count as f64 / 5.0;
            (share, x.clone().narrow(0, start, count))
        });
        let mut whole = trainer(&device, 1);
        let (expected, _) = whole.backward_shards(vec![x], |model, x| (loss(model, x), ()));
        let expected = expected.unwrap();
        let mut divided = trainer(&device, 1);
        let (report, shares) = divided.backward_shards(shards.to_vec(), |model, (share, x)| {
            (loss(model, x).mul_scalar(share), share)
        });
        let mut spread = trainer(&device, 1);
        spread.spread = DataParallel::over([device.clone(), device.clone()]);
        let (elsewhere, _) = spread.backward_shards(shards.to_vec(), |model, (share, x)| {
            (loss(model, x).mul_scalar(share), share)
        });
        let mut rounds = trainer(&device, 2);
        let [first, second] = shards.map(|(share, x)| {
            let (report, _) = rounds.backward_shards(vec![x], |model, x| {
                (loss(model, x).mul_scalar(2.0 * share), ())
            });
            report
        });
        assert!(first.is_none());
        assert_eq!(shares, [0.4, 0.6]);
        for (report, trainer) in [(report, &divided), (elsewhere, &spread), (second, &rounds)] {
            let norm = report.unwrap().gradient_norm;
            assert!((norm - expected.gradient_norm).abs() < 1e-6);
            let [got, wanted] = [trainer, &whole].map(|trainer| trainer.model().weight.val());
            assert_close("weights after a step", got, wanted, 1e-5);
        }
    }
}
