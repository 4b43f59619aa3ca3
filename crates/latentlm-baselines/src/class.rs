//! Class-conditional diffusion over whole images.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_adapters::{LabelAdapter, LabelAdapterConfig, LatentAdapterConfig};
use latentlm_core::{DiffusionDraws, RandomStream, SampleOptions};

use crate::denoiser::{ImageDenoiser, ImageDiffusion};
use crate::error::BaselineError;

/// Class-conditional diffusion over the whole image. The denoiser `M` makes it a DiT or a
/// Transfusion.
///
/// As for LatentLM, the caller drops labels with [`LabelAdapter::drop_labels`] before the loss.
#[derive(Module, Debug)]
pub struct ClassConditional<M> {
    /// Embedding of the class label.
    pub label: LabelAdapter,
    /// Diffusion over the latents of the image.
    pub image: ImageDiffusion<M>,
}

/// Sizes that all class-conditional baselines have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    pub(crate) classes: usize,
    /// `T`, latents per image.
    pub(crate) tokens: usize,
    /// `Z`, dimension of a latent.
    pub(crate) latent_dim: usize,
}

impl Geometry {
    /// Checks the sizes of `model`; an error names it.
    pub(crate) fn validate(&self, model: &'static str) -> Result<(), BaselineError> {
        if self.classes == 0 || self.tokens == 0 || self.latent_dim == 0 {
            return Err(BaselineError::Config {
                model,
                reason: "classes, tokens and latent_dim must be positive".into(),
            });
        }
        Ok(())
    }

    /// Puts a denoiser of a width together with the embeddings of label and latents.
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

    /// Puts a denoiser of a width together with the embedding of latents.
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
    /// The mean diffusion loss of whole images.
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `latents`: `[B, T, Z]`, whitened
    /// - `draws`: `K * B` rows of `T * Z` numbers ([`ImageDiffusion::draw`])
    /// - returns: `[1]`
    ///
    /// # Panics
    /// If the number of rows of `draws` is not a multiple of `B`.
    pub fn loss(
        &self,
        labels: Tensor<1, Int>,
        latents: Tensor<3>,
        draws: DiffusionDraws,
    ) -> Tensor<1> {
        self.image.loss_at(latents, self.label.embed(labels), draws)
    }

    /// Samples the latents of one image for each label.
    ///
    /// # Shapes
    /// - `labels`: `[B]`
    /// - returns: `[B, T, Z]`, ready for the codec: the whitening is undone
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

    /// [`generate`](Self::generate) from given initial noise. Only samplers that add noise in every
    /// step read the random stream.
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
