//! The contract of heads for continuous latents. A head models the distribution of the next latent, given the
//! backbone's hidden state: it has a loss and draws samples.

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

/// The solver that integrates the reverse process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// DPM-Solver++ 2M, the default.
    DpmSolverPlusPlus,
    /// Deterministic DDIM (eta 0).
    Ddim,
    /// Ancestral DDPM with the posterior's fixed variance.
    Ddpm,
    /// SDE-DPM-Solver++ 2M: the first one with fresh noise at each step.
    SdeDpmSolverPlusPlus,
}

impl Sampler {
    /// Whether noise is drawn on the way too, not only at the beginning.
    pub fn adds_noise(self) -> bool {
        match self {
            Self::Ddpm | Self::SdeDpmSolverPlusPlus => true,
            Self::DpmSolverPlusPlus | Self::Ddim => false,
        }
    }
}

/// Precision of the factors of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32.
    F32,
    /// bfloat16. Sums, norms and losses stay float32.
    Bf16,
}

/// Settings of sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleOptions {
    /// The solver.
    pub sampler: Sampler,
    /// Number of solver steps for a latent; each evaluates the head once.
    pub steps: usize,
    /// Classifier-free guidance: `null + scale * (cond - null)`. 1 switches it off.
    pub guidance_scale: f64,
    /// Factor of the noise that latents start from. Below 1, latents are closer to the most likely ones.
    pub noise_temperature: f64,
    /// Precision of the head's matrix products. A head that does not support it uses float32 (the head of
    /// this workspace supports bfloat16 if `latentlm_kernels::has_bf16_head`).
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
    /// The draws of a range of the latents. Each of `count` latents has `K` draws, in this order: the first draw
    /// of all latents, then the second of all latents, and so on.
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

/// A head that models the next latent, given a hidden state.
///
/// Rows are independent, so callers flatten `[B, T, ..]` to `[N, ..]`. All random numbers come from arguments,
/// so that a test, a resumed run or another language can repeat a call exactly.
pub trait LatentHead: Module + ModuleDisplay {
    /// `Z`, dimension of a latent.
    fn latent_dim(&self) -> usize;

    /// The training loss, averaged over all numbers: the denoising error at the given timesteps and noise, or
    /// another loss if the head does not denoise.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`, whitened; `condition`: `[N, D]`
    /// - returns: `[1]`
    fn loss_at(&self, latents: Tensor<2>, condition: Tensor<2>, draws: DiffusionDraws)
    -> Tensor<1>;

    /// Draws timesteps and noise for the loss of `rows` latents.
    fn draw(&self, rows: usize, random: &mut RandomStream, device: &Device) -> DiffusionDraws;

    /// Draws latents, starting from `noise`.
    ///
    /// Samplers that add noise on the way draw it as `random.normal([N, Z], ..)`, so that each row may have
    /// a stream of its own ([`RandomStream::of_rows`]).
    ///
    /// `null` holds the hidden states of the unconditional sequences. If it is given and the guidance scale is
    /// not 1, the latents are guided; conditional and unconditional prediction start from the same noise.
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

/// Sizes of a head from the table `[lm]` of a recipe. A head may ignore those that it has no use for.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSizes {
    /// `Z`, dimension of a latent.
    pub latent_dim: usize,
    /// `D`, width of the condition.
    pub width: usize,
    /// Number of layers.
    pub depth: usize,
    /// Ratio of feed-forward width to width.
    pub mlp_ratio: f64,
    /// What the head predicts.
    pub prediction: Prediction,
    /// Noise schedule.
    pub schedule: BetaSchedule,
    /// Number of timesteps of the forward process.
    pub num_train_timesteps: usize,
    /// Gradient checkpointing: whether training keeps only the input of each layer and runs the layer again for
    /// its gradients.
    pub recompute: bool,
}

/// The configuration of a head.
pub trait LatentHeadConfig: PartConfig {
    /// The head.
    type Head: LatentHead;

    /// The configuration for the sizes of a recipe.
    fn of(sizes: &HeadSizes) -> Self;

    /// Builds the head. Its weights come from the device's random generator; seed that first.
    ///
    /// # Panics
    /// If [`validate`](PartConfig::validate) fails.
    fn init(&self, device: &Device) -> Self::Head;
}
