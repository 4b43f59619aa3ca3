//! What the recipes of all modalities share. Every key stands in the files under `configs`, with its
//! meaning beside it.

use std::fmt::Debug;
use std::path::Path;

use burn::config::Config;
use latentlm::LmSizes;
use latentlm::core::recipe::{self, RecipeError};
use latentlm::core::{BetaSchedule, Precision, Prediction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::PipelineError;

/// A complete recipe of one modality. Its default is the preset that files and overrides are laid
/// over (see [`latentlm::core::recipe`]).
pub trait Recipe: Serialize + DeserializeOwned + Default + Clone + PartialEq + Debug {
    /// The command that trains it.
    const COMMAND: &'static str;

    /// The one seed of all randomness.
    fn seed(&self) -> u64;

    /// Checks everything that can be checked without data.
    ///
    /// # Errors
    /// With one line that names the first thing that is wrong.
    fn validate(&self) -> Result<(), PipelineError>;

    /// The recipe of a file with overrides, checked.
    ///
    /// # Errors
    /// If a key or value is wrong or the sizes do not fit each other.
    fn resolve(file: Option<&Path>, overrides: &[String]) -> Result<Self, PipelineError> {
        let recipe: Self = recipe::resolve(&Self::default(), file, overrides)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    ///
    /// # Errors
    /// Never for a recipe that was resolved.
    fn to_toml(&self) -> Result<String, RecipeError> {
        recipe::to_toml(self)
    }
}

/// The language model's part that does not follow from data and codec.
#[derive(Config, Debug, PartialEq)]
pub struct LmConfig {
    /// Width of backbone and head.
    pub width: usize,
    /// Backbone blocks.
    pub depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; 0 stands for as many as query heads.
    pub kv_heads: usize,
    /// Feed-forward ratio.
    pub mlp_ratio: f64,
    /// Layers of the diffusion head.
    pub head_depth: usize,
    /// What the head predicts.
    pub prediction: Prediction,
    /// How noise grows.
    pub schedule: BetaSchedule,
    /// Timesteps of the forward process.
    pub num_train_timesteps: usize,
    /// Draws of noise and timestep a latent and step (`ddpm_batch_mul`).
    pub batch_mul: usize,
    /// What training computes in.
    pub precision: Precision,
    /// Whether training keeps what goes into each block and layer alone and runs them again for their
    /// gradients.
    pub recompute: bool,
    /// Share of labels or texts that are dropped, for guidance.
    pub condition_dropout: f64,
}

/// How a stage is trained.
#[derive(Config, Debug, PartialEq)]
pub struct StageConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Samples a forward pass.
    pub batch_size: usize,
    /// Forward passes an optimizer step.
    pub grad_accumulation: usize,
    /// Peak learning rate of AdamW.
    pub learning_rate: f64,
    /// First moment's decay.
    pub beta_1: f64,
    /// Second moment's decay.
    pub beta_2: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Steps of linear warm-up.
    pub warmup_steps: u64,
    /// Learning rate at the end of the cosine, as a share of the peak.
    pub final_lr_ratio: f64,
    /// Global norm that gradients are clipped to; 0 switches clipping off.
    pub clip_norm: f64,
    /// Largest decay of the moving average of the weights.
    pub ema_decay: f64,
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between samples.
    pub sample_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

impl LmConfig {
    /// Sizes of backbone and head.
    pub fn sizes(&self) -> LmSizes {
        LmSizes {
            width: self.width,
            depth: self.depth,
            heads: self.heads,
            kv_heads: self.kv_heads,
            mlp_ratio: self.mlp_ratio,
            head_depth: self.head_depth,
            prediction: self.prediction,
            schedule: self.schedule,
            num_train_timesteps: self.num_train_timesteps,
            recompute: self.recompute,
        }
    }

    /// Checks what the model's own configuration does not.
    pub fn validate(&self, solver_steps: usize) -> Result<(), PipelineError> {
        let fail = |reason: &str| {
            Err(PipelineError::Config {
                reason: reason.into(),
            })
        };
        if self.batch_mul == 0 {
            return fail("lm.batch_mul must be positive");
        }
        if !(0.0..1.0).contains(&self.condition_dropout) {
            return fail("lm.condition_dropout must be at least 0 and below 1");
        }
        if !(1..self.num_train_timesteps).contains(&solver_steps) {
            return fail("sample.steps must be positive and below lm.num_train_timesteps");
        }
        Ok(())
    }
}

impl StageConfig {
    /// Checks what can be checked without data; `name` is the table of the recipe.
    ///
    /// # Errors
    /// With the first key that is wrong.
    pub fn validate(&self, name: &str) -> Result<(), PipelineError> {
        let fail = |what: &str| {
            Err(PipelineError::Config {
                reason: format!("{name}.{what}"),
            })
        };
        let positive = [
            (self.steps, "steps"),
            (self.batch_size as u64, "batch_size"),
            (self.grad_accumulation as u64, "grad_accumulation"),
            (self.log_every, "log_every"),
            (self.sample_every, "sample_every"),
            (self.checkpoint_every, "checkpoint_every"),
        ];
        for (value, key) in positive {
            if value == 0 {
                return fail(&format!("{key} must be positive"));
            }
        }
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return fail("learning_rate must be positive");
        }
        for (value, key) in [
            (self.beta_1, "beta_1"),
            (self.beta_2, "beta_2"),
            (self.ema_decay, "ema_decay"),
        ] {
            if !(0.0..1.0).contains(&value) {
                return fail(&format!("{key} must be at least 0 and below 1"));
            }
        }
        if self.weight_decay < 0.0 || self.clip_norm < 0.0 {
            return fail("weight_decay and clip_norm must not be negative");
        }
        Ok(())
    }
}
