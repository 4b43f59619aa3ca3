//! Every kernel against the same of Burn's operations, at the sizes of the default recipes.

use std::cell::Cell;
use std::time::Instant;

use burn::nn::conv::Conv2dConfig;
use burn::nn::{GroupNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Int, Tensor};
use latentlm::core::LatentHeadConfig;
use latentlm::{LatentHead, LmSizes, RandomStream, SampleOptions};
use latentlm_kernels::{
    AdamWStep, CachedMask, Mask, PackedHeads, Rotary, SwiGluBlock, Trained, adamw,
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

/// Times every operation, in turn with and without its kernel, and tells each when it is measured.
pub fn kernel_times(repeats: usize, mut tell: impl FnMut(&KernelTimes)) {
    let device = Device::default();
    let cases = training(&device.clone().autodiff()).into_iter();
    for case in cases.chain(optimizing(&device)).chain(generating(&device)) {
        tell(&measure(&case, repeats));
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
    let [kernel_ms, composed_ms] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
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

/// Forward and backward.
fn graded<const R: usize>(op: impl Fn() -> Tensor<R> + 'static) -> Box<dyn Fn()> {
    Box::new(move || {
        op().sum().backward();
    })
}

/// Operations of a training step. `device` records gradients.
fn training(device: &Device) -> Vec<Case> {
    let mut random = RandomStream::new(0);
    let mut cases = products(&mut random, device);
    cases.extend(norms_and_activations(&mut random, device));
    cases.extend(attentions(&mut random, device));
    cases.extend(convolutions(&mut random, device));
    cases
}

/// Those of the convolutional codecs of pictures and of speech, and the norm beside the first.
fn convolutions(random: &mut RandomStream, device: &Device) -> Vec<Case> {
    let [x, weight] =
        [[4, 8006, 32], [32, 1, 7]].map(|shape| random.normal(shape, device).require_grad());
    let bias = random.normal([32], device).require_grad();
    let convolution = Conv2dConfig::new([64, 64], [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device);
    let halving = Conv2dConfig::new([64, 64], [4, 4])
        .with_stride([2, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device);
    let norm = GroupNormConfig::new(8, 64).init(device);
    let pictures = random.normal([8, 64, 32, 32], device).require_grad();
    let [a, b] = [(); 2].map(|()| pictures.clone());
    vec![
        Case {
            name: "convolution of pictures",
            sizes: "8 of 32 x 32, 64 to 64 channels, kernel 3 x 3",
            unit: graded(move || conv2d_layer(&convolution, a.clone())),
        },
        Case {
            name: "convolution that halves",
            sizes: "8 of 32 x 32, 64 to 64 channels, kernel 4 x 4",
            unit: graded(move || conv2d_layer(&halving, b.clone())),
        },
        Case {
            name: "GroupNorm",
            sizes: "8 of 32 x 32, 64 channels in 8 groups",
            unit: graded(move || group_norm_layer(&norm, pictures.clone())),
        },
        Case {
            name: "depthwise convolution",
            sizes: "4 signals of 8000, 32 channels, kernel 7",
            unit: graded(move || depthwise_conv(x.clone(), weight.clone(), bias.clone())),
        },
    ]
}

fn products(random: &mut RandomStream, device: &Device) -> Vec<Case> {
    let bias = random.normal([2 * WIDTH], device).require_grad();
    let mut normal = |shape: [usize; 2]| random.normal(shape, device).require_grad();
    let (x, weight) = (normal([HEAD_ROWS, WIDTH]), normal([WIDTH, 2 * WIDTH]));
    let (hidden, modulation) = (normal([HEAD_ROWS, WIDTH]), normal([HEAD_ROWS, 3 * WIDTH]));
    let block = SwiGluBlock {
        norm_weight: None,
        epsilon: 1e-6,
        gate: normal([WIDTH, INNER]),
        up: normal([WIDTH, INNER]),
        down: normal([INNER, WIDTH]),
    };
    let logits = normal([1024, 1029]);
    let answers = Tensor::<1, Int>::arange(0..1024, device);
    vec![
        Case {
            name: "linear with a bias",
            sizes: "4096 rows, 128 to 256",
            unit: graded(move || linear(x.clone(), weight.clone(), Some(bias.clone()))),
        },
        Case {
            name: "AdaLN and SwiGLU block",
            sizes: "4096 rows, width 128, inner 320",
            unit: graded(move || swiglu_block(hidden.clone(), &block, Some(modulation.clone()))),
        },
        Case {
            name: "cross entropy",
            sizes: "1024 rows of 1029",
            unit: graded(move || cross_entropy(logits.clone(), answers.clone())),
        },
    ]
}

fn norms_and_activations(random: &mut RandomStream, device: &Device) -> Vec<Case> {
    let x = random.normal([HEAD_ROWS, WIDTH], device).require_grad();
    let [weight, bias] = [(); 2].map(|()| random.normal([WIDTH], device).require_grad());
    let [a, b, c, d] = [(); 4].map(|()| x.clone());
    let sizes = "4096 rows of 128";
    let case = |name, unit| Case { name, sizes, unit };
    vec![
        case("RMSNorm", {
            let weight = weight.clone();
            graded(move || rms_norm(a.clone(), Some(weight.clone()), 1e-6))
        }),
        case(
            "LayerNorm",
            graded(move || layer_norm(b.clone(), weight.clone(), bias.clone(), 1e-6)),
        ),
        case("SiLU", graded(move || silu(c.clone()))),
        case("GELU", graded(move || gelu(d.clone()))),
        case("tanh", graded(move || tanh(x.clone()))),
    ]
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

fn attentions(random: &mut RandomStream, device: &Device) -> Vec<Case> {
    let mut packed = |batch, length, heads: PackedHeads, head_dim: usize| {
        let width = (heads.heads + 2 * heads.kv_heads) * head_dim;
        random.normal([batch, length, width], device).require_grad()
    };
    let of = |heads, kv_heads| PackedHeads { heads, kv_heads };
    let (few, many, mllm) = (of(4, 2), of(12, 12), of(6, 2));
    let (short, long) = (packed(64, 16, few, 32), packed(1, 256, many, 64));
    let (documents, whole) = (packed(1, 2016, mllm, 32), packed(64, 16, of(6, 6), 32));
    let [of_short, of_long, of_documents] =
        [(16, 32), (256, 64), (2016, 32)].map(|(length, dim)| rotary(length, dim, device));
    let sights = vec![Mask::causal(28); 72];
    vec![
        Case {
            name: "causal attention",
            sizes: "64 sequences of 16, 4 heads of 32, 2 of keys",
            unit: graded(move || causal_attention(short.clone(), few, &of_short)),
        },
        Case {
            name: "causal attention",
            sizes: "a sequence of 256, 12 heads of 64",
            unit: graded(move || causal_attention(long.clone(), many, &of_long)),
        },
        Case {
            name: "document attention",
            sizes: "72 documents of 28, 6 heads of 32, 2 of keys",
            unit: graded(move || {
                document_attention(documents.clone(), mllm, &of_documents, &sights)
            }),
        },
        Case {
            name: "full attention",
            sizes: "64 sequences of 16, 6 heads of 32",
            unit: graded(move || full_attention(whole.clone(), of(6, 6))),
        },
    ]
}

/// What happens to parameters after the gradients.
fn optimizing(device: &Device) -> Vec<Case> {
    let mut random = RandomStream::new(1);
    let [parameter, gradient, first, second] = [(); 4].map(|()| random.normal([1 << 20], device));
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
    // Moved from step to step as in training: what has one owner is changed in place.
    let held = Cell::new(Some(trained));
    let sizes = "2^20 numbers";
    vec![
        Case {
            name: "norm of the gradients",
            sizes,
            unit: Box::new(move || {
                square_sum(squared.clone());
            }),
        },
        Case {
            name: "clipping, AdamW and averaging",
            sizes,
            unit: Box::new(move || {
                let next = |trained| adamw(trained, gradient.clone(), step);
                held.set(held.take().map(next));
            }),
        },
    ]
}

/// What a latent costs when pictures are drawn: attention over the cache, the head's solver.
fn generating(device: &Device) -> Vec<Case> {
    let mut random = RandomStream::new(2);
    let heads = PackedHeads {
        heads: 8,
        kv_heads: 4,
    };
    let (position, head_dim, batch) = (128, 64, 2);
    let packed = random.normal([batch, 1, 16 * head_dim], device);
    let cache = [(); 2].map(|()| random.normal([batch, heads.kv_heads, 256, head_dim], device));
    let angles = vec![0.5; head_dim / 2];
    let (turned, sight) = (
        Rotary::new(&angles, 1, false, device),
        CachedMask::new(position, &[]),
    );
    let head = LmSizes::new().with_width(WIDTH).with_mlp_ratio(4.0);
    let head = head.head(16).init(device);
    let [condition, null] = [(); 2].map(|()| random.normal([16, WIDTH], device));
    let noise = random.normal([16, 16], device);
    let options = SampleOptions {
        guidance_scale: 2.0,
        ..SampleOptions::default()
    };
    vec![
        Case {
            name: "attention over the cache",
            sizes: "2 sequences at position 128, 8 heads of 64, 4 of keys",
            unit: Box::new(move || {
                cached_attention(packed.clone(), heads, &turned, &sight, cache.clone());
            }),
        },
        Case {
            name: "the head's 20 solver steps",
            sizes: "16 latents with guidance, width 128, 3 layers",
            unit: Box::new(move || {
                let null = Some(null.clone());
                let mut random = RandomStream::new(3);
                head.sample(
                    condition.clone(),
                    null,
                    noise.clone(),
                    &options,
                    &mut random,
                );
            }),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_is_timed_both_ways() {
        let mut seen = Vec::new();
        kernel_times(1, |times| {
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
