//! What this machine can do. Operations a second: of our own products, with numbers in the caches and in memory, and in
//! float32 of a loop of fused multiply-adds. Bytes a second: of weights that no cache holds, which a product of one row
//! reads, and of a loop that sums. A limit is the best of these, so that it is no limit of ours alone; for bfloat16 and
//! int8, which Rust has no portable instructions for, it is that of our products.

use std::hint::black_box;

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm_kernels::{MULTIPLY_ADDS, at_once, linear, multiply_add, shards_of, wrapping_sum};
use serde::Serialize;

use crate::drawn::drawn_weight;
use crate::inputs::timed;
use crate::sizes::DecodeWeights;

/// Rows, inputs and outputs of a product whose numbers lie in a second-level cache: 0.7 MB.
const SMALL: [usize; 3] = [192, 256, 256];
/// Products of one measurement.
const UNITS: usize = 100;
/// Numbers of a block in a first-level cache: 16 KiB.
const BLOCK: usize = 4096;
/// Passes over a block in one measurement.
const PASSES: usize = 500;
/// Sides of products in memory.
const SIDES: [usize; 5] = [512, 1024, 2048, 4096, 8192];
/// Time from which on a product is told from its start.
const ENOUGH_S: f64 = 0.1;
/// Inputs of the weights that are read.
const INPUTS: usize = 4096;
/// Their outputs are a multiple of this.
const OUTPUTS: usize = 64;
/// Least bytes that are read: four times the caches of a small machine.
const LEAST_BYTES: usize = 1 << 27;
/// Most bytes that are read: a virtual machine may report the cache of a whole server, of which it has a part.
pub const MOST_READ_BYTES: usize = 1 << 30;
/// Bytes that are read over those of the largest cache, if that is allowed: little of them stays.
const TIMES_CACHE: usize = 4;
/// Side of a matrix that fills a quarter of a gigabyte.
const SIDE: usize = 8192;
const KINDS: [(&str, DecodeWeights); 3] = [
    ("float32", DecodeWeights::F32),
    ("bfloat16", DecodeWeights::Bf16),
    ("int8", DecodeWeights::Int8),
];

/// Limits of a machine. 0 stands for what it does not have, or what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Limits {
    /// Operations a second with float32 numbers, of products or of fused multiply-adds, on all cores.
    pub operations_per_s: f64,
    /// Operations a second of products with bfloat16 weights, on all cores.
    pub bf16_operations_per_s: f64,
    /// Operations a second of products with int8 weights, on all cores.
    pub int8_operations_per_s: f64,
    /// Bytes a second that all cores together read.
    pub bytes_per_s: f64,
    /// Bytes a second that one core reads alone.
    pub one_core_bytes_per_s: f64,
    /// Bytes of the largest cache.
    pub cache_bytes: f64,
    /// Bytes that the rates of bytes were measured with.
    pub read_bytes: f64,
}

/// Bytes to read for the rate of memory, where the largest cache has so many.
fn bytes_to_read(cache_bytes: usize) -> usize {
    let wanted = cache_bytes.saturating_mul(TIMES_CACHE);
    wanted.clamp(LEAST_BYTES, MOST_READ_BYTES)
}

/// A line that says that a cache may hold some of the bytes that are read again and again; `None` if it holds a quarter
/// of them at most.
pub fn cache_note(read_bytes: usize, cache_bytes: usize) -> Option<String> {
    let mebibytes = |bytes: usize| bytes.div_ceil(1 << 20);
    let part = if read_bytes <= cache_bytes {
        "all"
    } else {
        "some"
    };
    (read_bytes < cache_bytes.saturating_mul(TIMES_CACHE)).then(|| {
        format!(
            "note: {part} of the {} MiB that are read may lie in the largest cache, which has {} MiB as the system \
             reports it: memory may be slower",
            mebibytes(read_bytes),
            mebibytes(cache_bytes)
        )
    })
}

/// Measures the limits of a CPU. Takes about half a minute; `tell` gets a line as soon as it is measured.
pub fn probe_limits(device: &Device, cache_bytes: usize, mut tell: impl FnMut(&str)) -> Limits {
    let mut operations = [0.0; KINDS.len()];
    let (mut together, mut alone) = (0.0_f64, 0.0_f64);
    for ((name, weights), best) in KINDS.into_iter().zip(&mut operations) {
        let cached = cached_rate(device, weights).unwrap_or(0.0);
        let large = large_rate(device, weights).unwrap_or(0.0);
        *best = f64::max(cached, large);
        tell(&format!(
            "products of {name}: {:.0} GFLOP/s in the second-level caches, {:.0} GFLOP/s from memory",
            cached / 1e9,
            large / 1e9
        ));
    }
    let fused = fused_rate(device);
    operations[0] = f64::max(operations[0], fused);
    tell(&format!(
        "fused multiply-adds of float32: {:.0} GFLOP/s",
        fused / 1e9
    ));
    let bytes = bytes_to_read(cache_bytes);
    if let Some(note) = cache_note(bytes, cache_bytes) {
        tell(&note);
    }
    for (name, weights) in KINDS {
        let [one_core, all_cores] = read_rates(device, weights, bytes).unwrap_or_default();
        tell(&format!(
            "one row with weights in {name}: {:.1} GB/s on one core, {:.1} GB/s on all",
            one_core / 1e9,
            all_cores / 1e9
        ));
        together = together.max(all_cores);
        alone = alone.max(one_core);
    }
    let sum_alone = sum_rate(1, bytes, device);
    let sum_together = sum_rate(threads(device), bytes, device);
    tell(&format!(
        "a sum: {:.1} GB/s on one core, {:.1} GB/s on all",
        sum_alone / 1e9,
        sum_together / 1e9
    ));
    together = together.max(sum_together);
    alone = alone.max(sum_alone);
    let [exact, rounded, quantized] = operations;
    Limits {
        operations_per_s: exact,
        bf16_operations_per_s: rounded,
        int8_operations_per_s: quantized,
        bytes_per_s: together,
        one_core_bytes_per_s: alone,
        cache_bytes: cache_bytes as f64,
        read_bytes: bytes as f64,
    }
}

/// Operations a second of float32 products, in caches or in memory, whichever is faster.
pub(crate) fn float32_rate(device: &Device) -> f64 {
    let cached = cached_rate(device, DecodeWeights::F32).unwrap_or(0.0);
    let large = large_rate(device, DecodeWeights::F32).unwrap_or(0.0);
    cached.max(large)
}

/// Bytes a second of the fastest of three passes over memory: a product of one row, a sum, a factor.
pub(crate) fn memory_rate(device: &Device) -> f64 {
    let x = Tensor::<2>::ones([SIDE, SIDE], device);
    let bytes = 4.0 * (SIDE * SIDE) as f64;
    let read = bytes / shortest(device, || x.clone().sum());
    let both = shortest(device, || x.clone().mul_scalar(0.5));
    let row = read_rates(device, DecodeWeights::F32, bytes as usize);
    let [_, row] = row.unwrap_or_default();
    read.max(2.0 * bytes / both).max(row)
}

/// Bytes a second that all cores together read, of `bytes` bytes or as many as are read at least or most: the faster of a
/// sum and of a product of one row. Takes a second or two.
pub fn reading_rate(device: &Device, bytes: usize) -> f64 {
    let bytes = bytes.clamp(LEAST_BYTES, MOST_READ_BYTES);
    let row = read_rates(device, DecodeWeights::F32, bytes);
    let [_, row] = row.unwrap_or_default();
    row.max(sum_rate(threads(device), bytes, device))
}

/// Shortest of some runs, in seconds, after one that is not timed.
fn shortest<R>(device: &Device, mut work: impl FnMut() -> R) -> f64 {
    let times = (0..6).map(|_| timed(device, &mut work).1);
    times.skip(1).fold(f64::INFINITY, f64::min)
}

/// Random numbers: products of zeros draw less power and run faster than real ones.
fn factors(sizes: [usize; 3], weights: DecodeWeights, device: &Device) -> Option<[Tensor<2>; 2]> {
    let [rows, inputs, outputs] = sizes;
    let mut random = RandomStream::new(0);
    let x = random.normal([rows, inputs], device);
    let weight = drawn_weight([inputs, outputs], weights, &mut random, device)?;
    Some([x, weight])
}

/// Threads that work at the same time.
fn threads(device: &Device) -> usize {
    shards_of(device, usize::from(u16::MAX), 1).len()
}

/// Operations a second of fused multiply-adds, if each thread has numbers of its own in its registers and first-level
/// cache.
fn fused_rate(device: &Device) -> f64 {
    let blocks = vec![vec![0.5_f32; BLOCK]; threads(device)];
    let seconds = shortest(device, || {
        at_once(blocks.clone(), |mut block| {
            for _ in 0..PASSES {
                multiply_add(&mut block);
            }
            black_box(&block);
        });
    });
    2.0 * (blocks.len() * BLOCK * MULTIPLY_ADDS * PASSES) as f64 / seconds
}

/// Bytes a second that `threads` threads read together, each its own part of the memory.
fn sum_rate(threads: usize, bytes: usize, device: &Device) -> f64 {
    let numbers = vec![1_u64; bytes / size_of::<u64>()];
    let parts: Vec<&[u64]> = numbers.chunks(numbers.len().div_ceil(threads)).collect();
    let seconds = shortest(device, || {
        at_once(parts.clone(), |part| {
            black_box(wrapping_sum(part));
        });
    });
    size_of_val(numbers.as_slice()) as f64 / seconds
}

/// Operations a second if each thread has products of its own, whose numbers stay in the caches. `None` if the device
/// has no products with such weights.
fn cached_rate(device: &Device, weights: DecodeWeights) -> Option<f64> {
    let threads = threads(device);
    let pair = factors(SMALL, weights, device)?;
    let seconds = shortest(device, || {
        at_once(vec![pair.clone(); threads], |[x, weight]| {
            for _ in 0..UNITS {
                linear(x.clone(), weight.clone(), None);
            }
        });
    });
    let [rows, inputs, outputs] = SMALL;
    let products = 2.0 * (rows * inputs * outputs) as f64;
    Some(products * (threads * UNITS) as f64 / seconds)
}

/// Operations a second of growing products that all threads share, until one takes long enough.
fn large_rate(device: &Device, weights: DecodeWeights) -> Option<f64> {
    let mut best: f64 = 0.0;
    for side in SIDES {
        let [x, weight] = factors([side; 3], weights, device)?;
        let seconds = shortest(device, || linear(x.clone(), weight.clone(), None));
        best = best.max(2.0 * (side as f64).powi(3) / seconds);
        if seconds > ENOUGH_S {
            break;
        }
    }
    Some(best)
}

/// Bytes a second of the weights that a product of one row reads: on one core, and on all. The weights have `bytes` bytes
/// or a little less.
fn read_rates(device: &Device, weights: DecodeWeights, bytes: usize) -> Option<[f64; 2]> {
    let line = INPUTS as f64 * weights.bytes();
    let outputs = (bytes as f64 / line) as usize / OUTPUTS * OUTPUTS;
    let sizes = [INPUTS, outputs.max(OUTPUTS)];
    let x = Tensor::<2>::ones([1, INPUTS], device);
    let weight = drawn_weight(sizes, weights, &mut RandomStream::new(0), device)?;
    let pair = [x, weight];
    let row = |[x, weight]: [Tensor<2>; 2]| {
        linear(x, weight, None);
    };
    // Threads of their own, of which one has nothing to do.
    let alone = || at_once(vec![Some(pair.clone()), None], |pair| pair.map(row));
    let one_core = shortest(device, alone);
    let all_cores = shortest(device, || row(pair.clone()));
    Some([one_core, all_cores].map(|seconds| line * sizes[1] as f64 / seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rates are of this machine. No machine is outside of these bounds: a product of one row has two operations for
    /// each weight, and memory gives no more than a terabyte a second to one core.
    #[test]
    fn products_and_reading_have_rates() {
        let device = Device::default();
        for (name, weights) in KINDS {
            let read = read_rates(&device, weights, 1 << 20);
            let cached = cached_rate(&device, weights);
            // A build without kernels has no products with int8 weights.
            let Some((read, cached)) = read.zip(cached) else {
                assert_eq!(weights, DecodeWeights::Int8);
                continue;
            };
            for rate in read {
                assert!(rate > 1e6 && rate < 1e13, "{name}: {rate}");
            }
            assert!(cached > 1e7 && cached < 1e15, "{name}: {cached}");
        }
        let fused = fused_rate(&device);
        assert!(fused > 1e7 && fused < 1e15, "{fused}");
        for threads in [1, 3] {
            let sum = sum_rate(threads, 1 << 20, &device);
            assert!(sum > 1e6 && sum < 1e13, "{threads} threads: {sum}");
        }
    }

    #[test]
    fn no_more_is_read_than_a_small_machine_holds() {
        const MEBIBYTE: usize = 1 << 20;
        for (cache, expected) in [
            (0, LEAST_BYTES),
            (32 * MEBIBYTE, 128 * MEBIBYTE),
            (64 * MEBIBYTE, 256 * MEBIBYTE),
            (480 * MEBIBYTE, 1024 * MEBIBYTE),
            (usize::MAX, 1024 * MEBIBYTE),
        ] {
            assert_eq!(bytes_to_read(cache), expected, "{cache}");
        }
        for (cache, part) in [
            (64, None),
            (256, None),
            (257, Some("some of the 1024 MiB")),
            (480, Some("has 480 MiB as the system reports it")),
            (1024, Some("all of the 1024 MiB")),
        ] {
            let note = cache_note(1024 * MEBIBYTE, cache * MEBIBYTE);
            assert_eq!(note.is_some(), part.is_some(), "{cache}: {note:?}");
            let (note, part) = (note.unwrap_or_default(), part.unwrap_or_default());
            assert!(note.contains(part), "{cache}: {note}");
        }
    }
}
