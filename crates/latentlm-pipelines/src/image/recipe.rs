//! What a training run of images is made of. Every key stands in the recipe files under
//! `configs/image`, with its meaning beside it.

use burn::config::Config;
use latentlm::LatentLmConfig;
use latentlm::codec_image::{CodecConfig, CodecLossConfig};
use latentlm::core::{
    BetaSchedule, LatentCodecConfig, PartConfig, Precision, Prediction, SampleOptions, Sampler,
};
use latentlm_data::{ImageSpec, ReadOptions};
use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::recipe::{LmConfig, Recipe, StageConfig};

/// The shipped recipe that the default is.
const PRESET: &str = "image/mnist";

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

/// Where pictures come from. Checkpoints of older versions lack the later keys, which then have
/// their defaults.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataConfig {
    /// The folder.
    pub path: String,
    /// Whether training pictures are mirrored at random.
    pub horizontal_flip: bool,
    /// Share of the pictures that may be left out because they can't be used.
    #[serde(default = "DataConfig::default_max_broken")]
    pub max_broken: f64,
    /// Whether metadata may name files outside of the folder.
    #[serde(default)]
    pub outside: bool,
    /// Most megabytes that a picture takes once it is decoded.
    #[serde(default = "DataConfig::default_max_picture_mb")]
    pub max_picture_mb: u64,
    /// Most megabytes that the pictures of an IDX file take.
    #[serde(default = "DataConfig::default_max_idx_mb")]
    pub max_idx_mb: u64,
}

impl DataConfig {
    /// Pictures of a folder, not mirrored, within the default bounds.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.into(),
            horizontal_flip: false,
            max_broken: Self::default_max_broken(),
            outside: false,
            max_picture_mb: Self::default_max_picture_mb(),
            max_idx_mb: Self::default_max_idx_mb(),
        }
    }

    fn default_max_broken() -> f64 {
        ReadOptions::default().max_broken
    }

    fn default_max_picture_mb() -> u64 {
        ReadOptions::default().max_picture_bytes / ReadOptions::MEGABYTE
    }

    fn default_max_idx_mb() -> u64 {
        ReadOptions::default().max_idx_bytes / ReadOptions::MEGABYTE
    }

    /// How the folder is read.
    pub fn options(&self) -> ReadOptions {
        ReadOptions {
            max_broken: self.max_broken,
            outside: self.outside,
            max_picture_bytes: self.max_picture_mb.saturating_mul(ReadOptions::MEGABYTE),
            max_idx_bytes: self.max_idx_mb.saturating_mul(ReadOptions::MEGABYTE),
        }
    }

    fn validate(&self) -> Result<(), PipelineError> {
        let reason = if !(0.0..=1.0).contains(&self.max_broken) {
            "data.max_broken must lie between 0 and 1"
        } else if self.max_picture_mb == 0 || self.max_idx_mb == 0 {
            "data.max_picture_mb and data.max_idx_mb must be positive"
        } else {
            return Ok(());
        };
        Err(PipelineError::Config {
            reason: reason.into(),
        })
    }
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
            data: DataConfig::new("datasets/mnist"),
            codec: CodecConfig::preset(PRESET),
            codec_loss: CodecLossConfig::preset(PRESET),
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
                precision: Precision::F32,
                recompute: false,
                condition_dropout: 0.1,
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

impl Recipe for ImageRecipe {
    const COMMAND: &'static str = "train-image";

    fn seed(&self) -> u64 {
        self.seed
    }

    fn validate(&self) -> Result<(), PipelineError> {
        self.data.validate()?;
        self.codec.validate()?;
        self.codec_loss.validate()?;
        self.codec_train.validate("codec_train")?;
        self.lm_train.validate("lm_train")?;
        self.model(1).validate()?;
        self.lm.validate(self.sample.steps)?;
        if self.sample.per_class == 0 {
            return Err(PipelineError::Config {
                reason: "sample.per_class must be positive".into(),
            });
        }
        Ok(())
    }
}

impl ImageRecipe {
    /// Geometry of the pictures.
    pub fn image_spec(&self) -> ImageSpec {
        let picture = self.codec.signal();
        ImageSpec {
            channels: picture.channels,
            height: picture.height,
            width: picture.width,
        }
    }

    /// Latents a picture; 0, which no model accepts, where the codec's latents are not on a grid.
    pub fn tokens(&self) -> usize {
        self.codec.spec().tokens().unwrap_or_default()
    }

    /// The language model's configuration for that many classes.
    pub fn model(&self, classes: usize) -> LatentLmConfig {
        LatentLmConfig::image(classes, self.tokens(), self.codec.spec().dim)
            .with_sizes(self.lm.sizes())
    }

    /// The options that samples are drawn with.
    pub fn sample_options(&self) -> SampleOptions {
        SampleOptions {
            sampler: self.sample.sampler,
            steps: self.sample.steps,
            guidance_scale: self.sample.guidance_scale,
            ..SampleOptions::default()
        }
    }
}
