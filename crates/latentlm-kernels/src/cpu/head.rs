//! The sampling loop of a diffusion head: some latents go through all steps of a solver in memory that
//! is taken once. Latents do not depend on each other, so each thread has its own to the end.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use multiversion::multiversion;
use rayon::prelude::*;

use super::backend::{contiguous, numbers, sizes, tensor};
use super::math::sigmoid;
use super::norm::{Affine, normalize};
use super::plain::{plain, wrapped};
use super::weight::{Scratch, Weight};
use crate::head::{HeadLayer, HeadPrecision, HeadRun, LinearStep, SampledHead};
use crate::workers::{ROWS_A_PART, cut};

/// Rows that go through the layers together; a guided latent has two.
///
/// gemm 0.19 turns a product with rows of results around: the weights, `[in, out]`, become its left
/// side and lie there as it wants them. Still it copies its left side before it multiplies, at every
/// product anew (1.5 MB for 256 x 1536 weights), if the right one has more columns than 8 (its
/// `get_lhs_packing_threshold_single_thread`) times the 6 that its kernels take at once, with AVX-512
/// as with FMA. With up to 48 rows weights are read where they lie, and 48 leaves no kernel half empty.
const ROWS: usize = 48;

/// Memory of the modulations that are worked out at once: half of a usual second cache, so that they
/// are still there when the layers ask for them. More steps at once make larger products of few rows.
const MODULATION_BYTES: usize = 512 << 10;

/// Takes all steps, if everything lies where this can be done.
pub(crate) fn sample_head(head: &SampledHead, run: &HeadRun) -> Option<Tensor<2>> {
    let [noise, condition, timesteps] = [&run.noise, &run.condition, &run.timesteps].map(flat);
    let (noise, condition, timesteps) = (noise?, condition?, timesteps?);
    let [latents, _] = sizes(&noise);
    let head = Head::new(head, run.precision, rayon::current_num_threads() == 1)?;
    let run = Run {
        conditions: numbers(&condition),
        timesteps: numbers(&timesteps),
        steps: &run.steps,
        guidance: run.guidance.map(|scale| scale as f32),
        latents,
    };
    run.check(head.width());
    let sampled = sample(&head, &run, numbers(&noise));
    Some(wrapped(tensor(sampled, [latents, head.latent()])))
}

fn flat<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    plain(x.clone()).map(contiguous)
}

/// The same of a tensor that need not be there.
fn flat_option(x: &Option<Tensor<1>>) -> Option<Option<FlexTensor>> {
    match x {
        Some(x) => flat(x).map(Some),
        None => Some(None),
    }
}

struct Layer {
    norm: Option<FlexTensor>,
    /// `[width, 3 width]`
    modulation: Weight,
    /// `[width, inner]`
    gate: Weight,
    up: Weight,
    /// `[inner, width]`
    down: Weight,
    epsilon: f32,
}

impl Layer {
    fn new(layer: &HeadLayer, precision: HeadPrecision, alone: bool) -> Option<Self> {
        let block = &layer.block;
        let weight = |x| Weight::new(x, precision, alone);
        Some(Self {
            norm: flat_option(&block.norm_weight)?,
            modulation: weight(&layer.modulation)?,
            gate: weight(&block.gate)?,
            up: weight(&block.up)?,
            down: weight(&block.down)?,
            epsilon: block.epsilon as f32,
        })
    }

    fn inner(&self) -> usize {
        self.gate.sizes()[1]
    }
}

struct Head {
    /// `[latent, width]`
    input: Weight,
    bias: Option<FlexTensor>,
    layers: Vec<Layer>,
    /// `[width, 2 width]`
    modulation: Weight,
    /// `[width, latent]`
    output: Weight,
    epsilon: f32,
}

impl Head {
    fn new(head: &SampledHead, precision: HeadPrecision, alone: bool) -> Option<Self> {
        let weight = |x| Weight::new(x, precision, alone);
        let layers = head.layers.iter();
        let layers = layers.map(|layer| Layer::new(layer, precision, alone));
        let layers: Option<_> = layers.collect();
        Some(Self {
            input: weight(&head.input)?,
            bias: flat_option(&head.input_bias)?,
            layers: layers?,
            modulation: weight(&head.modulation)?,
            output: weight(&head.output)?,
            epsilon: head.epsilon as f32,
        })
    }

    fn latent(&self) -> usize {
        self.input.sizes()[0]
    }

    fn width(&self) -> usize {
        self.input.sizes()[1]
    }
}

/// What all latents share.
struct Run<'a> {
    /// `[halves * latents, width]`
    conditions: &'a [f32],
    /// `[steps, width]`
    timesteps: &'a [f32],
    steps: &'a [LinearStep],
    guidance: Option<f32>,
    latents: usize,
}

impl Run<'_> {
    fn halves(&self) -> usize {
        match self.guidance {
            Some(_) => 2,
            None => 1,
        }
    }

    fn check(&self, width: usize) {
        let rows = self.halves() * self.latents;
        assert_eq!(self.conditions.len(), rows * width, "{rows} conditions");
        let steps = self.steps.len();
        assert_eq!(self.timesteps.len(), steps * width, "{steps} timesteps");
    }
}

/// The latents `[latents, latent]` after all steps from `noise`.
fn sample(head: &Head, run: &Run<'_>, noise: &[f32]) -> Vec<f32> {
    let mut out = noise.to_vec();
    if run.latents == 0 {
        return out;
    }
    let mut blocks = blocks(run.latents, run.halves());
    if blocks.len() == 1 {
        // Products are then shared out where they are large enough.
        let mut work = Work::new(head, run, blocks.remove(0), false);
        work.run(head, run, &mut out);
        return out;
    }
    let (mut rest, mut tasks) = (&mut out[..], Vec::with_capacity(blocks.len()));
    for block in blocks {
        let (part, others) = rest.split_at_mut(block.len() * head.latent());
        tasks.push((block, part));
        rest = others;
    }
    tasks.into_par_iter().for_each(|(block, x)| {
        Work::new(head, run, block, true).run(head, run, x);
    });
    out
}

/// Latents that go together: as few blocks as [`ROWS`] allows, but one for each thread that then has
/// enough to do.
fn blocks(latents: usize, halves: usize) -> Vec<Range<usize>> {
    let threads = rayon::current_num_threads();
    let needed = latents.div_ceil(ROWS / halves);
    let count = match needed > threads {
        true => needed.next_multiple_of(threads),
        false => needed.max(threads.min(latents / ROWS_A_PART)),
    };
    cut(latents, count)
}

/// Some latents on their way, and the memory for it.
struct Work {
    latents: Range<usize>,
    /// Of all halves.
    rows: usize,
    /// Whether other threads have latents of their own.
    alone: bool,
    /// Steps whose modulations are worked out at once.
    at_once: usize,
    /// `[at_once * rows, width]`
    conditions: Vec<f32>,
    /// Of each layer, `[at_once * rows, 3 width]`.
    modulations: Vec<Vec<f32>>,
    /// Of the last norm, `[at_once * rows, 2 width]`.
    last: Vec<f32>,
    /// `[rows, width]`
    hidden: Vec<f32>,
    normal: Vec<f32>,
    /// `[rows, inner]`
    gate: Vec<f32>,
    up: Vec<f32>,
    /// `[rows, latent]`
    prediction: Vec<f32>,
    /// The last step's estimate, `[latents, latent]`.
    clean: Vec<f32>,
    scratch: Scratch,
}

impl Work {
    fn new(head: &Head, run: &Run<'_>, latents: Range<usize>, alone: bool) -> Self {
        let (width, rows) = (head.width(), run.halves() * latents.len());
        let row_bytes = (3 * head.layers.len() + 2) * width * size_of::<f32>();
        let at_once = (ROWS / rows).min(MODULATION_BYTES / (rows * row_bytes));
        let at_once = at_once.min(run.steps.len()).max(1);
        let inner = head.layers.iter().map(Layer::inner).max();
        let numbers = |width: usize| vec![0.0; rows * width];
        let modulation = |parts: usize| vec![0.0; at_once * rows * parts * width];
        Self {
            rows,
            alone,
            at_once,
            conditions: modulation(1),
            modulations: head.layers.iter().map(|_| modulation(3)).collect(),
            last: modulation(2),
            hidden: numbers(width),
            normal: numbers(width),
            gate: numbers(inner.unwrap_or(0)),
            up: numbers(inner.unwrap_or(0)),
            prediction: numbers(head.latent()),
            clean: vec![0.0; latents.len() * head.latent()],
            scratch: Scratch::default(),
            latents,
        }
    }

    /// Takes `x`, `[latents, latent]`, through all steps.
    fn run(&mut self, head: &Head, run: &Run<'_>, x: &mut [f32]) {
        let mut start = 0;
        for steps in run.steps.chunks(self.at_once) {
            self.modulate(head, run, start..start + steps.len());
            for (index, step) in steps.iter().enumerate() {
                self.predict(head, x, index);
                if let Some(scale) = run.guidance {
                    guide(&mut self.prediction, scale);
                }
                advance(x, &self.prediction, &mut self.clean, *step);
            }
            start += steps.len();
        }
    }

    /// Works out the modulations of some steps.
    fn modulate(&mut self, head: &Head, run: &Run<'_>, steps: Range<usize>) {
        let (width, rows) = (head.width(), steps.len() * self.rows);
        let part = self.latents.len() * width;
        let mut parts = self.conditions.chunks_exact_mut(part);
        let timesteps = &run.timesteps[steps.start * width..steps.end * width];
        for timestep in timesteps.chunks_exact(width) {
            for (half, out) in (0..run.halves()).zip(&mut parts) {
                let at = (half * run.latents + self.latents.start) * width;
                activated_sums(out, &run.conditions[at..at + part], timestep);
            }
        }
        let (conditions, scratch) = (&self.conditions[..rows * width], &mut self.scratch);
        let layers = head.layers.iter().map(|layer| &layer.modulation);
        for (weight, out) in layers.zip(&mut self.modulations) {
            let out = &mut out[..rows * 3 * width];
            weight.product_over(out, conditions, scratch, self.alone);
        }
        let out = &mut self.last[..rows * 2 * width];
        let weight = &head.modulation;
        weight.product_over(out, conditions, scratch, self.alone);
    }

    /// What the head predicts for `x` at one of the steps whose modulations are there.
    fn predict(&mut self, head: &Head, x: &[f32], step: usize) {
        let (rows, width, alone) = (self.rows, head.width(), self.alone);
        let scratch = &mut self.scratch;
        // Both halves begin with the same latents.
        let (first, second) = self.hidden.split_at_mut(self.latents.len() * width);
        head.input.product_over(first, x, scratch, alone);
        if let Some(bias) = &head.bias {
            add_bias(first, numbers(bias));
        }
        if !second.is_empty() {
            second.copy_from_slice(first);
        }
        for (layer, modulation) in head.layers.iter().zip(&self.modulations) {
            let inner = layer.inner();
            let affine = Affine {
                weight: layer.norm.as_ref().map(numbers),
                modulation: Some(&modulation[step * rows * 3 * width..][..rows * 3 * width]),
                parts: 3,
            };
            normalized(&mut self.normal, &self.hidden, width, layer.epsilon, affine);
            let (gate, up) = (&mut self.gate[..rows * inner], &mut self.up[..rows * inner]);
            layer.gate.product_over(gate, &self.normal, scratch, alone);
            layer.up.product_over(up, &self.normal, scratch, alone);
            activate(gate, up);
            layer
                .down
                .product_over(&mut self.normal, gate, scratch, alone);
            add_gated(&mut self.hidden, &self.normal, width, affine);
        }
        let affine = Affine {
            weight: None,
            modulation: Some(&self.last[step * rows * 2 * width..][..rows * 2 * width]),
            parts: 2,
        };
        normalized(&mut self.normal, &self.hidden, width, head.epsilon, affine);
        head.output
            .product_over(&mut self.prediction, &self.normal, scratch, alone);
    }
}

/// `silu(row + timestep)` of all rows.
#[multiversion(targets = "simd")]
fn activated_sums(out: &mut [f32], rows: &[f32], timestep: &[f32]) {
    let width = timestep.len();
    for (out, row) in out.chunks_exact_mut(width).zip(rows.chunks_exact(width)) {
        for (out, (x, timestep)) in out.iter_mut().zip(row.iter().zip(timestep)) {
            let x = x + timestep;
            *out = x * sigmoid(x);
        }
    }
}

/// Adds a bias to all rows.
#[multiversion(targets = "simd")]
fn add_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_exact_mut(bias.len()) {
        for (x, bias) in row.iter_mut().zip(bias) {
            *x += bias;
        }
    }
}

/// Normalized and modulated rows.
#[multiversion(targets = "simd")]
fn normalized(out: &mut [f32], x: &[f32], width: usize, epsilon: f32, affine: Affine<'_>) {
    let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for (index, (out, x)) in rows.enumerate() {
        normalize(out, x, index, epsilon, affine);
    }
}

/// `silu(gate) * up`, in the place of `gate`.
#[multiversion(targets = "simd")]
fn activate(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate *= sigmoid(*gate) * up;
    }
}

/// Adds rows times their gates, the third part of the modulation.
#[multiversion(targets = "simd")]
fn add_gated(hidden: &mut [f32], rows: &[f32], width: usize, affine: Affine<'_>) {
    let modulation = affine.modulation.unwrap_or_default();
    let rows = rows.chunks_exact(width);
    let rows = rows.zip(modulation.chunks_exact(affine.parts * width));
    for (hidden, (row, modulation)) in hidden.chunks_exact_mut(width).zip(rows) {
        let gated = row.iter().zip(&modulation[2 * width..]);
        for (hidden, (x, gate)) in hidden.iter_mut().zip(gated) {
            *hidden += x * gate;
        }
    }
}

/// The first half becomes `null + scale * (cond - null)`, the second being the null's.
#[multiversion(targets = "simd")]
fn guide(predictions: &mut [f32], scale: f32) {
    let (cond, null) = predictions.split_at_mut(predictions.len() / 2);
    for (cond, null) in cond.iter_mut().zip(null) {
        *cond = *null + (*cond - *null) * scale;
    }
}

/// One step of the solver; `clean` is the last step's estimate and becomes this one's.
#[multiversion(targets = "simd")]
fn advance(x: &mut [f32], prediction: &[f32], clean: &mut [f32], step: LinearStep) {
    for ((x, last), prediction) in x.iter_mut().zip(clean).zip(prediction) {
        let clean = *x * step.x_to_clean + prediction * step.prediction_to_clean;
        *x = clean * step.this + *x * step.state + *last * step.last;
        *last = clean;
    }
}
