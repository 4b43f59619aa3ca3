//! Class-conditional diffusion over whole images.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_adapters::{LabelAdapter, LabelAdapterConfig};
use latentlm_core::{DiffusionDraws, RandomStream, SampleOptions};

use crate::denoiser::{DenoiserConfig, ImageDenoiser, ImageDiffusion};

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

impl DenoiserConfig {
    /// Builds the class-conditional model. Its parameters are drawn from the device's generator, so
    /// seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init<M: ImageDenoiser>(&self, device: &Device) -> ClassConditional<M> {
        let denoiser = self.denoiser(device);
        ClassConditional {
            label: LabelAdapterConfig::new(self.classes, self.sizes.width).init(device),
            image: self.image(denoiser, device),
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
