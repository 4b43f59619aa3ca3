//! Class-conditional diffusion over whole images.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use latentlm_adapters::{LabelAdapter, LabelAdapterConfig, LatentAdapterConfig};
use latentlm_core::{DiffusionDraws, RandomStream, SampleOptions};

use crate::denoiser::{ImageDenoiser, ImageDiffusion};
use crate::error::BaselineError;
use crate::sizes::DenoiserSizes;

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

/// Configuration of a model that denoises whole images: a [`Dit`](crate::Dit), a
/// [`Transfusion`](crate::Transfusion) or a [`MllmTransfusion`](crate::MllmTransfusion).
#[derive(Config, Debug, PartialEq)]
pub struct DenoiserConfig {
    /// Number of classes. For a [`MllmTransfusion`](crate::MllmTransfusion), size of the text
    /// vocabulary without `SpecialTokens`.
    pub classes: usize,
    /// `T`, latents per image. For a [`Dit`](crate::Dit) a square number, since they form a square grid.
    pub tokens: usize,
    /// `Z`, dimension of a latent.
    pub latent_dim: usize,
    /// Sizes of the Transformer.
    #[config(default = "DenoiserSizes::new()")]
    pub sizes: DenoiserSizes,
}

impl DenoiserConfig {
    /// Checks the configuration of a denoiser `M`.
    ///
    /// # Errors
    /// If a size is zero, sizes do not fit each other, or the denoiser has no use for them.
    pub fn validate<M: ImageDenoiser>(&self) -> Result<(), BaselineError> {
        let fail = |reason: String| {
            Err(BaselineError::Config {
                model: M::MODEL,
                reason,
            })
        };
        if self.classes == 0 || self.tokens == 0 || self.latent_dim == 0 {
            return fail("classes, tokens and latent_dim must be positive".into());
        }
        self.sizes.validate(M::MODEL)?;
        M::check(self).or_else(fail)
    }

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

    /// Builds the denoiser alone.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub(crate) fn denoiser<M: ImageDenoiser>(&self, device: &Device) -> M {
        if let Err(error) = self.validate::<M>() {
            panic!("{error}");
        }
        M::of(self, device)
    }

    /// Puts a denoiser together with the embedding of latents.
    pub(crate) fn image<M>(&self, denoiser: M, device: &Device) -> ImageDiffusion<M> {
        ImageDiffusion {
            latent: LatentAdapterConfig::new(self.latent_dim, self.sizes.width).init(device),
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
