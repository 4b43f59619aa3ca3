//! One position of a large backbone, with weights of 32 to 4 bits.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};
use latentlm::backbone::{CacheNumbers, Transformer, TransformerConfig};
use latentlm::core::CausalBackboneConfig;
use latentlm::{CausalBackbone, RandomStream};
use latentlm_eval::median;
use latentlm_kernels::WEIGHT_GROUP;

use crate::Unit;
use crate::caches::{CacheFlush, Caches};
use crate::drawn::drawn_weight;
use crate::inputs::{Inputs, timed};
use crate::sizes::{DecodeSizes, DecodeWeights};

/// Positions of a sequence.
const POSITIONS: usize = 18;
/// Its first positions, which are not timed.
const UNTIMED: usize = 2;

/// A backbone of which one position after another is computed, with random weights.
#[derive(Debug, Clone)]
pub struct BackboneWork {
    /// Its sizes.
    pub config: TransformerConfig,
    /// Matrices in memory. Norms and biases are float32.
    pub weights: DecodeWeights,
    /// Type of the numbers in the KV cache.
    pub cache: CacheNumbers,
    /// Number of sequences; 16 positions of each are timed.
    pub repeats: usize,
    /// Caches that are emptied before each time.
    pub cold: Option<Caches>,
}

/// What a position of a backbone takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PositionTimes {
    /// Milliseconds, median.
    pub milliseconds: f64,
    /// Number of positions that the median is taken over.
    pub positions: usize,
    /// Bytes that a position reads: the weights, and the KV cache of the positions before, on average.
    pub bytes: f64,
}

impl BackboneWork {
    /// Number of parameters. Counting takes no memory: they are made when they are first used.
    pub fn parameters(&self, device: &Device) -> usize {
        self.config.init(device).num_params()
    }

    /// Bytes of all parameters in memory.
    pub fn weight_bytes(&self, device: &Device) -> f64 {
        let mut counted = WeightBytes {
            weights: self.weights,
            total: 0.0,
        };
        self.config.init(device).visit(&mut counted);
        counted.total
    }

    /// Bytes of a position in the KV cache of all layers.
    fn cache_bytes(&self, model: &Transformer) -> f64 {
        let [_, kv_heads, _, head_dim] = model.cache_shape(1).map(|size| size as f64);
        let number = match self.cache {
            CacheNumbers::F32 => 4.0,
            CacheNumbers::Bf16 => 2.0,
            // A float32 scale for each head.
            CacheNumbers::Int8 => 1.0 + 4.0 / head_dim,
        };
        // Keys and values.
        2.0 * model.depth() as f64 * kv_heads * head_dim * number
    }
}

/// Times the positions of a backbone, which is drawn matrix by matrix in the type of its weights. `None` if the device
/// has no products with such weights.
pub fn position_times(work: &BackboneWork, device: &Device) -> Option<PositionTimes> {
    let mut random = RandomStream::new(0);
    // A small matrix, so that nobody waits for large ones in vain.
    drawn_weight::<2>([WEIGHT_GROUP; 2], work.weights, &mut random, device)?;
    let mut model = drawn(&work.config, work.weights, device);
    model.set_cache_numbers(work.cache);
    let mut flush = work.cold.map(CacheFlush::new);
    let mut times = Vec::new();
    for _ in 0..work.repeats {
        let mut kv_cache = model.init_state(1, POSITIONS, device);
        for position in 0..POSITIONS {
            let input = random.normal([1, 1, work.config.width], device);
            flush.iter_mut().for_each(CacheFlush::run);
            let (_, seconds) = timed(device, || model.step(input, &mut kv_cache));
            if position >= UNTIMED {
                times.push(seconds * 1e3);
            }
        }
    }
    // The mean of the first and the last that is timed, which sees itself too.
    let seen = (UNTIMED + 1 + POSITIONS) as f64 / 2.0;
    Some(PositionTimes {
        positions: times.len(),
        milliseconds: median(times),
        bytes: work.weight_bytes(device) + seen * work.cache_bytes(&model),
    })
}

/// Counts the bytes of parameters.
struct WeightBytes {
    weights: DecodeWeights,
    total: f64,
}

impl ModuleVisitor for WeightBytes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let weights = if D == 2 {
            self.weights
        } else {
            DecodeWeights::F32
        };
        self.total += weights.bytes() * param.lazy_shape().num_elements() as f64;
    }
}

/// Draws the matrices of a module one after the other, in the type that they have in memory. Parameters that nobody has
/// asked for do not exist yet, so that the memory of all is that of this type.
struct Drawing {
    weights: DecodeWeights,
    random: RandomStream,
}

impl ModuleMapper for Drawing {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        if D != 2 {
            return param;
        }
        let (sizes, device) = (param.lazy_shape().dims(), param.lazy_device());
        match drawn_weight(sizes, self.weights, &mut self.random, &device) {
            Some(weight) => {
                let id = param.id;
                param.transform_for_load(weight, id)
            }
            // It stays float32.
            None => param,
        }
    }
}

/// A backbone with random weights.
fn drawn(config: &TransformerConfig, weights: DecodeWeights, device: &Device) -> Transformer {
    let random = RandomStream::new(0);
    config.init(device).map(&mut Drawing { weights, random })
}

/// Each unit is the next position of one sequence; a full cache begins anew.
pub(super) fn decode(sizes: DecodeSizes, mut inputs: Inputs) -> Unit {
    let config = TransformerConfig::new(sizes.width, sizes.depth, sizes.heads)
        .with_kv_heads(sizes.kv_heads)
        .with_mlp_ratio(sizes.mlp_ratio)
        .with_final_norm(false)
        .with_condition_layer(false);
    let model = drawn(&config, sizes.weights, &inputs.device);
    let mut kv_cache = model.init_state(1, sizes.positions, &inputs.device);
    let mut position = 0;
    Box::new(move || {
        if position == sizes.positions {
            kv_cache = model.init_state(1, sizes.positions, &inputs.device);
            position = 0;
        }
        position += 1;
        let input = inputs.normal([1, 1, sizes.width]);
        model.step(input, &mut kv_cache);
    })
}

#[cfg(test)]
mod tests {
    use burn::tensor::DType;

    use super::*;

    /// Types of matrices.
    struct Types(Vec<DType>);

    impl ModuleVisitor for Types {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if D == 2 {
                self.0.push(param.val().dtype());
            }
        }
    }

    /// The last layer reads a row whose mean square is 1, and its weights keep that: 64 numbers are off by 0.2 of it.
    #[test]
    fn matrices_have_the_type_that_is_asked_for() {
        let device = Device::default();
        let config = TransformerConfig::new(64, 2, 4).with_kv_heads(2);
        let x: Tensor<3> = RandomStream::new(1).normal([1, 1, 64], &device);
        for weights in [
            DecodeWeights::F32,
            DecodeWeights::Bf16,
            DecodeWeights::Int8,
            DecodeWeights::Int4,
        ] {
            let mut random = RandomStream::new(0);
            // A build without kernels has no products with int8 and int4 weights.
            let Some(matrix) = drawn_weight::<2>([32, 32], weights, &mut random, &device) else {
                continue;
            };
            let model = drawn(&config, weights, &device);
            let mut types = Types(Vec::new());
            model.visit(&mut types);
            // Two blocks of five, and the condition layer.
            assert_eq!(types.0, vec![matrix.dtype(); 11], "{weights:?}");
            let mut kv_cache = model.init_state(1, 1, &device);
            let output = model.step(x.clone(), &mut kv_cache);
            let square: f32 = output.square().mean().into_scalar();
            assert!(square > 0.2 && square < 2.0, "{weights:?}: {square}");
        }
    }

    /// Bytes as counted by hand, of weights and of the cache; times are of this machine.
    #[test]
    fn positions_are_timed_and_their_bytes_counted() {
        let device = Device::default();
        let config = TransformerConfig::new(64, 2, 4)
            .with_kv_heads(2)
            .with_mlp_width(96)
            .with_norm_weight(true)
            .with_qkv_bias(true)
            .with_condition_layer(false);
        // Queries and the projection, keys and values of half the heads, gate, up and down.
        let matrices = 2 * (2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96);
        // Norms of blocks, biases, the last norm.
        let vectors = 2 * (2 * 64 + 128) + 64;
        let scale = 2.0 / 32.0;
        for (weights, number, cache, cache_number) in [
            (DecodeWeights::F32, 4.0, CacheNumbers::F32, 4.0),
            (DecodeWeights::Int8, 1.0 + scale, CacheNumbers::Bf16, 2.0),
            (DecodeWeights::Int4, 0.5 + scale, CacheNumbers::Int8, 1.25),
        ] {
            let work = BackboneWork {
                config: config.clone(),
                weights,
                cache,
                repeats: 2,
                cold: None,
            };
            assert_eq!(work.parameters(&device), matrices + vectors);
            let expected = number * matrices as f64 + 4.0 * vectors as f64;
            assert_eq!(work.weight_bytes(&device), expected);
            // A build without kernels has no products with int8 and int4 weights.
            let Some(times) = position_times(&work, &device) else {
                assert_ne!(weights, DecodeWeights::F32);
                continue;
            };
            assert_eq!(times.positions, 32);
            assert!(times.milliseconds > 0.0);
            // Positions 2 to 17 see 3 to 18: 10.5. Keys and values of 32 numbers in two layers.
            let cached = 10.5 * 2.0 * 2.0 * 32.0 * cache_number;
            assert_eq!(times.bytes, expected + cached, "{weights:?}");
        }
    }
}
