//! One player of a training stage: model, optimizer, moving average, and the step they take.

use std::path::Path;

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};
use latentlm::core::bundle::{BundleError, BundleWriter, load_module, save_module};
use latentlm::core::number_parameters;
use latentlm_kernels::at_once;
use latentlm_pipelines::{EmaDecay, LearningRate, StageConfig, ema_file, weights_file};

use crate::adamw::{AdamW, Pace};
use crate::clip::{clip_factor, global_norm};
use crate::error::TrainError;
use crate::precision::{Precision, round};
use crate::spread::{DataParallel, ToDevice};

/// What a step did.
#[derive(Debug, Clone, Copy)]
pub struct StepReport {
    /// The learning rate.
    pub learning_rate: f64,
    /// Global norm of the gradients before clipping.
    pub gradient_norm: f32,
}

/// A module under training.
pub struct Trainer<M: Module> {
    model: Option<M>,
    /// Averaged weights, without autodiff.
    ema: Option<M>,
    optimizer: AdamW,
    accumulator: GradientsAccumulator<M>,
    schedule: LearningRate,
    ema_decay: EmaDecay,
    clip_norm: f64,
    precision: Precision,
    spread: DataParallel,
    accumulate: usize,
    gathered: usize,
    step: u64,
}

impl<M: Module> Trainer<M> {
    /// A player at step 0. The module must live on an autodiff device.
    pub fn new(model: M, config: &StageConfig) -> Self {
        let model = number_parameters(model);
        Self {
            ema: Some(model.valid()),
            model: Some(model),
            optimizer: AdamW::new(config),
            accumulator: GradientsAccumulator::new(),
            schedule: LearningRate {
                peak: config.learning_rate,
                warmup_steps: config.warmup_steps,
                total_steps: config.steps,
                floor_ratio: config.final_lr_ratio,
            },
            ema_decay: EmaDecay {
                largest: config.ema_decay,
            },
            clip_norm: config.clip_norm,
            precision: Precision::F32,
            spread: DataParallel::default(),
            accumulate: config.grad_accumulation,
            gathered: 0,
            step: 0,
        }
    }

    /// The same player that computes batches in parts in another precision.
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// The same player that works on the parts of a batch on several devices.
    pub fn with_spread(mut self, spread: DataParallel) -> Self {
        self.spread = spread;
        self
    }

    /// Where parts are worked on.
    pub fn spread(&self) -> &DataParallel {
        &self.spread
    }

    /// The live weights.
    pub fn model(&self) -> &M {
        self.model
            .as_ref()
            .expect("the model is absent only while the optimizer holds it")
    }

    /// Changes the live weights by other means than a step; the average follows with the next one.
    /// Parameters must keep their ids.
    pub fn edit(&mut self, change: impl FnOnce(M) -> M) {
        self.model = self.model.take().map(change);
    }

    /// The averaged weights, without autodiff.
    pub fn ema(&self) -> &M {
        self.ema
            .as_ref()
            .expect("the average is absent only while the optimizer holds it")
    }

    /// Optimizer steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Adds the gradients of one loss. Every `grad_accumulation` calls the optimizer takes a step;
    /// then what it did is returned. A step whose gradients are not finite is left out.
    pub fn backward(&mut self, loss: Tensor<1>) -> Option<StepReport> {
        let gradients = GradientsParams::from_grads(loss.backward(), self.model());
        self.gather(vec![gradients])
    }

    /// [`backward`](Self::backward) of a batch in parts, each on a thread of its own from beginning
    /// to end. The loss of a part is its share of the batch's: gradients are added up. What else
    /// the work returns comes in order.
    pub fn backward_parts<T: ToDevice + Send, R: Send>(
        &mut self,
        parts: Vec<T>,
        work: impl Fn(&M, T) -> (Tensor<1>, R) + Sync,
    ) -> (Option<StepReport>, Vec<R>)
    where
        M: Send,
    {
        let inputs = parts.into_iter().enumerate().map(|(index, part)| {
            let device = self.spread.device(index);
            (fork(self.model(), device), carry(part, device))
        });
        let precision = self.precision;
        let done = at_once(inputs.collect(), |(model, part)| {
            let (loss, result) = work(&round(precision, model.clone()), part);
            let gradients = GradientsParams::from_grads(loss.backward(), &model);
            (gradients, result)
        });
        let (gradients, results): (Vec<_>, _) = done.into_iter().unzip();
        let gradients = gradients.into_iter().enumerate();
        let gradients = gradients.map(|(index, own)| match self.spread.device(index) {
            Some(_) => self.bring_home(own),
            None => own,
        });
        let gradients = gradients.collect();
        (self.gather(gradients), results)
    }

    /// Gradients of another device where the weights are.
    pub fn bring_home(&self, gradients: GradientsParams) -> GradientsParams {
        let home = self.model().devices().into_iter().next();
        match home {
            Some(home) => gradients.to_device(&home.inner(), self.model()),
            None => gradients,
        }
    }

    /// Takes the gradients of the parts of one round.
    pub fn gather(&mut self, parts: Vec<GradientsParams>) -> Option<StepReport> {
        let model = self.model.take()?;
        for gradients in parts {
            self.accumulator.accumulate(&model, gradients);
        }
        self.model = Some(model);
        self.gathered += 1;
        if self.gathered < self.accumulate {
            return None;
        }
        self.gathered = 0;
        let gradients = self.accumulator.grads();
        Some(self.update(gradients))
    }

    fn update(&mut self, gradients: GradientsParams) -> StepReport {
        let learning_rate = self.schedule.at(self.step);
        let share = 1.0 / self.accumulate as f64;
        let gradient_norm = share as f32 * global_norm(self.model(), &gradients);
        if gradient_norm.is_finite()
            && let (Some(model), Some(ema)) = (self.model.take(), self.ema.take())
        {
            let pace = Pace {
                learning_rate,
                gradient_scale: share * clip_factor(gradient_norm, self.clip_norm),
                average_decay: self.ema_decay.at(self.step),
            };
            let [model, ema] = self.optimizer.step([model, ema], gradients, pace);
            (self.model, self.ema) = (Some(model), Some(ema));
        }
        self.step += 1;
        StepReport {
            learning_rate,
            gradient_norm,
        }
    }

    /// Writes weights, averaged weights and optimizer state into a checkpoint under construction.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn save(&self, name: &str, bundle: &BundleWriter) -> Result<(), TrainError> {
        save_module(self.model(), &bundle.path(&weights_file(name)))?;
        save_module(self.ema(), &bundle.path(&ema_file(name)))?;
        let path = bundle.path(&optimizer_file(name));
        let bytes = self
            .optimizer
            .to_bytes(self.model())
            .map_err(|source| TrainError::Record {
                path: path.clone(),
                source,
            })?;
        bundle.write(&optimizer_file(name), &bytes)?;
        Ok(())
    }

    /// Takes up a saved state.
    ///
    /// # Errors
    /// If a file can't be read or belongs to another model.
    pub fn restore(&mut self, name: &str, folder: &Path, step: u64) -> Result<(), TrainError> {
        self.restore_with(name, folder, step, load_module)
    }

    /// [`restore`](Self::restore) of a module that is loaded in a way of its own.
    ///
    /// # Errors
    /// If a file can't be read or belongs to another model.
    pub fn restore_with(
        &mut self,
        name: &str,
        folder: &Path,
        step: u64,
        load: impl Fn(M, &Path) -> Result<M, BundleError>,
    ) -> Result<(), TrainError> {
        let model = load(self.model().clone(), &folder.join(weights_file(name)))?;
        self.ema = Some(load(self.ema().clone(), &folder.join(ema_file(name)))?);
        let path = folder.join(optimizer_file(name));
        self.optimizer
            .load(&model, &path)
            .map_err(|source| TrainError::Record { path, source })?;
        self.model = Some(model);
        self.step = step;
        Ok(())
    }
}

/// The same weights as the leaves of a graph of their own, on another device if one is named: graphs
/// that share none do not wait for each other.
pub fn fork<M: Module>(model: &M, device: Option<&Device>) -> M {
    let device = device.cloned().or(model.devices().into_iter().next());
    match device {
        Some(device) => model.clone().fork(&device),
        None => model.clone(),
    }
}

/// A part of a batch, on another device if one is named.
pub fn carry<T: ToDevice>(part: T, device: Option<&Device>) -> T {
    match device {
        Some(device) => part.to_device(device),
        None => part,
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

    /// Its weights are not of the device's generator, which tests share.
    fn player(device: &Device, accumulate: usize) -> Trainer<Linear> {
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

    /// The graph computes in bfloat16, the weights behind it stay float32, and so do their gradients.
    #[test]
    fn a_rounded_step_is_nearly_the_same() {
        let device = Device::default().autodiff();
        let x = RandomStream::new(2).normal([5, 3], &device);
        let mut exact = player(&device, 1);
        let mut rounded = player(&device, 1).with_precision(Precision::Bf16);
        let mut norms = Vec::new();
        for player in [&mut exact, &mut rounded] {
            let (report, kinds) = player.backward_parts(vec![x.clone()], |model, x| {
                let y = latentlm_kernels::linear_layer(model, x);
                (y.clone().cast(DType::F32).square().mean(), y.dtype())
            });
            norms.push((report.unwrap().gradient_norm, kinds[0]));
        }
        let [(exact_norm, DType::F32), (norm, DType::BF16)] = norms[..] else {
            panic!("{norms:?}");
        };
        let near = (norm / exact_norm - 1.0).abs() < 0.02;
        assert!(near && norm != exact_norm, "{norm} for {exact_norm}");
        let weight = rounded.model().weight.val();
        assert_eq!(weight.dtype(), DType::F32);
        assert_close("weights", weight, exact.model().weight.val(), 2e-3);
    }

    /// A batch at once, in two parts, on two devices, and in two rounds: one step, the same.
    #[test]
    fn parts_and_rounds_add_up_to_the_batch() {
        let device = Device::default().autodiff();
        let x = RandomStream::new(2).normal([5, 3], &device);
        let parts = [(0, 2), (2, 3)].map(|(start, count)| {
            let share = count as f64 / 5.0;
            (share, x.clone().narrow(0, start, count))
        });
        let mut whole = player(&device, 1);
        let expected = whole.backward(loss(whole.model(), x)).unwrap();
        let mut divided = player(&device, 1);
        let (report, shares) = divided.backward_parts(parts.to_vec(), |model, (share, x)| {
            (loss(model, x).mul_scalar(share), share)
        });
        let mut spread = player(&device, 1);
        spread = spread.with_spread(DataParallel::over([device.clone(), device.clone()]));
        let (elsewhere, _) = spread.backward_parts(parts.to_vec(), |model, (share, x)| {
            (loss(model, x).mul_scalar(share), share)
        });
        let mut rounds = player(&device, 2);
        let [first, second] = parts.map(|(share, x)| {
            let loss = loss(rounds.model(), x).mul_scalar(2.0 * share);
            rounds.backward(loss)
        });
        assert!(first.is_none());
        assert_eq!(shares, [0.4, 0.6]);
        for (report, player) in [(report, &divided), (elsewhere, &spread), (second, &rounds)] {
            let norm = report.unwrap().gradient_norm;
            assert!((norm - expected.gradient_norm).abs() < 1e-6);
            let [got, wanted] = [player, &whole].map(|player| player.model().weight.val());
            assert_close("weights after a step", got, wanted, 1e-5);
        }
    }
}
