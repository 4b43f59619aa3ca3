//! The sampling loop of a diffusion head. A block of latents goes through all solver steps in memory that is
//! allocated once. Latents do not depend on each other, so each thread takes its own through all steps.

use std::ops::Range;
use std::sync::{Arc, PoisonError};

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;
use latentlm_products::math::sigmoid;
use latentlm_products::tasks::add_bias;
use multiversion::multiversion;
use rayon::prelude::*;

use super::kept_head::{Head, KeptHead, Layer};
use super::norm::{Affine, normalize};
use super::plain::{flat, flat_option, wrapped};
use super::storage::{numbers, sizes, tensor};
use super::weight::{Scratch, Weight, place_of};
use crate::sampled_head::{HeadLayer, HeadLayouts, HeadRun, LinearStep, SampledHead};
use crate::types::HeadPrecision;
use crate::workers::{ROWS_A_SHARD, cut};

/// Most rows that go through the layers together. A latent with guidance has two rows.
///
/// gemm 0.19 transposes a product whose result is stored row by row: the weights, `[in, out]`, become its
/// left factor, whose layout suits it. It still copies ("packs") the left factor before each product
/// (1.5 MB for 256 x 1536 weights) if the right factor has more than 48 columns: 8 (its
/// `get_lhs_packing_threshold_single_thread`) times the 6 columns of its kernels, both with AVX-512 and with
/// FMA. Up to 48 rows it reads the weights in place, and 48 is a multiple of 6, so that kernels are full.
const ROWS: usize = 48;

/// Most memory for modulations that are computed ahead: half of a usual second-level cache, so that they are
/// still cached when the layers read them. Computing several steps together makes products of more rows.
const MODULATION_BYTES: usize = 512 << 10;

/// Weights of modulations that are larger than this are not in a cache when the next steps need them. Reading them
/// again takes longer than reading the modulations of many steps from memory.
const CACHED_WEIGHT_BYTES: usize = 32 << 20;

/// Runs all solver steps, if the kernel supports the tensors and the precision.
pub(crate) fn sample_head(head: &SampledHead, run: &HeadRun) -> Option<Tensor<2>> {
    let noise = flat(&run.noise)?;
    let condition = flat(&run.condition)?;
    let timesteps = flat(&run.timesteps)?;
    let [latents, _] = sizes(&noise);
    // One layout for all threads. When each laid out a copy of its own, sampling at widths 512 and 768 took 1.15
    // times as long (docs/log.md, 2026-11-25).
    let head = match &head.layouts {
        Some(layouts) => kept_head(layouts, head, run.precision)?,
        None => Arc::new(Head::new(head, run.precision)?),
    };
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

impl KeptHead {
    /// Whether it was made of the tensors and epsilons of `head`, for this precision. `sources` are its tensors.
    fn is_of(&self, head: &SampledHead, sources: &[FlexTensor], precision: HeadPrecision) -> bool {
        let same = |(own, other): (&FlexTensor, &FlexTensor)| {
            own.bytes().as_ptr() == other.bytes().as_ptr()
                && own.layout() == other.layout()
                && own.dtype() == other.dtype()
        };
        let layers = self.head.layers.iter().zip(&head.layers);
        let mut epsilons = layers.map(|(own, other)| own.epsilon == other.block.epsilon as f32);
        self.precision == precision
            && self.head.epsilon == head.epsilon as f32
            && self.head.layers.len() == head.layers.len()
            && epsilons.all(|same| same)
            && self.sources.len() == sources.len()
            && self.sources.iter().zip(sources).all(same)
    }
}

/// The head as `layouts` keeps it, or else laid out and kept there.
fn kept_head(
    layouts: &HeadLayouts,
    head: &SampledHead,
    precision: HeadPrecision,
) -> Option<Arc<Head>> {
    let sources = sources(head)?;
    let kept = || layouts.kept.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = &*kept()
        && found.is_of(head, &sources, precision)
    {
        return Some(found.head.clone());
    }
    // Not locked meanwhile: a thread that waits for others in the layout may take up another call of the same head.
    let head = Arc::new(Head::new(head, precision)?);
    *kept() = Some(KeptHead {
        head: head.clone(),
        precision,
        sources,
    });
    Some(head)
}

/// All tensors of a head. `None` if one is not on the CPU backend without autodiff.
fn sources(head: &SampledHead) -> Option<Vec<FlexTensor>> {
    let mut weights = vec![&head.input, &head.modulation, &head.output];
    let mut vectors: Vec<&Tensor<1>> = head.input_bias.iter().collect();
    for HeadLayer { block, modulation } in &head.layers {
        weights.extend([modulation, &block.gate, &block.up, &block.down]);
        vectors.extend(&block.norm_weight);
    }
    let weights = weights.into_iter().map(place_of);
    weights.chain(vectors.into_iter().map(place_of)).collect()
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
}

impl Head {
    fn new(head: &SampledHead, precision: HeadPrecision) -> Option<Self> {
        let alone = rayon::current_num_threads() == 1;
        let weight = |x| Weight::new(x, precision, alone);
        let mut layers = Vec::with_capacity(head.layers.len());
        for layer in &head.layers {
            layers.push(Layer::new(layer, precision, alone)?);
        }
        Some(Self {
            input: weight(&head.input)?,
            bias: flat_option(&head.input_bias)?,
            layers,
            modulation: weight(&head.modulation)?,
            output: weight(&head.output)?,
            epsilon: head.epsilon as f32,
        })
    }
}

/// Inputs of a run that are the same for all blocks.
struct Run<'a> {
    /// `[halves * latents, width]`: the conditions, and with guidance the null conditions behind them.
    conditions: &'a [f32],
    /// `[steps, width]`
    timesteps: &'a [f32],
    steps: &'a [LinearStep],
    /// Scale of guidance, if it is used.
    guidance: Option<f32>,
    /// Number of latents.
    latents: usize,
}

impl Run<'_> {
    /// Rows of a latent: two with guidance, the second for the null condition.
    fn halves(&self) -> usize {
        if self.guidance.is_some() { 2 } else { 1 }
    }

    fn check(&self, width: usize) {
        let rows = self.halves() * self.latents;
        assert_eq!(self.conditions.len(), rows * width, "{rows} conditions");
        let steps = self.steps.len();
        assert_eq!(self.timesteps.len(), steps * width, "{steps} timesteps");
    }
}

/// The latents after all steps, `[latents, latent]`. They start from `noise`.
fn sample(head: &Head, run: &Run<'_>, noise: &[f32]) -> Vec<f32> {
    let mut out = noise.to_vec();
    if run.latents == 0 {
        return out;
    }
    let mut blocks = blocks(run.latents, run.halves());
    if blocks.len() == 1 {
        // No other thread has a block: large products may use all threads.
        let mut work = Work::new(head, run, blocks.remove(0), false);
        work.run(head, run, &mut out);
        return out;
    }
    let (mut rest, mut tasks) = (&mut out[..], Vec::with_capacity(blocks.len()));
    for block in blocks {
        let (first, others) = rest.split_at_mut(block.len() * head.latent());
        tasks.push((block, first));
        rest = others;
    }
    // Blocks outside, steps inside: threads meet once, at the end, and not behind each of the steps' products.
    tasks.into_par_iter().for_each(|(block, x)| {
        Work::new(head, run, block, true).run(head, run, x);
    });
    out
}

/// Cuts the latents into blocks: as few as [`ROWS`] allows, but a multiple of the number of threads if there
/// are more blocks than threads, and one for each thread if that leaves enough latents for each.
fn blocks(latents: usize, halves: usize) -> Vec<Range<usize>> {
    let threads = rayon::current_num_threads();
    let needed = latents.div_ceil(ROWS / halves);
    // A multiple of the threads: a last block alone would have all threads but one wait for it.
    let count = if needed > threads {
        needed.next_multiple_of(threads)
    } else {
        needed.max(threads.min(latents / ROWS_A_SHARD))
    };
    cut(latents, count)
}

/// Number of solver steps whose modulations are computed together. Modulations of a row take `row_bytes`, their weights
/// `weight_bytes`. 0 if a single step would take too much memory.
fn steps_at_once(rows: usize, row_bytes: usize, weight_bytes: usize) -> usize {
    // These products share the bound of the others.
    let most = ROWS / rows;
    if weight_bytes > CACHED_WEIGHT_BYTES {
        return most;
    }
    most.min(MODULATION_BYTES / (rows * row_bytes))
}

/// A block of latents and the memory for its steps.
struct Work {
    /// The block's latents among those of the run.
    latents: Range<usize>,
    /// Rows of the block: its latents, twice with guidance.
    rows: usize,
    /// Whether products stay on this thread, because other threads have blocks of their own.
    alone: bool,
    /// Steps whose modulations are computed together.
    at_once: usize,
    /// SiLU of condition and timestep embedding, `[at_once * rows, width]`.
    conditions: Vec<f32>,
    /// Modulation of each layer, `[at_once * rows, 3 width]`.
    modulations: Vec<Vec<f32>>,
    /// Modulation of the last norm, `[at_once * rows, 2 width]`.
    last: Vec<f32>,
    /// Hidden state, `[rows, width]`.
    hidden: Vec<f32>,
    /// Normalized hidden state, then the output of the layer's block, `[rows, width]`.
    normal: Vec<f32>,
    /// `[rows, inner]`
    gate: Vec<f32>,
    /// `[rows, inner]`
    up: Vec<f32>,
    /// Prediction of the head, `[rows, latent]`.
    prediction: Vec<f32>,
    /// Clean estimate of the step before, `[latents, latent]`.
    clean: Vec<f32>,
    scratch: Scratch,
}

impl Work {
    fn new(head: &Head, run: &Run<'_>, latents: Range<usize>, alone: bool) -> Self {
        let (width, rows) = (head.width(), run.halves() * latents.len());
        let row_bytes = (3 * head.layers.len() + 2) * width * size_of::<f32>();
        let at_once = steps_at_once(rows, row_bytes, head.modulation_bytes());
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
            // No solver's first step uses the estimate before it; zeros keep the formula the same.
            clean: vec![0.0; latents.len() * head.latent()],
            scratch: Scratch::default(),
            latents,
        }
    }

    /// Runs all solver steps on `x`, `[latents, latent]`.
    fn run(&mut self, head: &Head, run: &Run<'_>, x: &mut [f32]) {
        let mut start = 0;
        for steps in run.steps.chunks(self.at_once) {
            self.modulate(head, run, start..start + steps.len());
            for (index, step) in steps.iter().enumerate() {
                self.predict(head, x, index);
                // The guided prediction takes the first half. `advance` stops at the end of `x` and does not
                // read the second.
                if let Some(scale) = run.guidance {
                    guide(&mut self.prediction, scale);
                }
                advance(x, &self.prediction, &mut self.clean, *step);
            }
            start += steps.len();
        }
    }

    /// Computes the modulations of a range of steps.
    fn modulate(&mut self, head: &Head, run: &Run<'_>, steps: Range<usize>) {
        let (width, rows) = (head.width(), steps.len() * self.rows);
        let size = self.latents.len() * width;
        let mut outs = self.conditions.chunks_exact_mut(size);
        let timesteps = &run.timesteps[steps.start * width..steps.end * width];
        for timestep in timesteps.chunks_exact(width) {
            for (half, out) in (0..run.halves()).zip(&mut outs) {
                let at = (half * run.latents + self.latents.start) * width;
                activated_sums(out, &run.conditions[at..at + size], timestep);
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

    /// The prediction of the head for `x`. `step` counts among those of the last [`Self::modulate`].
    fn predict(&mut self, head: &Head, x: &[f32], step: usize) {
        let (rows, width, alone) = (self.rows, head.width(), self.alone);
        let scratch = &mut self.scratch;
        // With guidance both halves start from the same latents, so the input projection runs once.
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
            // The normalized rows are not needed any more: their memory takes the output.
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

/// `silu(row + timestep)` for each row.
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

/// Writes the rows of `x` to `out`, normalized and modulated.
#[multiversion(targets = "simd")]
fn normalized(out: &mut [f32], x: &[f32], width: usize, epsilon: f32, affine: Affine<'_>) {
    let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width));
    for (index, (out, x)) in rows.enumerate() {
        normalize(out, x, index, epsilon, affine);
    }
}

/// Replaces `gate` by `silu(gate) * up`.
#[multiversion(targets = "simd")]
fn activate(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate *= sigmoid(*gate) * up;
    }
}

/// Adds each row times its gate, the last third of a row of the modulation.
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

/// Classifier-free guidance: the first half becomes `null + scale * (cond - null)`. The second half holds the
/// predictions for the null condition.
#[multiversion(targets = "simd")]
fn guide(predictions: &mut [f32], scale: f32) {
    let (cond, null) = predictions.split_at_mut(predictions.len() / 2);
    for (cond, null) in cond.iter_mut().zip(null) {
        *cond = *null + (*cond - *null) * scale;
    }
}

/// One step of the solver. `clean` is the clean estimate of the step before and becomes that of this step.
#[multiversion(targets = "simd")]
fn advance(x: &mut [f32], prediction: &[f32], clean: &mut [f32], step: LinearStep) {
    for ((x, last), prediction) in x.iter_mut().zip(clean).zip(prediction) {
        let clean = *x * step.x_to_clean + prediction * step.prediction_to_clean;
        *x = clean * step.this + *x * step.state + *last * step.last;
        *last = clean;
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::types::SwiGluBlock;

    /// Two rows: one latent with guidance. The heads of VibeVoice 1.5B and 7B fit into no cache, so all ten solver
    /// steps share one pass over the weights. For a head of width 512 as many do as stay in the cache with it.
    #[test]
    fn weights_that_no_cache_holds_are_read_once() {
        let steps = |width: usize| {
            let row_bytes = 14 * width * size_of::<f32>();
            steps_at_once(2, row_bytes, 14 * width * width * 2)
        };
        assert!(steps(1536) >= 10 && steps(3584) >= 10);
        assert_eq!(steps(512), 9);
    }

    /// Other epsilons make another head of the same weights.
    #[test]
    fn a_kept_head_has_the_epsilons_of_the_call() {
        let device = Device::default();
        let ones = |shape: [usize; 2]| Tensor::<2>::ones(shape, &device);
        let block = SwiGluBlock {
            norm_weight: None,
            epsilon: 1e-5,
            gate: ones([4, 8]),
            up: ones([4, 8]),
            down: ones([8, 4]),
        };
        let head = SampledHead {
            input: ones([2, 4]),
            input_bias: None,
            layers: vec![HeadLayer {
                block,
                modulation: ones([4, 12]),
            }],
            modulation: ones([4, 8]),
            output: ones([4, 2]),
            epsilon: 1e-5,
            layouts: None,
        };
        let layouts = HeadLayouts::default();
        let kept = |head: &SampledHead| {
            let kept = kept_head(&layouts, head, HeadPrecision::F32);
            kept.expect("a head on the CPU")
        };
        assert!(Arc::ptr_eq(&kept(&head), &kept(&head)));
        let mut of_layer = head.clone();
        of_layer.layers[0].block.epsilon = 1e-3;
        assert_eq!(kept(&of_layer).layers[0].epsilon, 1e-3);
        let mut of_norm = head;
        of_norm.epsilon = 1e-3;
        assert_eq!(kept(&of_norm).epsilon, 1e-3);
    }
}
