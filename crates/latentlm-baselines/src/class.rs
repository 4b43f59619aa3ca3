//! Class-conditional diffusion over whole images.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_adapters::{LabelAdapter, LabelAdapterConfig, LatentAdapterConfig};
use latentlm_core::{DiffusionDraws, RandomStream, SampleOptions};

use crate::denoiser::{ImageDenoiser, ImageDiffusion};
use crate::error::BaselineError;

/// A class label and diffusion over the whole image: DiT or Transfusion, as the denoiser is.
///
/// Labels are dropped by [`LabelAdapter::drop_labels`] before the loss sees them, as for LatentLM.
#[derive(Module, Debug)]
pub struct ClassConditional<M> {
    /// The class label.
    pub label: LabelAdapter,
    /// Diffusion over the image's latents.
    pub image: ImageDiffusion<M>,
}

/// Numbers that every class-conditional rival has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) classes: usize,
    pub(crate) tokens: usize,
    pub(crate) latent_dim: usize,
}

impl Geometry {
    pub(crate) fn validate(&self, rival: &'static str) -> Result<(), BaselineError> {
        if self.classes == 0 || self.tokens == 0 || self.latent_dim == 0 {
            return Err(BaselineError::Config {
                rival,
                reason: "classes, tokens and latent_dim must be positive".into(),
            });
        }
        Ok(())
    }

    pub(crate) fn model<M: ImageDenoiser>(
        &self,
        width: usize,
        denoiser: M,
        device: &Device,
    ) -> ClassConditional<M> {
        ClassConditional {
            label: LabelAdapterConfig::new(self.classes, width).init(device),
            image: self.image(width, denoiser, device),
        }
    }

    pub(crate) fn image<M: ImageDenoiser>(
        &self,
        width: usize,
        denoiser: M,
        device: &Device,
    ) -> ImageDiffusion<M> {
        ImageDiffusion {
            latent: LatentAdapterConfig::new(self.latent_dim, width).init(device),
            denoiser,
            tokens: self.tokens,
        }
    }
}

impl<M: ImageDenoiser> ClassConditional<M> {
    /// The diffusion loss of whole images.
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `latents`: `[B, T, Z]`, whitened
    /// - `draws`: `K * B` rows of `T * Z` numbers ([`ImageDiffusion::draw`])
    /// - returns: `[1]`
    ///
    /// # Panics
    /// If the rows of `draws` are no multiple of `B`.
    pub fn loss(
        &self,
        labels: Tensor<1, Int>,
        latents: Tensor<3>,
        draws: DiffusionDraws,
    ) -> Tensor<1> {
        self.image.loss_at(latents, self.label.embed(labels), draws)
    }

    /// Draws the latents of one image a label.
    ///
    /// # Shapes
    /// - `labels`: `[B]`
    /// - returns: `[B, T, Z]`, as the codec decodes them (whitening undone)
    pub fn generate(
        &self,
        labels: Tensor<1, Int>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let dim = self.image.denoiser.latent_dim();
        let shape = [labels.dims()[0], self.image.tokens, dim];
        let noise = random.normal(shape, &labels.device());
        let latents = self.generate_from(labels, noise, options, random);
        self.image.latent.unwhiten(latents)
    }

    /// [`generate`](Self::generate) from given initial noise; the stream is read only by samplers
    /// that add noise on the way.
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `noise`: `[B, T, Z]`
    /// - returns: `[B, T, Z]`, whitened
    pub fn generate_from(
        &self,
        labels: Tensor<1, Int>,
        noise: Tensor<3>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let null = self.label.null(labels.dims()[0], &labels.device());
        let [condition, null] = [labels, null].map(|labels| self.label.embed(labels));
        self.image
            .sample(condition, Some(null), noise, options, random)
    }
}
