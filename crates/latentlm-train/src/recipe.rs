//! What a training run of images is made of. Every key stands in the recipe files under
//! `configs/image`, with its meaning beside it.

use std::path::Path;

use burn::config::Config;
use latentlm::ImageLmConfig;
use latentlm::codec_image::{
    Activation, Architecture, CodecConfig, CodecLossConfig, ConvConfig, NoiseKind, VitConfig,
};
use latentlm::core::recipe::{self, RecipeError};
use latentlm::core::{SampleOptions, Sampler};
use latentlm::diffusion::{BetaSchedule, Prediction};
use latentlm_data::ImageSpec;

use crate::error::TrainError;

/// A complete image recipe.
#[derive(Config, Debug, PartialEq)]
pub struct ImageRecipe {
    /// The one seed of all randomness.
    pub seed: u64,
    /// Where pictures come from.
    pub data: DataConfig,
    /// The codec.
    pub codec: CodecConfig,
    /// What the codec is trained with.
    pub codec_loss: CodecLossConfig,
    /// How the codec is trained.
    pub codec_train: StageConfig,
    /// The language model.
    pub lm: LmConfig,
    /// How the language model is trained.
    pub lm_train: StageConfig,
    /// How samples are drawn.
    pub sample: SampleConfig,
}

/// Where pictures come from.
#[derive(Config, Debug, PartialEq)]
pub struct DataConfig {
    /// The folder.
    pub path: String,
    /// Whether training pictures are mirrored at random.
    pub horizontal_flip: bool,
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
    /// Share of labels replaced by the null label.
    pub label_dropout: f64,
}

/// How a stage is trained.
#[derive(Config, Debug, PartialEq)]
pub struct StageConfig {
    /// Optimizer steps.
    pub steps: u64,
    /// Pictures a forward pass.
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
    /// Steps between sample pictures.
    pub sample_every: u64,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

/// How samples are drawn.
#[derive(Config, Debug, PartialEq)]
pub struct SampleConfig {
    /// The solver.
    pub sampler: Sampler,
    /// Solver steps a latent.
    pub steps: usize,
    /// Classifier-free guidance.
    pub guidance_scale: f64,
    /// Pictures a class in a grid.
    pub per_class: usize,
}

impl Default for ImageRecipe {
    /// The digits of `configs/image/mnist.toml`.
    fn default() -> Self {
        let stage = StageConfig {
            steps: 600,
            batch_size: 100,
            grad_accumulation: 1,
            learning_rate: 2e-3,
            beta_1: 0.9,
            beta_2: 0.98,
            weight_decay: 0.01,
            warmup_steps: 50,
            final_lr_ratio: 0.0,
            clip_norm: 1.0,
            ema_decay: 0.995,
            log_every: 10,
            sample_every: 250,
            checkpoint_every: 250,
        };
        Self {
            seed: 1,
            data: DataConfig {
                path: "datasets/mnist".into(),
                horizontal_flip: false,
            },
            codec: default_codec(),
            codec_loss: CodecLossConfig::new().with_kl_weight(0.003),
            codec_train: stage.clone(),
            lm: LmConfig {
                width: 128,
                depth: 4,
                heads: 4,
                kv_heads: 2,
                mlp_ratio: 4.0,
                head_depth: 3,
                prediction: Prediction::Velocity,
                schedule: BetaSchedule::Cosine,
                num_train_timesteps: 1000,
                batch_mul: 4,
                label_dropout: 0.1,
            },
            lm_train: StageConfig {
                steps: 1200,
                batch_size: 64,
                learning_rate: 1e-3,
                warmup_steps: 100,
                ..stage
            },
            sample: SampleConfig {
                sampler: Sampler::DpmSolverPlusPlus,
                steps: 20,
                guidance_scale: 2.0,
                per_class: 10,
            },
        }
    }
}

fn default_codec() -> CodecConfig {
    CodecConfig {
        channels: 1,
        image_size: 32,
        latent_dim: 16,
        architecture: Architecture::Vit,
        noise: NoiseKind::SigmaVae,
        noise_std: 0.75,
        conv: ConvConfig::new(),
        vit: VitConfig::new().with_activation(Activation::Relu),
    }
}

impl ImageRecipe {
    /// The recipe of a file with overrides (see [`latentlm::core::recipe`]), checked.
    ///
    /// # Errors
    /// If a key or value is wrong or the sizes do not fit each other.
    pub fn resolve(file: Option<&Path>, overrides: &[String]) -> Result<Self, TrainError> {
        let recipe: Self = recipe::resolve(&Self::default(), file, overrides)?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// The recipe as TOML.
    ///
    /// # Errors
    /// Never for a recipe that was resolved.
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        recipe::to_toml(self)
    }

    /// Checks everything that can be checked without data.
    ///
    /// # Errors
    /// With one line that names the first thing that is wrong.
    pub fn validate(&self) -> Result<(), TrainError> {
        self.codec.validate()?;
        self.codec_loss.validate()?;
        self.codec_train.validate("codec_train")?;
        self.lm_train.validate("lm_train")?;
        self.model(1).validate()?;
        let fail = |reason: &str| {
            Err(TrainError::Config {
                reason: reason.into(),
            })
        };
        if self.lm.batch_mul == 0 {
            return fail("lm.batch_mul must be positive");
        }
        if !(0.0..1.0).contains(&self.lm.label_dropout) {
            return fail("lm.label_dropout must be at least 0 and below 1");
        }
        if self.sample.per_class == 0 || self.sample.steps == 0 {
            return fail("sample.per_class and sample.steps must be positive");
        }
        if self.sample.steps >= self.lm.num_train_timesteps {
            return fail("sample.steps must be below lm.num_train_timesteps");
        }
        Ok(())
    }

    /// Geometry of the pictures.
    pub fn image_spec(&self) -> ImageSpec {
        ImageSpec {
            channels: self.codec.channels,
            height: self.codec.image_size,
            width: self.codec.image_size,
        }
    }

    /// The language model's configuration for that many classes.
    pub fn model(&self, classes: usize) -> ImageLmConfig {
        let lm = &self.lm;
        ImageLmConfig::new(classes, self.codec.tokens(), self.codec.latent_dim)
            .with_width(lm.width)
            .with_depth(lm.depth)
            .with_heads(lm.heads)
            .with_kv_heads(lm.kv_heads)
            .with_mlp_ratio(lm.mlp_ratio)
            .with_head_depth(lm.head_depth)
            .with_prediction(lm.prediction)
            .with_schedule(lm.schedule)
            .with_num_train_timesteps(lm.num_train_timesteps)
    }

    /// The options that samples are drawn with.
    pub fn sample_options(&self) -> SampleOptions {
        SampleOptions {
            sampler: self.sample.sampler,
            steps: self.sample.steps,
            guidance_scale: self.sample.guidance_scale,
        }
    }
}

impl StageConfig {
    fn validate(&self, name: &str) -> Result<(), TrainError> {
        let fail = |what: &str| {
            Err(TrainError::Config {
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
