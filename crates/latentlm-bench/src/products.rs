//! Single products beside what this machine can do: those of a layer of VibeVoice-1.5B, for a position and for prompts, with
//! weights of every type; and those of a step of an image model, in float32 and rounded to bfloat16.

use std::cell::Cell;
use std::hint::black_box;

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm_eval::median;
use latentlm_kernels::{at_once, linear, rounded_products, shards_of};

use crate::drawn::drawn_weight;
use crate::kernels::{LEAST_MS, time, units};
use crate::probe::Limits;
use crate::sizes::DecodeWeights;

/// Types of weights, in the order of [`ProductRates::rates`].
const WEIGHTS: [DecodeWeights; 4] = [
    DecodeWeights::F32,
    DecodeWeights::Bf16,
    DecodeWeights::Int8,
    DecodeWeights::Int4,
];
/// Inputs and outputs of the products in a layer of VibeVoice-1.5B's backbone. The product behind attention has the size of
/// half of the second.
const LAYER: [(&str, [usize; 2]); 3] = [
    ("layer of VibeVoice-1.5B, attention", [1536, 2048]),
    ("layer of VibeVoice-1.5B, gate or up", [1536, 8960]),
    ("layer of VibeVoice-1.5B, down", [8960, 1536]),
];
/// Rows of these: a position, a few, and a prompt.
const ROWS: [usize; 4] = [1, 4, 32, 512];
/// Rows, inputs and outputs of products in a step of the default image recipe, and of the published Base size: heads have
/// four draws a latent.
const STEP: [(&str, [usize; 3]); 5] = [
    ("image step, attention", [1024, 128, 256]),
    ("image step, head's gate or up", [4096, 128, 320]),
    ("image step, head's down", [4096, 320, 128]),
    ("Base step, head's gate or up", [1024, 768, 3072]),
    ("Base step, head's down", [1024, 3072, 768]),
];
/// Products of a step that each thread computes before it waits for the others.
const UNITS: usize = 20;

/// Rates of a product.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductRates {
    /// Where it is.
    pub name: &'static str,
    /// Rows, inputs and outputs.
    pub sizes: [usize; 3],
    /// With numbers in float32, bfloat16, int8 and int4; `None` for those that are not computed with.
    pub rates: [Option<ProductRate>; 4],
}

/// How fast a product is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProductRate {
    /// Operations a second: two for each product of two numbers.
    pub operations_per_s: f64,
    /// The least time on this machine, over the time: that of the operations, or of reading the weights where they come from
    /// memory, whichever is longer.
    pub of_limit: f64,
}

/// Products are timed one after the other.
struct Bench<'a> {
    device: &'a Device,
    limits: &'a Limits,
    repeats: usize,
    /// Time that one measurement takes at least, in milliseconds; with 0 it is a single unit without a warm-up.
    least_ms: f64,
}

/// Times products on a CPU, of which `limits` were measured; each is the median of `repeats` measurements. A layer's weights
/// come from memory: there are as many of them as [`Limits::read_bytes`] hold, in turn. In a step each thread multiplies rows of
/// its own. `tell` gets a product as soon as it is measured.
pub fn product_rates(
    device: &Device,
    limits: &Limits,
    repeats: usize,
    mut tell: impl FnMut(&ProductRates),
) {
    let bench = Bench {
        device,
        limits,
        repeats,
        least_ms: LEAST_MS,
    };
    for (name, sizes) in LAYER {
        bench.layer(name, sizes).iter().for_each(&mut tell);
    }
    for (name, sizes) in STEP {
        tell(&bench.step(name, sizes));
    }
}

impl Bench<'_> {
    /// Milliseconds of a unit of work, median.
    fn milliseconds<R>(&self, work: impl Fn() -> R) -> f64 {
        let units = units(&work, self.least_ms);
        let times = (0..self.repeats.max(1)).map(|_| time(&work, units));
        median(times.collect())
    }

    /// The rate of a product, of which so many `bytes` of weights come from memory.
    fn rate(
        &self,
        [rows, inputs, outputs]: [usize; 3],
        weights: DecodeWeights,
        bytes: f64,
        milliseconds: f64,
    ) -> ProductRate {
        let operations = 2.0 * rows as f64 * inputs as f64 * outputs as f64;
        let per_s = match weights {
            DecodeWeights::F32 => self.limits.operations_per_s,
            DecodeWeights::Bf16 => self.limits.bf16_operations_per_s,
            DecodeWeights::Int8 | DecodeWeights::Int4 => self.limits.int8_operations_per_s,
        };
        let least = f64::max(operations / per_s, bytes / self.limits.bytes_per_s);
        let seconds = milliseconds / 1e3;
        ProductRate {
            operations_per_s: operations / seconds,
            of_limit: least / seconds,
        }
    }

    /// A product of a layer, with each number of rows.
    fn layer(&self, name: &'static str, [inputs, outputs]: [usize; 2]) -> Vec<ProductRates> {
        let empty = |rows| ProductRates {
            name,
            sizes: [rows, inputs, outputs],
            rates: [None; WEIGHTS.len()],
        };
        let mut all: Vec<ProductRates> = ROWS.map(empty).into();
        for (index, weights) in WEIGHTS.into_iter().enumerate() {
            let bytes = (inputs * outputs) as f64 * weights.bytes();
            let count = (self.limits.read_bytes / bytes).ceil().max(1.0) as usize;
            let mut random = RandomStream::new(0);
            let drawn = (0..count)
                .map(|_| drawn_weight::<2>([inputs, outputs], weights, &mut random, self.device));
            let Some(drawn) = drawn.collect::<Option<Vec<_>>>() else {
                continue;
            };
            let next = Cell::new(0);
            for product in &mut all {
                let x: Tensor<2> = random.normal([product.sizes[0], inputs], self.device);
                let milliseconds = self.milliseconds(|| {
                    let weight = &drawn[next.get()];
                    next.set((next.get() + 1) % drawn.len());
                    linear(x.clone(), weight.clone(), None)
                });
                let rate = self.rate(product.sizes, weights, bytes, milliseconds);
                product.rates[index] = Some(rate);
            }
        }
        all
    }

    /// A product of a training step forward: each thread multiplies its shard's rows, with weights in its caches.
    fn step(&self, name: &'static str, sizes: [usize; 3]) -> ProductRates {
        let [rows, inputs, outputs] = sizes;
        let mut random = RandomStream::new(0);
        let weight: Tensor<2> = random.normal([inputs, outputs], self.device);
        let factors: Vec<[Tensor<2>; 2]> = shards_of(self.device, rows, 1)
            .into_iter()
            .map(|own| {
                let x = random.normal([own.len(), inputs], self.device);
                [x, weight.clone()]
            })
            .collect();
        let products = || {
            at_once(factors.clone(), |[x, weight]| {
                for _ in 0..UNITS {
                    black_box(linear(x.clone(), weight.clone(), None));
                }
            })
        };
        let exact = self.milliseconds(products) / UNITS as f64;
        let rounded = self.milliseconds(|| rounded_products(products)) / UNITS as f64;
        let rate = |weights, milliseconds| Some(self.rate(sizes, weights, 0.0, milliseconds));
        ProductRates {
            name,
            sizes,
            rates: [
                rate(DecodeWeights::F32, exact),
                rate(DecodeWeights::Bf16, rounded),
                None,
                None,
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One unit each, of small sizes: that rates are measured, not what they are.
    #[test]
    fn products_have_rates_in_every_type() {
        let device = Device::default();
        let limits = Limits {
            operations_per_s: 1e9,
            bf16_operations_per_s: 1e9,
            int8_operations_per_s: 1e9,
            bytes_per_s: 1e9,
            read_bytes: 3e4,
            ..Limits::default()
        };
        let bench = Bench {
            device: &device,
            limits: &limits,
            repeats: 1,
            least_ms: 0.0,
        };
        let layer = bench.layer("a layer", [64, 96]);
        let rows: Vec<usize> = layer.iter().map(|product| product.sizes[0]).collect();
        assert_eq!(rows, ROWS);
        for product in layer {
            let [exact, rounded, quantized @ ..] = product.rates;
            assert!(exact.is_some() && rounded.is_some());
            // A build without kernels has no products with int8 and int4 weights.
            assert_eq!(quantized[0].is_some(), quantized[1].is_some());
            for rate in product.rates.into_iter().flatten() {
                assert!(
                    rate.operations_per_s > 0.0 && rate.of_limit > 0.0,
                    "{rate:?}"
                );
            }
        }
        let step = bench.step("a step", [40, 32, 48]);
        assert!(step.rates[0].is_some() && step.rates[1].is_some());
        assert_eq!(step.rates[2..], [None, None]);
    }

    /// Two milliseconds, where operations alone take one, and weights three fifths of that or twice as long.
    #[test]
    fn the_limit_is_the_longer_of_operations_and_bytes() {
        let limits = Limits {
            bf16_operations_per_s: 2e9,
            bytes_per_s: 1e9,
            ..Limits::default()
        };
        let bench = Bench {
            device: &Device::default(),
            limits: &limits,
            repeats: 1,
            least_ms: 0.0,
        };
        let sizes = [10, 100, 1000];
        for (bytes, of_limit) in [(0.0, 0.5), (6e5, 0.5), (2e6, 1.0)] {
            let rate = bench.rate(sizes, DecodeWeights::Bf16, bytes, 2.0);
            assert_eq!(rate.operations_per_s, 1e9);
            assert_eq!(rate.of_limit, of_limit, "{bytes}");
        }
    }
}
