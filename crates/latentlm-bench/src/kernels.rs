//! Every kernel against the same of Burn's operations, at the sizes of the default recipes.

use std::cell::Cell;
use std::time::Instant;

use burn::nn::conv::Conv2dConfig;
use burn::nn::{GroupNormConfig, PaddingConfig2d};
use burn::tensor::{DType, Device, Int, Tensor};
use latentlm::backbone::{Rope, RopeLayout};
use latentlm::core::{HeadMethod, LatentHeadConfig};
use latentlm::{LatentHead, LmSizes, RandomStream, SampleOptions};
use latentlm_eval::median;
use latentlm_kernels::{
    AdamWStep, CachedMask, ConvLayerWeights, KeysValues, Mask, PackedHeads, Rotary, SwiGluBlock,
    Trained, WeightBits, adamw, cached_attention, causal_attention, causal_conv,
    causal_conv_transpose, conv_layer, conv2d_layer, cross_entropy, depthwise_conv,
    document_attention, full_attention, gelu, group_norm_layer, layer_norm, linear,
    quantized_weight, rms_norm, silu, sinusoid, square_sum, swiglu_block, tanh, without_kernels,
};

use crate::inputs::Inputs;

/// Time that one measurement takes at least where times are reported, in milliseconds: below that a clock tells
/// little.
pub(crate) const LEAST_MS: f64 = 10.0;
/// Rows of the default image recipe's head: 64 pictures of 16 latents, 4 draws.
const HEAD_ROWS: usize = 4096;
/// Width of that head.
const WIDTH: usize = 128;
/// Feed-forward width of that head.
const INNER: usize = 320;

/// Times of an operation as kernel and as Burn's operations: forward, and backward if it has gradients.
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

/// Operations are timed one after the other, with inputs on the device.
struct Bench<'a> {
    inputs: Inputs,
    repeats: usize,
    /// Time that one measurement takes at least, in milliseconds; with 0 it is a single unit without a warm-up.
    least_ms: f64,
    tell: &'a mut dyn FnMut(&KernelTimes),
}

/// Times every operation on a CPU, in turn with and without its kernel. `tell` gets each as soon as it is
/// measured.
pub fn kernel_times(device: &Device, repeats: usize, mut tell: impl FnMut(&KernelTimes)) {
    let bench = Bench {
        inputs: Inputs::on(device.clone().autodiff()),
        repeats,
        least_ms: LEAST_MS,
        tell: &mut tell,
    };
    bench.time_all();
}

/// How many units make one measurement of `least_ms`, found after a warm-up.
pub(crate) fn units<R>(work: &impl Fn() -> R, least_ms: f64) -> usize {
    if least_ms == 0.0 {
        return 1;
    }
    work();
    let once = time(work, 1).min(time(work, 1));
    (least_ms / once.max(1e-3)).ceil() as usize
}

/// Milliseconds a unit.
pub(crate) fn time<R>(work: &impl Fn() -> R, units: usize) -> f64 {
    let started = Instant::now();
    (0..units).for_each(|_| drop(work()));
    started.elapsed().as_secs_f64() * 1e3 / units as f64
}

/// Query heads, and heads of keys and values.
fn heads(heads: usize, kv_heads: usize) -> PackedHeads {
    PackedHeads { heads, kv_heads }
}

impl Bench<'_> {
    fn time_all(mut self) {
        self.time_products();
        self.time_norms_and_activations();
        self.time_attentions();
        self.time_convolutions();
        self.time_sounds();
        self.time_layers();
        self.inputs.device = self.inputs.device.inner();
        self.time_streamed_layers();
        self.time_optimizer();
        self.time_generation();
        self.time_large_products();
    }

    /// Random numbers with gradients.
    fn learned<const R: usize>(&mut self, shape: [usize; R]) -> Tensor<R> {
        self.inputs.normal(shape).require_grad()
    }

    /// Queries, keys and values of `batch` sequences.
    fn packed(&mut self, batch: usize, length: usize, of: PackedHeads, dim: usize) -> Tensor<3> {
        self.learned([batch, length, (of.heads + 2 * of.kv_heads) * dim])
    }

    /// Times a unit of work in turn with and without kernels.
    fn time<R>(&mut self, name: &'static str, sizes: &'static str, unit: impl Fn() -> R) {
        let composed = || without_kernels(&unit);
        let [own, others] = [units(&unit, self.least_ms), units(&composed, self.least_ms)];
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..self.repeats.max(1) {
            times[0].push(time(&unit, own));
            times[1].push(time(&composed, others));
        }
        let [kernel_ms, composed_ms] = times.map(median);
        (self.tell)(&KernelTimes {
            name,
            sizes,
            kernel_ms,
            composed_ms,
        });
    }

    /// Times an operation with its backward pass, as kernel and as Burn's operations.
    fn time_both<const R: usize>(
        &mut self,
        name: &'static str,
        sizes: &'static str,
        operation: impl Fn() -> Tensor<R>,
    ) {
        self.time(name, sizes, || operation().sum().backward());
    }

    fn time_products(&mut self) {
        let [x, hidden] = [(); 2].map(|()| self.learned([HEAD_ROWS, WIDTH]));
        let (weight, bias) = (self.learned([WIDTH, 2 * WIDTH]), self.learned([2 * WIDTH]));
        self.time_both("linear with a bias", "4096 rows, 128 to 256", || {
            linear(x.clone(), weight.clone(), Some(bias.clone()))
        });
        let modulation = self.learned([HEAD_ROWS, 3 * WIDTH]);
        let block = SwiGluBlock {
            norm_weight: None,
            epsilon: 1e-6,
            gate: self.learned([WIDTH, INNER]),
            up: self.learned([WIDTH, INNER]),
            down: self.learned([INNER, WIDTH]),
        };
        let sizes = "4096 rows, width 128, inner 320";
        self.time_both("AdaLN and SwiGLU block", sizes, || {
            swiglu_block(hidden.clone(), &block, Some(modulation.clone()))
        });
        let logits = self.learned([1024, 1029]);
        let answers = Tensor::<1, Int>::arange(0..1024, &self.inputs.device);
        self.time_both("cross entropy", "1024 rows of 1029", || {
            cross_entropy(logits.clone(), answers.clone())
        });
    }

    fn time_norms_and_activations(&mut self) {
        let x: Tensor<2> = self.learned([HEAD_ROWS, WIDTH]);
        let [weight, bias] = [(); 2].map(|()| self.learned([WIDTH]));
        let rows = "4096 rows of 128";
        self.time_both("RMSNorm", rows, || {
            rms_norm(x.clone(), Some(weight.clone()), 1e-6)
        });
        self.time_both("LayerNorm", rows, || {
            layer_norm(x.clone(), weight.clone(), bias.clone(), 1e-6)
        });
        self.time_both("SiLU", rows, || silu(x.clone()));
        self.time_both("GELU", rows, || gelu(x.clone()));
        self.time_both("tanh", rows, || tanh(x.clone()));
        let timesteps = Tensor::<1, Int>::arange(0..1000, &self.inputs.device).float();
        let frequencies: Vec<f32> = (0..128).map(|k| 0.93_f32.powi(k)).collect();
        self.time(
            "cosines and sines",
            "1000 timesteps, 128 frequencies",
            || sinusoid(timesteps.clone(), &frequencies),
        );
    }

    fn time_attentions(&mut self) {
        let rope = |head_dim| Rope::new(RopeLayout::HalfSplit, head_dim, 1e4);
        let x = self.packed(64, 16, heads(4, 2), 32);
        let turns = rope(32).rotation(0, &[16], &self.inputs.device);
        let sizes = "64 sequences of 16, 4 heads of 32, 2 of keys";
        self.time_both("causal attention", sizes, || {
            causal_attention(x.clone(), heads(4, 2), &turns)
        });
        let x = self.packed(1, 256, heads(12, 12), 64);
        let turns = rope(64).rotation(0, &[256], &self.inputs.device);
        let sizes = "a sequence of 256, 12 heads of 64";
        self.time_both("causal attention", sizes, || {
            causal_attention(x.clone(), heads(12, 12), &turns)
        });
        let x = self.packed(1, 2016, heads(6, 2), 32);
        let turns = rope(32).rotation(0, &[2016], &self.inputs.device);
        let masks = vec![Mask::causal(28); 72];
        let sizes = "72 documents of 28, 6 heads of 32, 2 of keys";
        self.time_both("document attention", sizes, || {
            document_attention(x.clone(), heads(6, 2), &turns, &masks)
        });
        let x = self.packed(64, 16, heads(6, 6), 32);
        let sizes = "64 sequences of 16, 6 heads of 32";
        self.time_both("full attention", sizes, || {
            full_attention(x.clone(), heads(6, 6))
        });
    }

    /// The convolutional codec of pictures, and its norm.
    fn time_convolutions(&mut self) {
        let pictures: Tensor<4> = self.learned([8, 64, 32, 32]);
        let halves = "8 of 32 x 32, 64 to 64 channels, kernel 4 x 4";
        let keeps = "8 of 32 x 32, 64 to 64 channels, kernel 3 x 3";
        for (name, sizes, kernel, stride) in [
            ("convolution of pictures", keeps, 3, 1),
            ("convolution that halves", halves, 4, 2),
        ] {
            let convolution = Conv2dConfig::new([64, 64], [kernel; 2])
                .with_stride([stride; 2])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(&self.inputs.device);
            self.time_both(name, sizes, || conv2d_layer(&convolution, pictures.clone()));
        }
        let norm = GroupNormConfig::new(8, 64).init(&self.inputs.device);
        self.time_both("GroupNorm", "8 of 32 x 32, 64 channels in 8 groups", || {
            group_norm_layer(&norm, pictures.clone())
        });
    }

    /// The convolutions of the speech codec: the largest between two resolutions and back, and the last one.
    fn time_sounds(&mut self) {
        let [coarse, fine] = [[16, 416, 64], [16, 416, 160]].map(|shape| self.learned(shape));
        let [down, last] = [[40, 8, 64], [7, 8, 1]].map(|shape| self.learned(shape));
        let up = self.learned([2, 64, 20, 8]);
        let samples = self.learned([16, 8320, 8]);
        let [one, eight, many] = [1, 8, 64].map(|width| self.learned([width]));
        let sizes = "16 signals of 416 frames, 20 x 8 to 64 channels, 2 taps";
        self.time_both("causal convolution", sizes, || {
            causal_conv(fine.clone(), None, down.clone(), many.clone())
        });
        let sizes = "16 signals of 8320, 8 channels to 1, 7 taps";
        self.time_both("causal convolution", sizes, || {
            causal_conv(samples.clone(), None, last.clone(), one.clone())
        });
        let sizes = "16 signals of 416 frames, 64 to 20 x 8 channels, 2 taps";
        self.time_both("transposed convolution", sizes, || {
            causal_conv_transpose(coarse.clone(), None, up.clone(), eight.clone())
        });
        let [x, weight] = [[4, 8000, 32], [32, 1, 7]].map(|shape| self.learned(shape));
        let bias = self.learned([32]);
        let sizes = "4 signals of 8000, 32 channels, kernel 7";
        self.time_both("depthwise convolution", sizes, || {
            depthwise_conv(x.clone(), None, weight.clone(), bias.clone())
        });
    }

    /// A residual layer of the speech codec; its inner width is four times its width.
    fn layer(&mut self, width: usize) -> ConvLayerWeights {
        let inner = 4 * width;
        let mut vector = |count: usize| self.inputs.normal([count]);
        let [norm, filter_bias, gamma] = [width; 3].map(&mut vector);
        let [ffn_norm, down_bias, ffn_gamma, up_bias] =
            [width, width, width, inner].map(&mut vector);
        let [up, down] = [[width, inner], [inner, width]].map(|shape| self.inputs.normal(shape));
        ConvLayerWeights {
            norm,
            epsilon: 1e-5,
            filter: self.inputs.normal([width, 1, 7]),
            filter_bias,
            gamma,
            ffn_norm,
            ffn_epsilon: 1e-5,
            up,
            up_bias,
            down,
            down_bias,
            ffn_gamma,
        }
    }

    /// Layers of the speech codec in training, at the resolutions of the default recipe.
    fn time_layers(&mut self) {
        for (frames, width, sizes) in [
            (400, 64, "16 signals of 400 frames, 64 channels"),
            (100, 128, "16 signals of 100 frames, 128 channels"),
            (25, 256, "16 signals of 25 frames, 256 channels"),
        ] {
            let x = self.learned([16, frames, width]);
            let mut layer = self.layer(width);
            for matrix in [&mut layer.up, &mut layer.down] {
                *matrix = matrix.clone().require_grad();
            }
            self.time_both("residual layer", sizes, || {
                conv_layer(x.clone(), None, &layer)
            });
        }
    }

    /// Layers of VibeVoice's codec for the frames of one latent.
    fn time_streamed_layers(&mut self) {
        for (frames, width, sizes) in [
            (8, 1024, "8 frames of a stream, 1024 channels"),
            (40, 512, "40 frames of a stream, 512 channels"),
            (200, 256, "200 frames of a stream, 256 channels"),
            (3200, 32, "3200 frames of a stream, 32 channels"),
        ] {
            let [x, past] = [frames, 6].map(|count| self.inputs.normal([1, count, width]));
            let layer = self.layer(width);
            self.time("residual layer", sizes, || {
                conv_layer(x.clone(), Some(past.clone()), &layer)
            });
        }
    }

    /// The optimizer's step.
    fn time_optimizer(&mut self) {
        let [parameter, gradient, first, second] = [(); 4].map(|()| self.inputs.normal([1 << 20]));
        let trained = Trained {
            average: parameter.zeros_like(),
            parameter,
            moments: [first, second.square()],
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
        let sizes = "2^20 numbers";
        self.time("norm of the gradients", sizes, || {
            square_sum(gradient.clone())
        });
        // Moved from step to step as in training: what has one owner is changed in place.
        let held = Cell::new(Some(trained));
        self.time("clipping, AdamW and averaging", sizes, || {
            let next = |trained| adamw(trained, gradient.clone(), step);
            held.set(held.take().map(next));
        });
    }

    /// The operations that draw a picture's latents: attention over the KV cache, and the head's solver.
    fn time_generation(&mut self) {
        let (position, head_dim, batch) = (128, 64, 2);
        let packed = self.inputs.normal([batch, 1, 16 * head_dim]);
        let both = [(); 2].map(|()| self.inputs.normal([batch, 4, 256, head_dim]));
        let cache = KeysValues::Float(both);
        let turns = Rotary::new(&[0.5; 32], 1, false, &self.inputs.device);
        let mask = CachedMask::new(position, &[]);
        let sizes = "2 sequences at position 128, 8 heads of 64, 4 of keys";
        self.time("attention over the cache", sizes, || {
            cached_attention(packed.clone(), heads(8, 4), &turns, &mask, cache.clone())
        });
        let head = LmSizes::new().with_width(WIDTH).with_mlp_ratio(4.0);
        let head = head.head(16, HeadMethod::default());
        let head = head.init(&self.inputs.device);
        let [condition, null] = [(); 2].map(|()| self.inputs.normal([16, WIDTH]));
        let noise = self.inputs.normal([16, 16]);
        let options = SampleOptions {
            guidance_scale: 2.0,
            ..SampleOptions::default()
        };
        let sizes = "16 latents with guidance, width 128, 3 layers";
        self.time("the head's 20 solver steps", sizes, || {
            let (condition, null) = (condition.clone(), Some(null.clone()));
            let mut random = RandomStream::new(3);
            head.sample(condition, null, noise.clone(), &options, &mut random)
        });
    }

    /// A feed-forward weight of a large model with a position, two and 64. Megabytes of the weight over
    /// milliseconds are the gigabytes a second that are read.
    fn time_large_products(&mut self) {
        let exact: Tensor<2> = self.inputs.normal([1536, 8960]);
        // The layout of a model's file.
        let rows = exact.clone().transpose();
        let stored = rows.clone().cast(DType::BF16).transpose();
        let mut weights = vec![
            ("linear, 55.1 MB in float32", exact),
            ("linear, 27.5 MB in bfloat16", stored),
        ];
        let rows = rows.into_data().convert::<f32>();
        let rows = rows.as_slice::<f32>().expect("numbers in float32");
        for (name, bits) in [
            ("linear, 14.6 MB in int8", WeightBits::Eight),
            ("linear, 7.7 MB in int4", WeightBits::Four),
        ] {
            let weight = quantized_weight(rows, 1536, bits, &self.inputs.device);
            weights.extend(weight.map(|weight| (name, weight)));
        }
        let sizes = [
            "1 row, 1536 to 8960",
            "2 rows, 1536 to 8960",
            "64 rows, 1536 to 8960",
        ];
        for (name, weight) in weights {
            for (rows, sizes) in [1, 2, 64].into_iter().zip(sizes) {
                let x: Tensor<2> = self.inputs.normal([rows, 1536]);
                self.time(name, sizes, || linear(x.clone(), weight.clone(), None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;
    use std::time::Duration;

    use super::*;

    #[test]
    fn long_work_is_a_measurement_by_itself() {
        let calls = Cell::new(0);
        let work = || {
            calls.set(calls.get() + 1);
            sleep(Duration::from_millis(2));
        };
        assert_eq!((units(&work, 1.0), calls.get()), (1, 3));
        assert_eq!((units(&work, 0.0), calls.get()), (1, 3));
    }

    /// One unit each: that times are measured, not what they are.
    #[test]
    fn every_kernel_is_timed_both_ways() {
        let mut seen = Vec::new();
        let mut tell = |times: &KernelTimes| {
            assert!(
                times.kernel_ms > 0.0 && times.composed_ms > 0.0,
                "{times:?}"
            );
            seen.push((times.name, times.sizes));
        };
        let bench = Bench {
            inputs: Inputs::on(Device::default().autodiff()),
            repeats: 1,
            least_ms: 0.0,
            tell: &mut tell,
        };
        bench.time_all();
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count, "two cases of one name and size");
        assert!(count > 10, "{seen:?}");
    }
}
