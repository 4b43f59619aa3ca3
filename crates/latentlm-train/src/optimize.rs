//! One player of a training stage: model, optimizer, moving average, and the step they take.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::Tensor;
use latentlm::core::bundle::{BundleWriter, load_module, save_module};
use latentlm::core::number_parameters;
use std::path::Path;

use crate::adamw::AdamW;
use crate::clip::clip_global_norm;
use crate::ema::Ema;
use crate::error::TrainError;
use crate::recipe::StageConfig;
use crate::schedule::LearningRate;

/// What a step did.
#[derive(Debug, Clone, Copy)]
pub struct StepReport {
    /// The learning rate.
    pub learning_rate: f64,
    /// Global norm of the gradients before clipping.
    pub gradient_norm: f32,
}

/// A module under training.
pub struct Player<M: Module> {
    model: Option<M>,
    optimizer: ModuleOptimizer,
    ema: Ema<M>,
    accumulator: GradientsAccumulator<M>,
    schedule: LearningRate,
    clip_norm: f64,
    accumulate: usize,
    gathered: usize,
    step: u64,
}

impl<M: Module> Player<M> {
    /// A player at step 0. The module must live on an autodiff device.
    pub fn new(model: M, config: &StageConfig) -> Self {
        let model = number_parameters(model);
        let optimizer = ModuleOptimizer::from(AdamW::new(config));
        Self {
            ema: Ema::new(&model, config.ema_decay),
            model: Some(model),
            optimizer,
            accumulator: GradientsAccumulator::new(),
            schedule: LearningRate {
                peak: config.learning_rate,
                warmup_steps: config.warmup_steps,
                total_steps: config.steps,
                floor_ratio: config.final_lr_ratio,
            },
            clip_norm: config.clip_norm,
            accumulate: config.grad_accumulation,
            gathered: 0,
            step: 0,
        }
    }

    /// The live weights.
    pub fn model(&self) -> &M {
        self.model
            .as_ref()
            .expect("the model is absent only while the optimizer holds it")
    }

    /// Changes the live weights by other means than a step; the average follows with the next one.
    /// Parameters must keep their ids.
    pub(crate) fn edit(&mut self, change: impl FnOnce(M) -> M) {
        self.model = self.model.take().map(change);
    }

    /// The averaged weights, without autodiff.
    pub fn ema(&self) -> &M {
        self.ema.module()
    }

    /// Optimizer steps taken.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Adds the gradients of one loss. Every `grad_accumulation` calls the optimizer takes a step;
    /// then what it did is returned. A step whose gradients are not finite is left out.
    pub fn backward(&mut self, loss: Tensor<1>) -> Option<StepReport> {
        let share = 1.0 / self.accumulate as f64;
        let loss = if self.accumulate == 1 {
            loss
        } else {
            loss.mul_scalar(share)
        };
        let gradients = GradientsParams::from_grads(loss.backward(), self.model());
        if self.accumulate == 1 {
            return Some(self.update(gradients));
        }
        let model = self.model.take()?;
        self.accumulator.accumulate(&model, gradients);
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
        let limit = if self.clip_norm > 0.0 {
            self.clip_norm
        } else {
            f64::INFINITY
        };
        let (gradients, gradient_norm) = clip_global_norm(self.model(), gradients, limit);
        if gradient_norm.is_finite()
            && let Some(model) = self.model.take()
        {
            let model = self.optimizer.step(learning_rate, model, gradients);
            self.ema.update(&model, self.step);
            self.model = Some(model);
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
            .into_bytes()
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
        let Some(model) = self.model.take() else {
            return Ok(());
        };
        let ema = load_module(self.ema.module().clone(), &folder.join(ema_file(name)))?;
        self.ema.set_module(ema);
        self.model = Some(load_module(model, &folder.join(weights_file(name)))?);
        let path = folder.join(optimizer_file(name));
        self.optimizer = self
            .optimizer
            .clone()
            .load(&path)
            .map_err(|source| TrainError::Record { path, source })?;
        self.step = step;
        Ok(())
    }
}

/// File of a player's live weights.
pub fn weights_file(name: &str) -> String {
    format!("{name}.safetensors")
}

/// File of a player's averaged weights.
pub fn ema_file(name: &str) -> String {
    format!("{name}-ema.safetensors")
}

fn optimizer_file(name: &str) -> String {
    format!("{name}-optimizer.bpk")
}
