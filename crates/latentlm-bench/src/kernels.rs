//! Every kernel against the same of Burn's operations, at the sizes of the default recipes.

use std::cell::Cell;
use std::time::Instant;

use burn::nn::conv::Conv2dConfig;
use burn::nn::{GroupNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Int, Tensor};
use latentlm::core::LatentHeadConfig;
use latentlm::{LatentHead, LmSizes, RandomStream, SampleOptions};
use latentlm_eval::median;
use latentlm_kernels::{
    AdamWStep, CachedMask, KeysValues, Mask, PackedHeads, Rotary, SwiGluBlock, Trained, adamw,
    cached_attention, causal_attention, conv2d_layer, cross_entropy, depthwise_conv,
    document_attention, full_attention, gelu, group_norm_layer, layer_norm, linear, rms_norm, silu,
    square_sum, swiglu_block, tanh, without_kernels,
};

/// Time that one measurement takes at least, in milliseconds: below that a clock tells little.
const LEAST_MS: f64 = 10.0;
/// Rows of the default image recipe's head: 64 pictures of 16 latents, 4 draws.
const HEAD_ROWS: usize = 4096;
/// Its width.
const WIDTH: usize = 128;
/// Its feed-forward width.
const INNER: usize = 320;

/// What an operation takes both ways, forward and, where it has gradients, backward.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTimes {
    /// The operation.
    pub name: &'static str,
    /// Its sizes.
    pub sizes: &'static str,
    /// Milliseconds of the kernel, median.
    pub kernel_ms: f64,
    /// Milliseconds of Burn's operations, median.
    pub composed_ms: f64,
}

/// An operation with its inputs.
struct Case {
    name: &'static str,
    sizes: &'static str,
    unit: Box<dyn Fn()>,
}

/// Operations of one part of a program, and what their inputs are made with.
struct Cases {
    list: Vec<Case>,
    random: RandomStream,
    device: Device,
}

impl Cases {
    fn new(seed: u64, device: Device) -> Self {
        Self {
            list: Vec::new(),
            random: RandomStream::new(seed),
            device,
        }
    }

    /// Random numbers.
    fn normal<const R: usize>(&mut self, shape: [usize; R]) -> Tensor<R> {
        self.random.normal(shape, &self.device)
    }

    /// Random numbers with gradients.
    fn learned<const R: usize>(&mut self, shape: [usize; R]) -> Tensor<R> {
        self.normal(shape).require_grad()
    }

    /// Queries, keys and values of `batch` sequences.
    fn packed(&mut self, batch: usize, length: usize, of: PackedHeads, dim: usize) -> Tensor<3> {
        self.learned([batch, length, (of.heads + 2 * of.kv_heads) * dim])
    }

    fn add(&mut self, name: &'static str, sizes: &'static str, unit: impl Fn() + 'static) {
        let unit = Box::new(unit);
        self.list.push(Case { name, sizes, unit });
    }

    /// Adds an operation that is timed forward and backward.
    fn add_graded<const R: usize>(
        &mut self,
        name: &'static str,
        sizes: &'static str,
        operation: impl Fn() -> Tensor<R> + 'static,
    ) {
        self.add(name, sizes, move || {
            operation().sum().backward();
        });
    }
}

/// Times every operation on a CPU, in turn with and without its kernel. `tell` gets each as soon as it is
/// measured.
pub fn kernel_times(device: &Device, repeats: usize, mut tell: impl FnMut(&KernelTimes)) {
    let mut training = Cases::new(0, device.clone().autodiff());
    add_products(&mut training);
    add_norms_and_activations(&mut training);
    add_attentions(&mut training);
    add_convolutions(&mut training);
    let mut optimizing = Cases::new(1, device.clone());
    add_optimizer(&mut optimizing);
    let mut generating = Cases::new(2, device.clone());
    add_generation(&mut generating);
    for cases in [training, optimizing, generating] {
        for case in cases.list {
            tell(&measure(&case, repeats));
        }
    }
}

fn measure(case: &Case, repeats: usize) -> KernelTimes {
    let kernel = || (case.unit)();
    let composed = || without_kernels(|| (case.unit)());
    let units = [units(&kernel), units(&composed)];
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..repeats.max(1) {
        times[0].push(time(&kernel, units[0]));
        times[1].push(time(&composed, units[1]));
    }
    let [kernel_ms, composed_ms] = times.map(median);
    KernelTimes {
        name: case.name,
        sizes: case.sizes,
        kernel_ms,
        composed_ms,
    }
}

/// How many units make one measurement, found after a warm-up.
fn units(work: &impl Fn()) -> usize {
    work();
    let once = time(work, 1).min(time(work, 1));
    (LEAST_MS / once.max(1e-3)).ceil() as usize
}

/// Milliseconds a unit.
fn time(work: &impl Fn(), units: usize) -> f64 {
    let started = Instant::now();
    (0..units).for_each(|_| work());
    started.elapsed().as_secs_f64() * 1e3 / units as f64
}

fn add_products(cases: &mut Cases) {
    let rows = "4096 rows, 128 to 256";
    let bias = cases.learned([2 * WIDTH]);
    let (x, weight) = (
        cases.learned([HEAD_ROWS, WIDTH]),
        cases.learned([WIDTH, 2 * WIDTH]),
    );
    cases.add_graded("linear with a bias", rows, move || {
        linear(x.clone(), weight.clone(), Some(bias.clone()))
    });
    let hidden = cases.learned([HEAD_ROWS, WIDTH]);
    let modulation = cases.learned([HEAD_ROWS, 3 * WIDTH]);
    let block = SwiGluBlock {
        norm_weight: None,
        epsilon: 1e-6,
        gate: cases.learned([WIDTH, INNER]),
        up: cases.learned([WIDTH, INNER]),
        down: cases.learned([INNER, WIDTH]),
    };
    let rows = "4096 rows, width 128, inner 320";
    cases.add_graded("AdaLN and SwiGLU block", rows, move || {
        swiglu_block(hidden.clone(), &block, Some(modulation.clone()))
    });
    let logits = cases.learned([1024, 1029]);
    let answers = Tensor::<1, Int>::arange(0..1024, &cases.device);
    cases.add_graded("cross entropy", "1024 rows of 1029", move || {
        cross_entropy(logits.clone(), answers.clone())
    });
}

fn add_norms_and_activations(cases: &mut Cases) {
    let x = cases.learned([HEAD_ROWS, WIDTH]);
    let [weight, bias] = [(); 2].map(|()| cases.learned([WIDTH]));
    let [a, b, c, d] = [(); 4].map(|()| x.clone());
    let rows = "4096 rows of 128";
    let scale = weight.clone();
    cases.add_graded("RMSNorm", rows, move || {
        rms_norm(a.clone(), Some(scale.clone()), 1e-6)
    });
    cases.add_graded("LayerNorm", rows, move || {
        layer_norm(b.clone(), weight.clone(), bias.clone(), 1e-6)
    });
    cases.add_graded("SiLU", rows, move || silu(c.clone()));
    cases.add_graded("GELU", rows, move || gelu(d.clone()));
    cases.add_graded("tanh", rows, move || tanh(x.clone()));
}

/// Rotations of `length` positions, `head_dim` numbers a head.
fn rotary(length: usize, head_dim: usize, device: &Device) -> Rotary {
    let half = head_dim / 2;
    let angle = |slot: usize| {
        let (position, pair) = (slot / half, slot % half);
        position as f64 * 1e4_f64.powf(-(pair as f64) / half as f64)
    };
    let angles: Vec<f64> = (0..length * half).map(angle).collect();
    Rotary::new(&angles, length, false, device)
}

/// Query heads, and heads of keys and values.
fn heads(heads: usize, kv_heads: usize) -> PackedHeads {
    PackedHeads { heads, kv_heads }
}

fn add_attentions(cases: &mut Cases) {
    for (sizes, [batch, length], of, dim) in [
        (
            "64 sequences of 16, 4 heads of 32, 2 of keys",
            [64, 16],
            heads(4, 2),
            32,
        ),
        (
            "a sequence of 256, 12 heads of 64",
            [1, 256],
            heads(12, 12),
            64,
        ),
    ] {
        let x = cases.packed(batch, length, of, dim);
        let rotary = rotary(length, dim, &cases.device);
        cases.add_graded("causal attention", sizes, move || {
            causal_attention(x.clone(), of, &rotary)
        });
    }
    let x = cases.packed(1, 2016, heads(6, 2), 32);
    let rotary = rotary(2016, 32, &cases.device);
    let masks = vec![Mask::causal(28); 72];
    let sizes = "72 documents of 28, 6 heads of 32, 2 of keys";
    cases.add_graded("document attention", sizes, move || {
        document_attention(x.clone(), heads(6, 2), &rotary, &masks)
    });
    let x = cases.packed(64, 16, heads(6, 6), 32);
    let sizes = "64 sequences of 16, 6 heads of 32";
    cases.add_graded("full attention", sizes, move || {
        full_attention(x.clone(), heads(6, 6))
    });
}

/// The convolutional codecs of pictures and of speech, and the norm of the first.
fn add_convolutions(cases: &mut Cases) {
    let pictures = cases.learned([8, 64, 32, 32]);
    for (name, sizes, kernel, stride) in [
        (
            "convolution of pictures",
            "8 of 32 x 32, 64 to 64 channels, kernel 3 x 3",
            3,
            1,
        ),
        (
            "convolution that halves",
            "8 of 32 x 32, 64 to 64 channels, kernel 4 x 4",
            4,
            2,
        ),
    ] {
        let pictures = pictures.clone();
        let convolution = Conv2dConfig::new([64, 64], [kernel; 2])
            .with_stride([stride; 2])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
            .init(&cases.device);
        cases.add_graded(name, sizes, move || {
            conv2d_layer(&convolution, pictures.clone())
        });
    }
    let norm = GroupNormConfig::new(8, 64).init(&cases.device);
    let sizes = "8 of 32 x 32, 64 channels in 8 groups";
    cases.add_graded("GroupNorm", sizes, move || {
        group_norm_layer(&norm, pictures.clone())
    });
    let [x, weight] = [[4, 8006, 32], [32, 1, 7]].map(|shape| cases.learned(shape));
    let bias = cases.learned([32]);
    let sizes = "4 signals of 8000, 32 channels, kernel 7";
    cases.add_graded("depthwise convolution", sizes, move || {
        depthwise_conv(x.clone(), weight.clone(), bias.clone())
    });
}

/// What happens to parameters after the gradients are known.
fn add_optimizer(cases: &mut Cases) {
    let [parameter, gradient, first, second] = [(); 4].map(|()| cases.normal([1 << 20]));
    let second: Tensor<1> = second.square();
    let trained = Trained {
        average: parameter.zeros_like(),
        parameter,
        moments: [first, second],
    };
    let step = AdamWStep {
        learning_rate: 1e-3,
        beta_1: 0.9,
        beta_2: 0.98,
        epsilon: 1e-8,
        weight_decay: 0.01,
        time: 10,
        gradient_scale: 0.5,
        average_decay: 0.999,
    };
    let squared = gradient.clone();
    let sizes = "2^20 numbers";
    cases.add("norm of the gradients", sizes, move || {
        square_sum(squared.clone());
    });
    // Moved from step to step as in training: what has one owner is changed in place.
    let held = Cell::new(Some(trained));
    cases.add("clipping, AdamW and averaging", sizes, move || {
        let next = |trained| adamw(trained, gradient.clone(), step);
        held.set(held.take().map(next));
    });
}

/// What a latent costs when pictures are drawn: attention over the cache, the head's solver.
fn add_generation(cases: &mut Cases) {
    let (position, head_dim, batch) = (128, 64, 2);
    let packed = cases.normal([batch, 1, 16 * head_dim]);
    let [keys, values] = [(); 2].map(|()| cases.normal([batch, 4, 256, head_dim]));
    let cache = KeysValues { keys, values };
    let rotary = Rotary::new(&[0.5; 32], 1, false, &cases.device);
    let mask = CachedMask::new(position, &[]);
    let sizes = "2 sequences at position 128, 8 heads of 64, 4 of keys";
    cases.add("attention over the cache", sizes, move || {
        cached_attention(packed.clone(), heads(8, 4), &rotary, &mask, cache.clone());
    });
    let head = LmSizes::new().with_width(WIDTH).with_mlp_ratio(4.0);
    let head = head.head(16).init(&cases.device);
    let [condition, null] = [(); 2].map(|()| cases.normal([16, WIDTH]));
    let noise = cases.normal([16, 16]);
    let options = SampleOptions {
        guidance_scale: 2.0,
        ..SampleOptions::default()
    };
    let sizes = "16 latents with guidance, width 128, 3 layers";
    cases.add("the head's 20 solver steps", sizes, move || {
        let (condition, null) = (condition.clone(), Some(null.clone()));
        let mut random = RandomStream::new(3);
        head.sample(condition, null, noise.clone(), &options, &mut random);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_timed_both_ways() {
        let mut seen = Vec::new();
        kernel_times(&Device::default(), 1, |times| {
            assert!(
                times.kernel_ms > 0.0 && times.composed_ms > 0.0,
                "{times:?}"
            );
            seen.push((times.name, times.sizes));
        });
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count, "two cases of one name and size");
        assert!(count > 10, "{seen:?}");
    }
}
