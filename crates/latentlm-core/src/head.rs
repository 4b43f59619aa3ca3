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

/// The process that turns latents into noise, which a head that denoises learns to reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Process {
    /// The paper's diffusion: variance preserving, with a [`BetaSchedule`].
    Diffusion,
    /// Flow matching on straight lines: `x_t = (1 - t) x_0 + t noise`, velocity `noise - x_0`. Time 0 is the latent,
    /// 1 is noise.
    Flow,
}

/// How times of flow matching are drawn in training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeSampling {
    /// Uniformly, each by itself.
    Uniform,
    /// The logistic function of a normal number: the logit of the time is normal.
    LogNormal,
    /// Uniformly, one time in each of as many equal intervals as there are rows.
    Stratified,
}

/// Training objective that lets few evaluations of the head make a latent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FewStep {
    /// Nothing: a solver makes many small steps.
    None,
    /// The head reads the length of a step, and learns that one step of a length is two of half of it.
    Shortcut,
    /// One evaluation makes a latent; the energy score compares two of them with the true one.
    Energy,
}

/// Guidance of a teacher that is distilled into the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DistilledGuidance {
    /// Nothing: guidance evaluates the head on a second, unconditional branch.
    None,
    /// The teacher's guided prediction at one scale.
    Fixed,
    /// The teacher's guided prediction at any scale from 1 on, which the head reads.
    Scale,
}

/// How a head that denoises is trained beyond what it predicts. The default is the paper's diffusion.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeadMethod {
    /// The process that it reverses.
    pub process: Process,
    /// How times are drawn; those of diffusion are uniform.
    pub times: TimeSampling,
    /// Mean of the logit of log-normal times. Below 0 there are more times near the latent.
    pub time_mean: f64,
    /// Standard deviation of the logit of log-normal times.
    pub time_deviation: f64,
    /// Objective for few steps.
    pub few_step: FewStep,
    /// Share of the rows that learn that two half steps make a whole one.
    pub shortcut_share: f64,
    /// Number of the smallest steps from noise to latent, a power of 2.
    pub shortcut_divisions: usize,
    /// Guidance that is distilled.
    pub distilled_guidance: DistilledGuidance,
    /// The scale of fixed guidance, or the largest that is read.
    pub distilled_scale: f64,
    /// Factor of the noise at which guidance is learned: the one of the noise that latents will start from
    /// ([`SampleOptions::noise_temperature`]). A head of few steps knows the way from noise of this scale alone.
    pub distilled_temperature: f64,
}

impl Default for HeadMethod {
    fn default() -> Self {
        Self {
            process: Process::Diffusion,
            times: TimeSampling::Uniform,
            time_mean: -0.4,
            time_deviation: 1.0,
            few_step: FewStep::None,
            shortcut_share: 0.25,
            shortcut_divisions: 128,
            distilled_guidance: DistilledGuidance::None,
            distilled_scale: 4.0,
            distilled_temperature: 1.0,
        }
    }
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
    /// Euler's method, for flow matching.
    Euler,
    /// The midpoint method, for flow matching: two evaluations of the head for each interval.
    Midpoint,
    /// Heun's method, for flow matching: two evaluations of the head for each interval.
    Heun,
}

impl Sampler {
    /// Whether noise is drawn on the way too, not only at the beginning.
    pub fn adds_noise(self) -> bool {
        match self {
            Self::Ddpm | Self::SdeDpmSolverPlusPlus => true,
            Self::DpmSolverPlusPlus | Self::Ddim | Self::Euler | Self::Midpoint | Self::Heun => {
                false
            }
        }
    }

    /// The process that it reverses.
    pub fn process(self) -> Process {
        match self {
            Self::Euler | Self::Midpoint | Self::Heun => Process::Flow,
            Self::DpmSolverPlusPlus | Self::Ddim | Self::Ddpm | Self::SdeDpmSolverPlusPlus => {
                Process::Diffusion
            }
        }
    }

    /// Evaluations of the head in each interval of time. The number of steps must be a multiple of it.
    pub fn evaluations(self) -> usize {
        match self {
            Self::Midpoint | Self::Heun => 2,
            _ => 1,
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

/// How the number of solver steps falls along a run of latents: in equal parts from [`SampleOptions::steps`] for the
/// first latent to `last`, as in DiSA (arXiv 2505.20297). It needs no training. The default switches it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FallingSteps {
    /// Steps of the last latents; 0 leaves all at [`SampleOptions::steps`].
    #[serde(rename = "steps_last")]
    pub last: usize,
    /// Number of latents over which steps fall; 0 takes the length of the run, which must be fixed.
    #[serde(rename = "steps_over")]
    pub over: usize,
}

/// Settings of sampling.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SampleOptions {
    /// The solver.
    pub sampler: Sampler,
    /// Number of solver steps for a latent; each evaluates the head once.
    pub steps: usize,
    /// How steps fall along a run of latents. A head ignores it: code that draws a run calls
    /// [`of_latent`](SampleOptions::of_latent).
    pub falling: FallingSteps,
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
            falling: FallingSteps::default(),
            guidance_scale: 1.0,
            noise_temperature: 1.0,
            precision: Precision::F32,
        }
    }
}

impl SampleOptions {
    /// The options for latent `index` of a run of `length` latents; a length of 0 is not known.
    ///
    /// Step numbers lie on a line, are rounded, and are multiples of the solver's evaluations in an interval.
    pub fn of_latent(&self, index: usize, length: usize) -> Self {
        let FallingSteps { last, over } = self.falling;
        let over = if over == 0 { length } else { over };
        if last == 0 || over < 2 {
            return *self;
        }
        let way = index.min(over - 1) as f64 / (over - 1) as f64;
        let steps = self.steps as f64 + way * (last as f64 - self.steps as f64);
        let each = self.sampler.evaluations();
        let intervals = (steps / each as f64).round().max(1.0) as usize;
        Self {
            steps: intervals * each,
            ..*self
        }
    }
}

/// The random part of one training loss: timesteps and noise for `N` latents.
#[derive(Debug, Clone)]
pub struct DiffusionDraws {
    /// Process that the timesteps belong to. A teacher may reverse another than its student.
    pub process: Process,
    /// Timesteps, `[N]`, each in `0..num_train_timesteps`.
    pub timesteps: Tensor<1, Int>,
    /// Standard normal noise, `[N, Z]`.
    pub noise: Tensor<2>,
    /// Further noise of the same shape, for losses that compare two drawn latents.
    pub second_noise: Option<Tensor<2>>,
    /// Lengths of the `N` rows' steps, as parts of the way from noise to latent; 0 for rows that learn the velocity
    /// itself. Empty where the head reads no lengths.
    pub lengths: Vec<f32>,
    /// Guidance scales of the `N` rows; empty where no guidance is learned.
    pub scales: Vec<f32>,
    /// A teacher's prediction, `[N, Z]`, which replaces the target that follows from latents and noise.
    pub target: Option<Tensor<2>>,
    /// Targets of the rows with a length, `[N, Z]`, from averaged weights; other rows are zero. Without them the head
    /// takes its live weights.
    pub whole_steps: Option<Tensor<2>>,
}

impl DiffusionDraws {
    /// Timesteps, `[N]`, and noise, `[N, Z]`, and nothing else.
    ///
    /// # Shapes
    /// - `timesteps`: `[N]`; `noise`: `[N, Z]`
    pub fn new(timesteps: Tensor<1, Int>, noise: Tensor<2>) -> Self {
        Self {
            process: Process::Diffusion,
            timesteps,
            noise,
            second_noise: None,
            lengths: Vec::new(),
            scales: Vec::new(),
            target: None,
            whole_steps: None,
        }
    }

    /// The same draws without autodiff.
    pub fn inner(self) -> Self {
        Self {
            timesteps: self.timesteps.inner(),
            noise: self.noise.inner(),
            second_noise: self.second_noise.map(Tensor::inner),
            target: self.target.map(Tensor::inner),
            whole_steps: self.whole_steps.map(Tensor::inner),
            ..self
        }
    }

    /// The draws of a range of the latents. Each of `count` latents has `K` draws, in this order: the first draw
    /// of all latents, then the second of all latents, and so on.
    pub fn of_latents(&self, latents: Range<usize>, count: usize) -> Self {
        let [rows, _] = self.noise.dims();
        let (draws, start, kept) = (rows / count, latents.start, latents.len());
        let vectors = |all: &Tensor<2>| {
            let [_, dim] = all.dims();
            let all = all.clone().reshape([draws, count, dim]);
            all.narrow(1, start, kept).reshape([draws * kept, dim])
        };
        let numbers = |all: &[f32]| -> Vec<f32> {
            let draws = all.chunks(count).map(|draw| &draw[latents.clone()]);
            draws.flatten().copied().collect()
        };
        let timesteps = self.timesteps.clone().reshape([draws, count]);
        Self {
            process: self.process,
            timesteps: timesteps.narrow(1, start, kept).reshape([draws * kept]),
            noise: vectors(&self.noise),
            second_noise: self.second_noise.as_ref().map(vectors),
            lengths: numbers(&self.lengths),
            scales: numbers(&self.scales),
            target: self.target.as_ref().map(vectors),
            whole_steps: self.whole_steps.as_ref().map(vectors),
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

    /// Whether it can be sampled with a solver. A head that uses none accepts all.
    fn follows(&self, sampler: Sampler) -> bool {
        let _ = sampler;
        true
    }

    /// Whether sampling with these options reads the hidden states of unconditional sequences.
    fn reads_null(&self, options: &SampleOptions) -> bool {
        options.guidance_scale != 1.0
    }

    /// The guided prediction at the timesteps, noise and guidance scales of `draws`, which a student learns; `None` from
    /// a head that does not denoise. Rows with a length are zero: they learn whole steps.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`, whitened; `condition`, `null`: `[N, D]`
    /// - returns: `[N, Z]`
    fn guided(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        null: Tensor<2>,
        draws: &DiffusionDraws,
    ) -> Option<Tensor<2>> {
        let _ = (latents, condition, null, draws);
        None
    }

    /// The mean velocities of two half steps for the rows of `draws` with a length, as targets of whole steps; other rows
    /// are zero. `None` if no row has a length. This head has averaged weights and no autodiff.
    ///
    /// # Shapes
    /// - `latents`: `[N, Z]`, whitened; `condition`: `[N, D]`
    /// - returns: `[N, Z]`
    fn whole_steps(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        draws: &DiffusionDraws,
    ) -> Option<Tensor<2>> {
        let _ = (latents, condition, draws);
        None
    }

    /// The weights of a teacher in this head, which may learn in another way. What the teacher lacks stays as it is.
    fn begin_from(self, teacher: Self) -> Self {
        let _ = self;
        teacher
    }

    /// Draws timesteps and noise for the loss of `rows` latents.
    fn draw(&self, rows: usize, random: &mut RandomStream, device: &Device) -> DiffusionDraws;

    /// Keeps what [`sample`](Self::sample) makes of the weights from one call to the next, such as a layout for its
    /// products: for a model that only samples, since it takes memory, up to that of the weights again. Results are
    /// the same, and changed weights are noticed.
    fn prepare_sampling(&mut self) {}

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
    /// How it is trained.
    pub method: HeadMethod,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_fall_on_a_line() {
        let options = |sampler, steps, last, over| SampleOptions {
            sampler,
            steps,
            falling: FallingSteps { last, over },
            ..SampleOptions::default()
        };
        let steps = |options: SampleOptions, length| -> Vec<usize> {
            let latents = 0..6;
            latents
                .map(|index| options.of_latent(index, length).steps)
                .collect()
        };
        let euler = |last, over| options(Sampler::Euler, 21, last, over);
        assert_eq!(steps(euler(0, 0), 6), [21; 6], "switched off");
        assert_eq!(steps(euler(1, 0), 6), [21, 17, 13, 9, 5, 1]);
        assert_eq!(steps(euler(1, 3), 6), [21, 11, 1, 1, 1, 1]);
        assert_eq!(steps(euler(1, 0), 0), [21; 6], "no known length");
        let heun = options(Sampler::Heun, 20, 2, 0);
        assert_eq!(
            steps(heun, 6),
            [20, 16, 12, 10, 6, 2],
            "16.4, 12.8, 9.2, 5.6"
        );
    }

    /// Two draws of three latents: those of the last two.
    #[test]
    fn draws_of_some_latents_keep_what_belongs_to_them() {
        let device = Device::default();
        let numbers = |offset: f32| {
            let values: Vec<f32> = (0..6).map(|row| offset + row as f32).collect();
            Tensor::<1>::from_floats(values.as_slice(), &device).reshape([6, 1])
        };
        let draws = DiffusionDraws {
            second_noise: Some(numbers(10.0)),
            lengths: vec![0.0, 0.5, 0.25, 1.0, 0.0, 0.125],
            scales: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            target: Some(numbers(20.0)),
            whole_steps: Some(numbers(30.0)),
            process: Process::Flow,
            ..DiffusionDraws::new(Tensor::zeros([6], &device), numbers(0.0))
        };
        let some = draws.of_latents(1..3, 3);
        let values = |x: Tensor<2>| -> Vec<f32> { x.into_data().try_to_vec().unwrap() };
        assert_eq!(values(some.noise), [1.0, 2.0, 4.0, 5.0]);
        assert_eq!(values(some.second_noise.unwrap()), [11.0, 12.0, 14.0, 15.0]);
        assert_eq!(values(some.target.unwrap()), [21.0, 22.0, 24.0, 25.0]);
        let whole_steps = values(some.whole_steps.unwrap());
        assert_eq!(whole_steps, [31.0, 32.0, 34.0, 35.0]);
        assert_eq!(some.process, Process::Flow);
        assert_eq!(some.lengths, [0.5, 0.25, 0.0, 0.125]);
        assert_eq!(some.scales, [2.0, 3.0, 5.0, 6.0]);
    }
}
