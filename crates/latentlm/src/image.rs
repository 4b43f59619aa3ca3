//! The class-conditional image model: configuration, published sizes, the concrete type.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Device;
use latentlm_adapters::{LabelAdapter, LabelAdapterConfig, LatentAdapter, LatentAdapterConfig};
use latentlm_backbone::{Backbone, BackboneConfig, BackboneError};
use latentlm_codec_audio::AudioCodecError;
use latentlm_diffusion::{BetaSchedule, DiffusionError, Head, HeadConfig, Prediction};

use crate::model::LatentLm;

/// Adapters of a class-conditional image model.
#[derive(Module, Debug)]
pub struct ImageAdapters {
    /// The class label, position 0.
    pub label: LabelAdapter,
    /// The image's latents.
    pub latent: LatentAdapter,
    /// `T`, latents an image.
    pub tokens: usize,
}

/// The class-conditional image model with the workspace's own backbone and head.
pub type ImageLm = LatentLm<ImageAdapters, Backbone, Head>;

/// Configuration of an [`ImageLm`]. Defaults are the reference's Base size.
#[derive(Config, Debug, PartialEq)]
pub struct ImageLmConfig {
    /// Number of classes.
    pub classes: usize,
    /// `T`, latents an image.
    pub tokens: usize,
    /// `Z`, numbers a latent.
    pub latent_dim: usize,
    /// `D`, width of backbone and head.
    #[config(default = 768)]
    pub width: usize,
    /// Backbone blocks.
    #[config(default = 12)]
    pub depth: usize,
    /// Query heads.
    #[config(default = 12)]
    pub heads: usize,
    /// Key/value heads; 0 stands for as many as query heads.
    #[config(default = 0)]
    pub kv_heads: usize,
    /// Feed-forward ratio of backbone and head.
    #[config(default = 6.0)]
    pub mlp_ratio: f64,
    /// Layers of the diffusion head.
    #[config(default = 3)]
    pub head_depth: usize,
    /// What the head predicts.
    #[config(default = "Prediction::Velocity")]
    pub prediction: Prediction,
    /// How noise grows.
    #[config(default = "BetaSchedule::Cosine")]
    pub schedule: BetaSchedule,
    /// Timesteps of the forward process.
    #[config(default = 1000)]
    pub num_train_timesteps: usize,
}

/// What can be wrong with a model's configuration.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The backbone's part.
    #[error(transparent)]
    Backbone(#[from] BackboneError),
    /// The head's part.
    #[error(transparent)]
    Diffusion(#[from] DiffusionError),
    /// The speech codec's part.
    #[error(transparent)]
    Audio(#[from] AudioCodecError),
    /// Sizes of the model as a whole.
    #[error("model: {reason}")]
    Config {
        /// What is wrong.
        reason: String,
    },
}

impl ImageLmConfig {
    /// The backbone's configuration.
    pub fn backbone(&self) -> BackboneConfig {
        BackboneConfig::new(self.width, self.depth, self.heads)
            .with_kv_heads(self.kv_heads)
            .with_mlp_ratio(self.mlp_ratio)
    }

    /// The head's configuration.
    pub fn head(&self) -> HeadConfig {
        HeadConfig::new(self.latent_dim, self.width)
            .with_depth(self.head_depth)
            .with_mlp_ratio(self.mlp_ratio)
            .with_prediction(self.prediction)
            .with_schedule(self.schedule)
            .with_num_train_timesteps(self.num_train_timesteps)
    }

    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), ModelError> {
        if self.classes == 0 || self.tokens == 0 {
            return Err(ModelError::Config {
                reason: "classes and tokens must be positive".into(),
            });
        }
        self.backbone().validate()?;
        self.head().validate()?;
        Ok(())
    }

    /// Builds the model. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> ImageLm {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        LatentLm {
            adapters: ImageAdapters {
                label: LabelAdapterConfig::new(self.classes, self.width).init(device),
                latent: LatentAdapterConfig::new(self.latent_dim, self.width).init(device),
                tokens: self.tokens,
            },
            backbone: self.backbone().init(device),
            head: self.head().init(device),
        }
    }
}
