//! Diffusion over a whole image: the trait of its networks, the loss and the sampling loop.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_adapters::{LatentAdapter, LatentAdapterConfig};
use latentlm_core::{DiffusionDraws, PartConfig, RandomStream, SampleOptions};
use latentlm_diffusion::{BetaSchedule, NoiseSchedule, Prediction, solver};
use latentlm_kernels::{at_once, shards};

use crate::error::BaselineError;
use crate::sizes::DenoiserSizes;
use crate::token::guide;

/// A network that denoises all latents of an image together, as a
/// [`LatentHead`](latentlm_core::LatentHead) denoises one latent.
pub trait ImageDenoiser: Module {
    /// Name of the model in messages.
    const MODEL: &'static str;

    /// Why the network can't have the sizes of a configuration, which fit each other.
    ///
    /// # Errors
    /// If there is a reason.
    fn check(_config: &DenoiserConfig) -> Result<(), String> {
        Ok(())
    }

    /// The network with initial weights. The configuration was checked.
    fn of(config: &DenoiserConfig, device: &Device) -> Self;

    /// The forward process that the network inverts.
    fn schedule(&self) -> &NoiseSchedule;

    /// `Z`, dimension of a latent.
    fn latent_dim(&self) -> usize;

    /// One evaluation of the network: its prediction of noise or velocity.
    ///
    /// # Shapes
    /// - `noisy`: `[B, T, D]`, embedded noisy latents; `timesteps`: `[B]`, one for each image
    /// - `condition`: `[B, P, D]`, embedded label or text
    /// - returns: `[B, T, Z]`
    fn denoise(&self, noisy: Tensor<3>, timesteps: Tensor<1>, condition: Tensor<3>) -> Tensor<3>;
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
    /// Prediction target of the network.
    #[config(default = "Prediction::Velocity")]
    pub prediction: Prediction,
    /// Noise schedule of the forward process.
    #[config(default = "BetaSchedule::Cosine")]
    pub schedule: BetaSchedule,
    /// Number of timesteps of the forward process.
    #[config(default = 1000)]
    pub num_train_timesteps: usize,
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
        self.sizes.backbone().validate()?;
        if self.num_train_timesteps < 2 {
            return fail("num_train_timesteps must be 2 or more".into());
        }
        M::check(self).or_else(fail)
    }

    pub(crate) fn noise_schedule(&self) -> NoiseSchedule {
        NoiseSchedule::new(self.schedule, self.prediction, self.num_train_timesteps)
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

/// A denoiser with the embedding of its latents. Noise schedule and solvers work on rows, so there an
/// image is one row of `T * Z` elements.
#[derive(Module, Debug)]
pub struct ImageDiffusion<M> {
    /// Embedding of latents, with their whitening.
    pub latent: LatentAdapter,
    /// Network from embedded latents to the prediction.
    pub denoiser: M,
    /// `T`, latents per image.
    pub tokens: usize,
}

/// A batch of noisy images with the targets of the prediction.
struct NoisyBatch {
    /// Noisy latents, `[K * B, T * Z]`.
    noisy: Tensor<2>,
    /// Targets of the prediction, `[K * B, T * Z]`.
    target: Tensor<2>,
    /// Timesteps, `[K * B]`.
    timesteps: Tensor<1>,
    /// `K`, draws of noise for each image.
    repeats: usize,
}

impl<M: ImageDenoiser> ImageDiffusion<M> {
    /// Draws one timestep and the noise of each image. An image is one row of `T * Z` elements in
    /// [`DiffusionDraws`].
    pub fn draw(
        &self,
        images: usize,
        random: &mut RandomStream,
        device: &Device,
    ) -> DiffusionDraws {
        let size = self.tokens * self.denoiser.latent_dim();
        let timesteps = random.integers(images, self.denoiser.schedule().timesteps(), device);
        DiffusionDraws::new(timesteps, random.normal([images, size], device))
    }

    /// The mean square error of the prediction at given timesteps and noise. The rows of `draws` are
    /// `[K, B]`: each image is denoised `K` times.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`, whitened; `condition`: `[B, P, D]`
    /// - `draws`: `K * B` rows of `T * Z` numbers
    /// - returns: `[1]`
    ///
    /// # Panics
    /// If the number of rows of `draws` is not a multiple of `B`.
    pub fn loss_at(
        &self,
        latents: Tensor<3>,
        condition: Tensor<3>,
        draws: DiffusionDraws,
    ) -> Tensor<1> {
        let batch = self.add_noise(latents, draws);
        let condition = condition.repeat_dim(0, batch.repeats);
        let prediction = self.denoise(batch.noisy, batch.timesteps, condition);
        (prediction - batch.target).square().mean()
    }

    /// Adds noise to clean latents `[B, T, Z]` and computes the targets.
    fn add_noise(&self, latents: Tensor<3>, draws: DiffusionDraws) -> NoisyBatch {
        let [batch, tokens, dim] = latents.dims();
        let DiffusionDraws {
            timesteps, noise, ..
        } = draws;
        let repeats = noise.dims()[0] / batch;
        assert_eq!(
            noise.dims(),
            [repeats * batch, tokens * dim],
            "draws for latents [{batch}, {tokens}, {dim}]"
        );
        let clean = latents
            .reshape([batch, tokens * dim])
            .repeat_dim(0, repeats); // [K*B, T*Z]
        let schedule = self.denoiser.schedule();
        NoisyBatch {
            noisy: schedule.add_noise(clean.clone(), noise.clone(), timesteps.clone()),
            target: schedule.target(clean, noise, timesteps.clone()),
            timesteps: timesteps.float(),
            repeats,
        }
    }

    /// Embeds the latents of images: `[N, T * Z]` to `[N, T, D]`.
    pub(crate) fn embed(&self, rows: Tensor<2>) -> Tensor<3> {
        let [images, size] = rows.dims();
        let latents = rows.reshape([images, self.tokens, size / self.tokens]);
        self.latent.embed(latents)
    }

    /// One evaluation of the network on rows `[N, T * Z]`.
    fn denoise(&self, noisy: Tensor<2>, timesteps: Tensor<1>, condition: Tensor<3>) -> Tensor<2> {
        let shape = noisy.dims();
        let noisy = self.embed(noisy);
        self.denoiser
            .denoise(noisy, timesteps, condition)
            .reshape(shape)
    }

    /// Integrates the reverse process from `noise` to images, all latents of an image together.
    /// Each solver step is one pass through the network. With `null` and a guidance scale other
    /// than 1, the conditional and the null half start from the same noise and are evaluated in one
    /// batch.
    ///
    /// # Shapes
    /// - `condition`, `null`: `[B, P, D]`; `noise`: `[B, T, Z]`
    /// - returns: `[B, T, Z]`, whitened
    pub fn sample(
        &self,
        condition: Tensor<3>,
        null: Option<Tensor<3>>,
        noise: Tensor<3>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let null = null.filter(|_| options.guidance_scale != 1.0);
        if options.sampler.adds_noise() {
            return self.sample_rows(condition, null, noise, options, random);
        }
        // Images are independent, and the other samplers draw no further noise, so every thread can
        // sample some images alone.
        let mut inputs = Vec::new();
        for rows in shards(&noise.device(), noise.dims()[0]) {
            let narrow = |x: &Tensor<3>| x.clone().narrow(0, rows.start, rows.len());
            // A module can move to another thread but can't be shared by two. A clone copies no
            // weights.
            let image = Self {
                latent: self.latent.clone(),
                denoiser: self.denoiser.clone(),
                tokens: self.tokens,
            };
            let null = null.as_ref().map(narrow);
            inputs.push((image, narrow(&condition), null, narrow(&noise)));
        }
        let latents = at_once(inputs, |(image, condition, null, noise)| {
            image.sample_rows(condition, null, noise, options, &mut RandomStream::new(0))
        });
        Tensor::cat(latents, 0)
    }

    /// [`sample`](Self::sample) on one thread; `null` is there only with guidance.
    fn sample_rows(
        &self,
        condition: Tensor<3>,
        null: Option<Tensor<3>>,
        noise: Tensor<3>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<3> {
        let [images, tokens, dim] = noise.dims();
        let plan = solver::plan(options.sampler, self.denoiser.schedule(), options.steps);
        let guided = null.is_some();
        let condition = match null {
            Some(null) => Tensor::cat(vec![condition, null], 0),
            None => condition,
        };
        let rows = condition.dims()[0];
        let noise = noise.mul_scalar(options.noise_temperature);
        let noise = noise.reshape([images, tokens * dim]);
        let latents = solver::integrate(&plan, noise, random, |step, x| {
            let timestep = plan[step].timestep as f32;
            let timesteps = Tensor::<1>::full([rows], timestep, &x.device());
            let x = if guided { x.repeat_dim(0, 2) } else { x };
            let both = self.denoise(x, timesteps, condition.clone());
            guide(both, images, options.guidance_scale)
        });
        latents.reshape([images, tokens, dim])
    }
}
