//! What a head for continuous latents promises: a loss, and samples from the distribution of the
//! next latent given the backbone's hidden state.

use std::ops::Range;

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::RandomStream;

/// How the reverse process is integrated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// DPM-Solver++ 2M, the default.
    DpmSolverPlusPlus,
    /// Deterministic DDIM (eta 0).
    Ddim,
    /// Ancestral DDPM with the posterior's fixed variance.
    Ddpm,
}

/// Numbers that matrix products multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32.
    F32,
    /// bfloat16. Sums, norms and losses stay float32.
    Bf16,
}

/// Options of one draw of latents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleOptions {
    /// The solver.
    pub sampler: Sampler,
    /// Evaluations of the head a latent.
    pub steps: usize,
    /// Classifier-free guidance: `null + scale * (cond - null)`. 1 switches it off.
    pub guidance_scale: f64,
    /// Factor of the noise that latents begin as. Below 1 they keep closer to what is likeliest.
    pub noise_temperature: f64,
    /// What the head's products multiply; float32 in any case where a head has no such products (the
    /// workspace's own has them where `latentlm_kernels::has_bf16_head`).
    pub precision: Precision,
}

impl Default for SampleOptions {
    fn default() -> Self {
        Self {
            sampler: Sampler::DpmSolverPlusPlus,
            steps: 20,
            guidance_scale: 1.0,
            noise_temperature: 1.0,
            precision: Precision::F32,
        }
    }
}

/// The random part of one training loss: timesteps and noise for `N` latents.
#[derive(Debug, Clone)]
pub struct DiffusionDraws {
    /// Timesteps, `[N]`, each in `0..num_train_timesteps`.
    pub timesteps: Tensor<1, Int>,
    /// Standard normal noise, `[N, Z]`.
    pub noise: Tensor<2>,
}

impl DiffusionDraws {
    /// Those of some of the latents, where every latent of `count` has `K` draws: all latents' first
    /// ones, then all their second ones, and so on.
    pub fn of_latents(&self, latents: Range<usize>, count: usize) -> Self {
        let [rows, dim] = self.noise.dims();
        let (draws, start, kept) = (rows / count, latents.start, latents.len());
        let noise = self.noise.clone().reshape([draws, count, dim]);
        let timesteps = self.timesteps.clone().reshape([draws, count]);
        Self {
            timesteps: timesteps.narrow(1, start, kept).reshape([draws * kept]),
            noise: noise.narrow(1, start, kept).reshape([draws * kept, dim]),
        }
    }
}

/// A head that models the next latent given a hidden state.
///
/// Rows are independent: whoever calls flattens `[B, T, ..]` to `[N, ..]` first. Randomness is an
/// argument throughout, so that a test, a resume or another language can repeat a call exactly.
pub trait LatentHead: Module + ModuleDisplay {
    /// `Z`, numbers a latent.
    fn latent_dim(&self) -> usize;

    /// One evaluation of the network, its raw prediction (noise or velocity). Timesteps may lie
    /// between those that the head was trained on.
    ///
    /// # Shapes
    /// - `noisy`: `[N, Z]`; `timesteps`: `[N]`; `condition`: `[N, D]`
    /// - returns: `[N, Z]`
    fn denoise(&self, noisy: Tensor<2>, timesteps: Tensor<1>, condition: Tensor<2>) -> Tensor<2>;

    /// The denoising error at given timesteps and noise, a mean over all elements.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`, whitened; `condition`: `[N, D]`
    /// - returns: `[1]`
    fn loss_at(&self, latents: Tensor<2>, condition: Tensor<2>, draws: DiffusionDraws)
    -> Tensor<1>;

    /// Draws the timesteps and noise of one loss over `rows` latents.
    fn draw(
        &self,
        rows: usize,
        random: &mut RandomStream,
        device: &burn::tensor::Device,
    ) -> DiffusionDraws;

    /// Integrates the reverse process from `noise` to a latent.
    ///
    /// Samplers that add noise on the way draw it as `random.normal([N, Z], ..)`, so that rows may
    /// have streams of their own ([`RandomStream::of_rows`]).
    ///
    /// With `null` (the hidden state of the unconditional sequence) and a guidance scale other
    /// than 1, both halves start from the same noise and are evaluated in one batch.
    ///
    /// # Shapes
    /// - `condition`, `null`: `[N, D]`; `noise`: `[N, Z]`
    /// - returns: `[N, Z]`, whitened
    fn sample(
        &self,
        condition: Tensor<2>,
        null: Option<Tensor<2>>,
        noise: Tensor<2>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<2>;
}
