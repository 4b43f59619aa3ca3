//! What a head for continuous latents promises: a loss, and samples from the distribution of the
//! next latent given the backbone's hidden state.

use std::ops::Range;

use burn::config::Config;
use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use crate::RandomStream;
use crate::part::PartConfig;

/// The noise schedule of a head that denoises: the variance `beta` of the noise that each timestep
/// adds.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum BetaSchedule {
    /// `alpha_bar(t) = cos^2((t/T + 0.008)/1.008 * pi/2)`, betas capped at 0.999.
    Cosine,
    /// Betas from 1e-4 to 0.02 in equal steps.
    Linear,
}

/// The prediction target of a head that denoises.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Prediction {
    /// The noise.
    Epsilon,
    /// The velocity `sqrt(alpha_bar) * noise - sqrt(1 - alpha_bar) * x_0`.
    Velocity,
}

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

    /// What is minimized, a mean over all elements: the denoising error at given timesteps and noise, or
    /// what a head without noise is trained with.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`, whitened; `condition`: `[N, D]`
    /// - returns: `[1]`
    fn loss_at(&self, latents: Tensor<2>, condition: Tensor<2>, draws: DiffusionDraws)
    -> Tensor<1>;

    /// Draws the timesteps and noise of one loss over `rows` latents.
    fn draw(&self, rows: usize, random: &mut RandomStream, device: &Device) -> DiffusionDraws;

    /// Draws a latent out of `noise`: integrates the reverse process.
    ///
    /// Samplers that add noise on the way draw it as `random.normal([N, Z], ..)`, so that rows may
    /// have streams of their own ([`RandomStream::of_rows`]).
    ///
    /// With `null` (the hidden state of the unconditional sequence) and a guidance scale other
    /// than 1, both halves start from the same noise.
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

/// Sizes of a head, as the table `[lm]` of a recipe gives them. A head reads those that mean something to
/// it.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSizes {
    /// `Z`, numbers a latent.
    pub latent_dim: usize,
    /// `D`, width of the condition.
    pub width: usize,
    /// Layers.
    pub depth: usize,
    /// Feed-forward ratio.
    pub mlp_ratio: f64,
    /// What the head predicts.
    pub prediction: Prediction,
    /// How noise grows.
    pub schedule: BetaSchedule,
    /// Timesteps of the forward process.
    pub num_train_timesteps: usize,
    /// Whether training runs layers again for their gradients instead of keeping what they computed.
    pub recompute: bool,
}

/// The configuration of a head.
pub trait LatentHeadConfig: PartConfig {
    /// The head.
    type Head: LatentHead;

    /// The configuration that a recipe's sizes ask for.
    fn of(sizes: &HeadSizes) -> Self;

    /// Builds the head. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](PartConfig::validate) fails.
    fn init(&self, device: &Device) -> Self::Head;
}
