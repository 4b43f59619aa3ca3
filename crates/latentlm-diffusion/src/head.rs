//! The diffusion head: AdaLN-modulated feed-forward layers that denoise one latent.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, RmsNormConfig, SwiGluConfig};
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_core::{
    DiffusionDraws, DistilledGuidance, FewStep, HeadMethod, HeadSizes, LatentHead,
    LatentHeadConfig, PartConfig, Precision, Process, RandomStream, SampleOptions, Sampler,
};
use latentlm_kernels::{
    HeadLayouts, HeadPrecision, HeadRun, SampledHead, has_bf16_head, linear_layer,
    modulated_rms_norm, recomputed, sample_head, silu,
};

use crate::config::DiffusionHeadConfig;
use crate::draws;
use crate::layer::{HeadLayer, zero_linear};
use crate::modulations::{Modulations, StepModulations};
use crate::schedule::NoiseSchedule;
use crate::solver::{self, SolverStep};
use crate::timestep::TimestepEmbedding;

/// A guidance scale of 1 is embedded as this timestep: the sinusoid then tells scales from each other that differ by a
/// tenth.
const SCALE_UNIT: f64 = 100.0;

/// Numbers of the host, `[N]`.
pub(crate) fn numbers(numbers: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), [numbers.len()]), device)
}

/// The next-token diffusion head (paper §2.2; reference `forward_diffusion`).
///
/// In the image models, only the input projection has a bias, and norms have no weight. In VibeVoice,
/// the norms of the layers have weights, and the condition is projected first. With zero layers the
/// head is a linear denoiser, which tests use.
#[derive(Module, Debug)]
pub struct DiffusionHead {
    input: Linear,
    condition: Option<Linear>,
    timestep: TimestepEmbedding,
    layers: Vec<HeadLayer>,
    modulation: Linear,
    output: Linear,
    /// Embedding of the length of a step, of a head that reads it.
    length: Option<TimestepEmbedding>,
    /// Embedding of the guidance scale, of a head that reads it.
    guidance: Option<TimestepEmbedding>,
    #[module(skip)]
    schedule: NoiseSchedule,
    #[module(skip)]
    method: HeadMethod,
    epsilon: f64,
    recompute: bool,
    /// Weights as sampling reads them, kept between calls after [`prepare_sampling`](LatentHead::prepare_sampling).
    #[module(skip)]
    layouts: Option<HeadLayouts>,
}

impl DiffusionHead {
    /// A head with new weights. The configuration must be valid.
    fn new(config: &DiffusionHeadConfig, device: &Device) -> Self {
        let width = config.width;
        let linear = |input, bias| LinearConfig::new(input, width).with_bias(bias).init(device);
        let norm = || {
            RmsNormConfig::new(width)
                .with_epsilon(config.norm_epsilon)
                .init(device)
        };
        let embedding = || {
            TimestepEmbedding::new(
                width,
                config.timestep_frequencies,
                config.timestep_max_period,
                device,
            )
        };
        let method = config.method;
        let reads_length = method.few_step == FewStep::Shortcut;
        let reads_scale = method.distilled_guidance == DistilledGuidance::Scale;
        Self {
            input: linear(config.latent_dim, config.input_bias),
            condition: config.condition_projection.then(|| linear(width, false)),
            timestep: embedding(),
            layers: (0..config.depth)
                .map(|_| HeadLayer {
                    norm: config.norm_weight.then(norm),
                    modulation: zero_linear(width, 3 * width, device),
                    up: SwiGluConfig::new(width, config.inner_width()).init(device),
                    down: linear(config.inner_width(), false),
                })
                .collect(),
            modulation: zero_linear(width, 2 * width, device),
            output: zero_linear(width, config.latent_dim, device),
            length: reads_length.then(|| embedding().without_effect(device)),
            guidance: reads_scale.then(|| embedding().without_effect(device)),
            schedule: match method.process {
                Process::Diffusion => NoiseSchedule::new(
                    config.schedule,
                    config.prediction,
                    config.num_train_timesteps,
                ),
                Process::Flow => NoiseSchedule::flow(config.num_train_timesteps),
            },
            method,
            epsilon: config.norm_epsilon,
            recompute: config.recompute,
            layouts: None,
        }
    }

    /// The forward process that the head inverts.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// Number of layers.
    pub(crate) fn depth(&self) -> usize {
        self.layers.len()
    }

    /// How the head is trained.
    pub(crate) fn method(&self) -> &HeadMethod {
        &self.method
    }

    /// One evaluation of the network, its raw prediction (noise or velocity). Timesteps may lie
    /// between those that the head was trained on. A head that reads the length of a step or a guidance scale is asked
    /// for steps of no length without guidance.
    ///
    /// # Shapes
    /// - `noisy`: `[N, Z]`; `timesteps`: `[N]`; `condition`: `[N, D]`
    /// - returns: `[N, Z]`
    pub fn denoise(
        &self,
        noisy: Tensor<2>,
        timesteps: Tensor<1>,
        condition: Tensor<2>,
    ) -> Tensor<2> {
        self.denoise_steps(
            noisy,
            timesteps,
            self.conditioned(condition, &[0.0], &[1.0]),
        )
    }

    /// The condition of the modulations, to which the timestep is added: projected hidden states, plus embeddings of step
    /// lengths and guidance scales if the head reads them. There is one of each for all rows, or one a row.
    ///
    /// # Shapes
    /// - `hidden`: `[N, D]`; `lengths`, `scales`: 1 or `N`
    /// - returns: `[N, D]`
    pub(crate) fn conditioned(
        &self,
        hidden: Tensor<2>,
        lengths: &[f32],
        scales: &[f32],
    ) -> Tensor<2> {
        let mut condition = self.project(hidden);
        let device = condition.device();
        if let Some(embedding) = &self.length {
            // As many timesteps, so that the sinusoid tells lengths from each other.
            let lengths = numbers(lengths, &device);
            let timesteps = lengths.mul_scalar(self.schedule.timesteps() as f64);
            condition = condition + embedding.forward(timesteps);
        }
        if let Some(embedding) = &self.guidance {
            let scales = numbers(scales, &device);
            condition = condition + embedding.forward(scales.mul_scalar(SCALE_UNIT));
        }
        condition
    }

    /// [`denoise`](Self::denoise) with what [`conditioned`](Self::conditioned) made.
    ///
    /// # Shapes
    /// - `noisy`: `[N, Z]`; `timesteps`: `[N]`; `condition`: `[N, D]`
    /// - returns: `[N, Z]`
    pub(crate) fn denoise_steps(
        &self,
        noisy: Tensor<2>,
        timesteps: Tensor<1>,
        condition: Tensor<2>,
    ) -> Tensor<2> {
        if self.recompute {
            return self.predict_recomputed(noisy, timesteps, condition);
        }
        let condition = condition + self.timestep.forward(timesteps);
        let modulations = self.modulations(condition);
        self.predict(noisy, modulations)
    }

    /// The condition of the layers, computed from hidden states `[N, D]`.
    fn project(&self, condition: Tensor<2>) -> Tensor<2> {
        match &self.condition {
            Some(linear) => linear_layer(linear, condition),
            None => condition,
        }
    }

    /// Computes the modulations of all layers.
    ///
    /// # Shapes
    /// - `condition`: `[N, D]`, projected hidden state plus timestep embedding
    pub(crate) fn modulations(&self, condition: Tensor<2>) -> Modulations {
        let condition = silu(condition);
        Modulations {
            layers: self
                .layers
                .iter()
                .map(|layer| linear_layer(&layer.modulation, condition.clone()))
                .collect(),
            output: linear_layer(&self.modulation, condition),
        }
    }

    /// Predicts noise or velocity, given all modulations.
    ///
    /// # Shapes
    /// - `noisy`: `[N, Z]`; returns `[N, Z]`
    fn predict(&self, noisy: Tensor<2>, modulations: Modulations) -> Tensor<2> {
        let mut x = linear_layer(&self.input, noisy);
        for (layer, modulation) in self.layers.iter().zip(modulations.layers) {
            x = layer.forward(x, modulation, self.epsilon);
        }
        self.finish(x, modulations.output)
    }

    /// The last norm, its modulation and the output projection.
    ///
    /// # Shapes
    /// - `x`: `[N, D]`; `modulation`: `[N, 2D]`; returns `[N, Z]`
    fn finish(&self, x: Tensor<2>, modulation: Tensor<2>) -> Tensor<2> {
        let x = modulated_rms_norm(x, modulation, self.epsilon);
        linear_layer(&self.output, x)
    }

    /// [`predict`](Self::predict) with gradient checkpointing: the graph keeps only the input of each layer.
    ///
    /// The last layer and the output projection are not checkpointed. The backward pass starts with
    /// them, when no other layer has been run again, so recomputing them would not lower the peak.
    ///
    /// # Shapes
    /// - `noisy`: `[N, Z]`; `timesteps`: `[N]`; `condition`: `[N, D]`, projected
    /// - returns: `[N, Z]`
    fn predict_recomputed(
        &self,
        noisy: Tensor<2>,
        timesteps: Tensor<1>,
        condition: Tensor<2>,
    ) -> Tensor<2> {
        let (timesteps, epsilon) = (timesteps.inner(), self.epsilon);
        let condition = recomputed(
            &self.timestep,
            [condition],
            move |embedding: &TimestepEmbedding, [condition]: [Tensor<2>; 1]| {
                silu(condition + embedding.forward(timesteps.clone()))
            },
        );
        let mut x = linear_layer(&self.input, noisy);
        if let Some((last, layers)) = self.layers.split_last() {
            for layer in layers {
                x = recomputed(
                    layer,
                    [x, condition.clone()],
                    move |layer: &HeadLayer, [x, condition]: [Tensor<2>; 2]| {
                        layer.forward_conditioned(x, condition, epsilon)
                    },
                );
            }
            x = last.forward_conditioned(x, condition.clone(), epsilon);
        }
        self.finish(x, linear_layer(&self.modulation, condition))
    }

    /// The embeddings of a plan's timesteps, `[S, D]`.
    fn embed_timesteps(&self, plan: &[SolverStep], device: &Device) -> Tensor<2> {
        let timesteps: Vec<f32> = plan.iter().map(|step| step.timestep as f32).collect();
        let timesteps = Tensor::from_floats(timesteps.as_slice(), device);
        self.timestep.forward(timesteps)
    }

    /// The parameters in the form that the kernel for a whole solver run takes.
    fn parameters(&self) -> SampledHead {
        let layers = self.layers.iter().map(|layer| latentlm_kernels::HeadLayer {
            block: layer.block(self.epsilon),
            modulation: layer.modulation.weight.val(),
        });
        SampledHead {
            input: self.input.weight.val(),
            input_bias: self.input.bias.as_ref().map(|bias| bias.val()),
            layers: layers.collect(),
            modulation: self.modulation.weight.val(),
            output: self.output.weight.val(),
            epsilon: self.epsilon,
            layouts: self.layouts.clone(),
        }
    }
}

/// The precision of the kernel's matrix products: bfloat16 only on a CPU that has instructions for
/// it.
fn kernel_precision(precision: Precision) -> HeadPrecision {
    if precision == Precision::Bf16 && has_bf16_head() {
        HeadPrecision::Bf16
    } else {
        HeadPrecision::F32
    }
}

impl LatentHead for DiffusionHead {
    fn latent_dim(&self) -> usize {
        self.input.weight.dims()[0]
    }

    fn loss_at(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        draws: DiffusionDraws,
    ) -> Tensor<1> {
        if self.method.few_step == FewStep::Energy {
            return self.energy_loss(latents, condition, draws);
        }
        let (noise, timesteps) = (draws.noise.clone(), draws.timesteps.clone());
        let noisy = self
            .schedule
            .add_noise(latents.clone(), noise, timesteps.clone());
        let target = self.targets(latents, &condition, &draws);
        let condition = self.conditioned(condition, &draws.lengths, &draws.scales);
        let prediction = if self.recompute {
            self.predict_recomputed(noisy, timesteps.float(), condition)
        } else {
            let count = self.schedule.timesteps();
            let condition = condition + self.timestep.forward_whole(timesteps, count);
            self.predict(noisy, self.modulations(condition))
        };
        // The target is float32, so the loss is too, even if the network computes in bfloat16.
        (prediction.cast(target.dtype()) - target).square().mean()
    }

    fn follows(&self, sampler: Sampler) -> bool {
        // Steps whose length is read are Euler's.
        let euler = self.method.few_step == FewStep::None || sampler == Sampler::Euler;
        sampler.process() == self.method.process && euler
    }

    fn reads_null(&self, options: &SampleOptions) -> bool {
        options.guidance_scale != 1.0 && self.method.distilled_guidance == DistilledGuidance::None
    }

    fn guided(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        null: Tensor<2>,
        draws: &DiffusionDraws,
    ) -> Option<Tensor<2>> {
        self.guided_prediction(latents, condition, null, draws)
    }

    fn whole_steps(
        &self,
        latents: Tensor<2>,
        condition: Tensor<2>,
        draws: &DiffusionDraws,
    ) -> Option<Tensor<2>> {
        self.two_halves(latents, condition, draws)
    }

    fn begin_from(self, teacher: Self) -> Self {
        let kept = |own: Option<TimestepEmbedding>, given: Option<TimestepEmbedding>| {
            own.map(|own| given.unwrap_or(own))
        };
        Self {
            length: kept(self.length, teacher.length),
            guidance: kept(self.guidance, teacher.guidance),
            schedule: self.schedule,
            method: self.method,
            recompute: self.recompute,
            layouts: self.layouts,
            ..teacher
        }
    }

    fn draw(&self, rows: usize, random: &mut RandomStream, device: &Device) -> DiffusionDraws {
        let shape = [rows, self.latent_dim()];
        draws::draw(&self.method, &self.schedule, shape, random, device)
    }

    fn prepare_sampling(&mut self) {
        self.layouts = Some(HeadLayouts::default());
    }

    fn sample(
        &self,
        condition: Tensor<2>,
        null: Option<Tensor<2>>,
        noise: Tensor<2>,
        options: &SampleOptions,
        random: &mut RandomStream,
    ) -> Tensor<2> {
        let plan = solver::plan(options.sampler, &self.schedule, options.steps);
        let noise = if options.noise_temperature == 1.0 {
            noise
        } else {
            noise.mul_scalar(options.noise_temperature)
        };
        let null = null.filter(|_| self.reads_null(options));
        let guidance = null.is_some().then_some(options.guidance_scale);
        let hidden = match null {
            Some(null) => Tensor::cat(vec![condition, null], 0),
            None => condition,
        };
        let length = self.read_length(1.0 / options.steps as f32);
        let condition = self.conditioned(hidden, &[length], &[options.guidance_scale as f32]);
        let timesteps = self.embed_timesteps(&plan, &condition.device());
        // One kernel runs all steps, where there is one and no step adds fresh noise.
        let steps: Option<Vec<_>> = plan.iter().map(SolverStep::without_noise).collect();
        if let Some(steps) = steps {
            let run = HeadRun {
                noise: noise.clone(),
                condition: condition.clone(),
                timesteps: timesteps.clone(),
                steps,
                guidance,
                precision: kernel_precision(options.precision),
            };
            if let Some(latents) = sample_head(&self.parameters(), &run) {
                return latents;
            }
        }
        let mut modulations = StepModulations::new(self, condition, timesteps);
        solver::integrate(&plan, noise, random, |step, x| {
            let Some(scale) = guidance else {
                return self.predict(x, modulations.at(step));
            };
            let rows = x.dims()[0];
            let both = self.predict(x.repeat_dim(0, 2), modulations.at(step));
            let null = both.clone().narrow(0, rows, rows);
            let cond = both.narrow(0, 0, rows);
            null.clone() + (cond - null).mul_scalar(scale)
        })
    }
}

impl LatentHeadConfig for DiffusionHeadConfig {
    type Head = DiffusionHead;

    fn of(sizes: &HeadSizes) -> Self {
        Self::new(sizes.latent_dim, sizes.width)
            .with_depth(sizes.depth)
            .with_mlp_ratio(sizes.mlp_ratio)
            .with_prediction(sizes.prediction)
            .with_schedule(sizes.schedule)
            .with_num_train_timesteps(sizes.num_train_timesteps)
            .with_method(sizes.method)
            .with_recompute(sizes.recompute)
    }

    /// The head predicts zero at first, because its modulation and output layers start as zero.
    fn init(&self, device: &Device) -> DiffusionHead {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        DiffusionHead::new(self, device)
    }
}
