//! The diffusion head: AdaLN-modulated feed-forward layers that denoise one latent.

use burn::module::{Initializer, Module};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig, SwiGlu, SwiGluConfig};
use burn::tensor::{Device, Tensor};
use latentlm_core::{
    DiffusionDraws, HeadSizes, LatentHead, LatentHeadConfig, PartConfig, Precision, RandomStream,
    SampleOptions,
};
use latentlm_kernels::{
    HeadPrecision, HeadRun, SampledHead, SwiGluBlock, has_bf16_head, linear_layer, recomputed,
    rms_norm, sample_head, silu, swiglu_block,
};

use crate::config::DiffusionHeadConfig;
use crate::schedule::NoiseSchedule;
use crate::solver::{self, SolverStep};
use crate::timestep::TimestepEmbedding;

/// Upper bound of the bytes of modulations that [`StepModulations`] computes in one matrix product.
/// A product over many solver steps reads the weights once for all of them.
const MODULATION_BYTES: usize = 8 << 20;

fn zero_linear(input: usize, output: usize, device: &Device) -> Linear {
    LinearConfig::new(input, output)
        .with_bias(false)
        .with_initializer(Initializer::Zeros)
        .init(device)
}

/// One layer: `x += gate * mlp(norm(x) * (1 + scale) + shift)`.
#[derive(Module, Debug)]
struct HeadLayer {
    norm: Option<RmsNorm>,
    modulation: Linear,
    up: SwiGlu,
    down: Linear,
}

impl HeadLayer {
    /// Applies the layer under a modulation.
    ///
    /// # Shapes
    /// - `x`: `[N, D]`; `modulation`: `[N, 3D]`, shift, scale and gate
    /// - returns: `[N, D]`
    fn forward(&self, x: Tensor<2>, modulation: Tensor<2>, epsilon: f64) -> Tensor<2> {
        swiglu_block(x, &self.block(epsilon), Some(modulation))
    }

    /// Computes the modulation from the condition, `[N, D]`, and applies the layer.
    fn forward_conditioned(&self, x: Tensor<2>, condition: Tensor<2>, epsilon: f64) -> Tensor<2> {
        self.forward(x, linear_layer(&self.modulation, condition), epsilon)
    }

    fn block(&self, epsilon: f64) -> SwiGluBlock {
        SwiGluBlock {
            norm_weight: self.norm.as_ref().map(|norm| norm.gamma.val()),
            epsilon,
            gate: self.up.linear_inner.weight.val(),
            up: self.up.linear_outer.weight.val(),
            down: self.down.weight.val(),
        }
    }
}

/// `x * (1 + scale) + shift`, where `modulation` is shift and scale, `[N, 2D]`.
fn modulate(x: Tensor<2>, modulation: Tensor<2>) -> Tensor<2> {
    let [_, width] = x.dims();
    let shift = modulation.clone().narrow(1, 0, width);
    let scale = modulation.narrow(1, width, width);
    x * (scale + 1.0) + shift
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
    #[module(skip)]
    schedule: NoiseSchedule,
    epsilon: f64,
    recompute: bool,
}

/// The modulations of all layers and of the output.
struct Modulations {
    /// Shift, scale and gate of each layer, `[N, 3D]`.
    layers: Vec<Tensor<2>>,
    /// Shift and scale before the output projection, `[N, 2D]`.
    output: Tensor<2>,
}

impl Modulations {
    /// The modulations of `count` rows from `start` on.
    fn rows(&self, start: usize, count: usize) -> Self {
        let narrow = |x: &Tensor<2>| x.clone().narrow(0, start, count);
        Self {
            layers: self.layers.iter().map(narrow).collect(),
            output: narrow(&self.output),
        }
    }
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
        Self {
            input: linear(config.latent_dim, config.input_bias),
            condition: config.condition_projection.then(|| linear(width, false)),
            timestep: TimestepEmbedding::new(
                width,
                config.timestep_frequencies,
                config.timestep_max_period,
                device,
            ),
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
            schedule: NoiseSchedule::new(
                config.schedule,
                config.prediction,
                config.num_train_timesteps,
            ),
            epsilon: config.norm_epsilon,
            recompute: config.recompute,
        }
    }

    /// The forward process that the head inverts.
    pub fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    /// One evaluation of the network, its raw prediction (noise or velocity). Timesteps may lie
    /// between those that the head was trained on.
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
        let condition = self.project(condition);
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
    fn modulations(&self, condition: Tensor<2>) -> Modulations {
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
        let x = modulate(rms_norm(x, None, self.epsilon), modulation);
        linear_layer(&self.output, x)
    }

    /// The same prediction with gradient checkpointing: the graph keeps only the input of each layer.
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
        let DiffusionDraws { timesteps, noise } = draws;
        let noisy = self
            .schedule
            .add_noise(latents.clone(), noise.clone(), timesteps.clone());
        let target = self.schedule.target(latents, noise, timesteps.clone());
        let prediction = self.denoise(noisy, timesteps.float(), condition);
        // The target is float32, so the loss is too, even if the network computes in bfloat16.
        (prediction.cast(target.dtype()) - target).square().mean()
    }

    fn draw(&self, rows: usize, random: &mut RandomStream, device: &Device) -> DiffusionDraws {
        DiffusionDraws {
            timesteps: random.integers(rows, self.schedule.timesteps(), device),
            noise: random.normal([rows, self.latent_dim()], device),
        }
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
        let null = null.filter(|_| options.guidance_scale != 1.0);
        let guidance = null.is_some().then_some(options.guidance_scale);
        let condition = self.project(match null {
            Some(null) => Tensor::cat(vec![condition, null], 0),
            None => condition,
        });
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

/// Modulations of all solver steps, computed for many steps in one matrix product. That is possible
/// because they depend on the condition and the timestep, not on the noisy latents.
struct StepModulations<'a> {
    head: &'a DiffusionHead,
    /// Projected hidden states, `[N, D]`; with guidance, the null rows follow the conditional ones.
    condition: Tensor<2>,
    /// Timestep embeddings of the solver steps, `[S, D]`.
    timesteps: Tensor<2>,
    /// Solver steps in one matrix product.
    steps_at_once: usize,
    /// First step and modulations of the newest product.
    ready: Option<(usize, Modulations)>,
}

impl<'a> StepModulations<'a> {
    fn new(head: &'a DiffusionHead, condition: Tensor<2>, timesteps: Tensor<2>) -> Self {
        let [rows, width] = condition.dims();
        let row_bytes = (3 * head.layers.len() + 2) * width * size_of::<f32>();
        Self {
            head,
            steps_at_once: (MODULATION_BYTES / (rows * row_bytes).max(1)).max(1),
            condition,
            timesteps,
            ready: None,
        }
    }

    /// The modulations of one solver step.
    fn at(&mut self, step: usize) -> Modulations {
        let rows = self.condition.dims()[0];
        let first = step - step % self.steps_at_once;
        if self.ready.as_ref().is_none_or(|(start, _)| *start != first) {
            self.ready = Some((first, self.compute(first)));
        }
        match &self.ready {
            Some((start, modulations)) => modulations.rows((step - start) * rows, rows),
            None => self.compute(step),
        }
    }

    /// The modulations of the steps from `first` on, step by step.
    fn compute(&self, first: usize) -> Modulations {
        let [rows, width] = self.condition.dims();
        let steps = self.steps_at_once.min(self.timesteps.dims()[0] - first);
        let timesteps = self.timesteps.clone().narrow(0, first, steps);
        let condition =
            self.condition.clone().unsqueeze_dim::<3>(0) + timesteps.unsqueeze_dim::<3>(1); // [steps, N, D]
        self.head
            .modulations(condition.reshape([steps * rows, width]))
    }
}
