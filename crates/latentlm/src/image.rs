//! The class-conditional image model: configuration, the concrete type.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::Device;
use latentlm_adapters::{LabelAdapter, LabelAdapterConfig, LatentAdapter, LatentAdapterConfig};
use latentlm_backbone::Backbone;
use latentlm_diffusion::Head;

use crate::model::LatentLm;
use crate::sizes::{LmSizes, ModelError};

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
    /// Sizes of backbone and head.
    #[config(default = "LmSizes::new()")]
    pub sizes: LmSizes,
}

impl ImageLmConfig {
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
        self.sizes.validate(self.latent_dim)
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
                label: LabelAdapterConfig::new(self.classes, self.sizes.width).init(device),
                latent: LatentAdapterConfig::new(self.latent_dim, self.sizes.width).init(device),
                tokens: self.tokens,
            },
            backbone: self.sizes.backbone().init(device),
            head: self.sizes.head(self.latent_dim).init(device),
        }
    }
}
