//! Diffusion over a whole image: what a network promises, and loss and sampling on top of it.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use latentlm_adapters::LatentAdapter;
use latentlm_core::{DiffusionDraws, RandomStream, SampleOptions, Sampler};
use latentlm_diffusion::{NoiseSchedule, solver};
use latentlm_kernels::{at_once, parts};

/// A network that denoises all latents of an image together: what
/// [`LatentHead`](latentlm_core::LatentHead) is for one latent.
pub trait ImageDenoiser: Module {
    /// The forward process that the network was made for.
    fn schedule(&self) -> &NoiseSchedule;

    /// `Z`, numbers a latent.
    fn latent_dim(&self) -> usize;

    /// One evaluation of the network, its raw prediction (noise or velocity).
    ///
    /// # Shapes
    /// - `noisy`: `[B, T, D]`, embedded noisy latents; `timesteps`: `[B]`, one an image
    /// - `condition`: `[B, P, D]`, embedded label or text
    /// - returns: `[B, T, Z]`
    fn denoise(&self, noisy: Tensor<3>, timesteps: Tensor<1>, condition: Tensor<3>) -> Tensor<3>;
}

/// A denoiser with the adapter of its latents. An image is one row of `T * Z` numbers for the noise
/// schedule and the solvers, which know rows alone.
#[derive(Module, Debug)]
pub struct ImageDiffusion<M> {
    /// Latents to positions, with their whitening.
    pub latent: LatentAdapter,
    /// Positions to the prediction.
    pub denoiser: M,
    /// `T`, latents an image.
    pub tokens: usize,
}

/// Noisy images and what the network should say of them, `[K * B, T * Z]` each.
pub(crate) struct Noised {
    pub(crate) noisy: Tensor<2>,
    pub(crate) target: Tensor<2>,
    /// `[K * B]`
    pub(crate) timesteps: Tensor<1>,
    /// `K`
    pub(crate) repeats: usize,
}

impl<M: ImageDenoiser> ImageDiffusion<M> {
    /// Draws one timestep and the noise of each image. In [`DiffusionDraws`] an image is a row of
    /// `T * Z` numbers.
    pub fn draw(
        &self,
        images: usize,
        random: &mut RandomStream,
        device: &Device,
    ) -> DiffusionDraws {
        let numbers = self.tokens * self.denoiser.latent_dim();
        DiffusionDraws {
            timesteps: random.integers(images, self.denoiser.schedule().timesteps(), device),
            noise: random.normal([images, numbers], device),
        }
    }

    /// The denoising error at given timesteps and noise, a mean over all elements. Rows `[K, B]` of
    /// `draws`: each image is denoised `K` times.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`, whitened; `condition`: `[B, P, D]`
    /// - `draws`: `K * B` rows of `T * Z` numbers
    /// - returns: `[1]`
    ///
    /// # Panics
    /// If the rows of `draws` are no multiple of `B`.
    pub fn loss_at(
        &self,
        latents: Tensor<3>,
        condition: Tensor<3>,
        draws: DiffusionDraws,
    ) -> Tensor<1> {
        let noised = self.noised(latents, draws);
        let condition = condition.repeat_dim(0, noised.repeats);
        let prediction = self.denoise(noised.noisy, noised.timesteps, condition);
        (prediction - noised.target).square().mean()
    }

    pub(crate) fn noised(&self, latents: Tensor<3>, draws: DiffusionDraws) -> Noised {
        let [batch, tokens, dim] = latents.dims();
        let DiffusionDraws { timesteps, noise } = draws;
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
        Noised {
            noisy: schedule.add_noise(clean.clone(), noise.clone(), timesteps.clone()),
            target: schedule.target(clean, noise, timesteps.clone()),
            timesteps: timesteps.float(),
            repeats,
        }
    }

    /// Rows `[N, T * Z]` as positions `[N, T, D]`.
    pub(crate) fn embed(&self, rows: Tensor<2>) -> Tensor<3> {
        let [images, numbers] = rows.dims();
        let latents = rows.reshape([images, self.tokens, numbers / self.tokens]);
        self.latent.embed(latents)
    }

    /// One evaluation on rows `[N, T * Z]`.
    fn denoise(&self, noisy: Tensor<2>, timesteps: Tensor<1>, condition: Tensor<3>) -> Tensor<2> {
        let shape = noisy.dims();
        let noisy = self.embed(noisy);
        self.denoiser
            .denoise(noisy, timesteps, condition)
            .reshape(shape)
    }

    /// Integrates the reverse process from `noise` to images, all latents of an image together: as
    /// many passes through the network as the solver has steps. With `null` and a guidance scale
    /// other than 1 both halves start from the same noise and are evaluated in one batch.
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
        if options.sampler == Sampler::Ddpm {
            return self.sample_part(condition, null, noise, options, random);
        }
        // Images are independent, and so are these samplers of any further noise.
        let parts = parts(&noise.device(), noise.dims()[0]).into_iter();
        let inputs = parts.map(|rows| {
            let part = |x: &Tensor<3>| x.clone().narrow(0, rows.start, rows.len());
            // Modules may go to another thread, but not be shared with one; a clone copies no weights.
            let image = Self {
                latent: self.latent.clone(),
                denoiser: self.denoiser.clone(),
                tokens: self.tokens,
            };
            (
                image,
                part(&condition),
                null.as_ref().map(part),
                part(&noise),
            )
        });
        let latents = at_once(inputs.collect(), |(image, condition, null, noise)| {
            image.sample_part(condition, null, noise, options, &mut RandomStream::new(0))
        });
        Tensor::cat(latents, 0)
    }

    fn sample_part(
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
            if !guided {
                return self.denoise(x, timesteps, condition.clone());
            }
            let both = self.denoise(x.repeat_dim(0, 2), timesteps, condition.clone());
            let null = both.clone().narrow(0, images, images);
            let cond = both.narrow(0, 0, images);
            null.clone() + (cond - null).mul_scalar(options.guidance_scale)
        });
        latents.reshape([images, tokens, dim])
    }
}
