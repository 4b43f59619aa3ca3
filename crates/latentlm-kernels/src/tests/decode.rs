//! Attention over a cache: the kernel against Burn's operations, step by step.

use burn::tensor::{Device, Tensor};

use super::attention::rotary_from;
use super::{assert_close, draw, values};
use crate::cpu::plain;
use crate::decode::{self, CachedMask, cached_attention};
use crate::types::{KeysValues, PackedHeads};

/// Sizes of one case.
struct Case<'a> {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    interleaved: bool,
    padding: &'a [usize],
    batch: usize,
    /// Number of new positions at each call.
    calls: &'a [usize],
}

/// An empty cache.
fn empty(shape: [usize; 4], device: &Device) -> KeysValues {
    KeysValues {
        keys: Tensor::zeros(shape, device),
        values: Tensor::zeros(shape, device),
    }
}

type Step =
    fn(Tensor<3>, PackedHeads, &crate::Rotary, &CachedMask, KeysValues) -> (Tensor<3>, KeysValues);

impl Case<'_> {
    /// Results of all calls on the input `x`, and the cache after the last one.
    fn run(&self, x: &Tensor<3>, step: Step) -> Vec<Vec<f32>> {
        let device = Device::default();
        let capacity = self.calls.iter().sum::<usize>() + 2;
        let shape = [self.batch, self.kv_heads, capacity, self.head_dim];
        let mut cache = empty(shape, &device);
        let packed = PackedHeads {
            heads: self.heads,
            kv_heads: self.kv_heads,
        };
        let (mut start, mut found) = (0, Vec::new());
        for &length in self.calls {
            let rotary = rotary_from(start, length, self.head_dim, self.interleaved, &device);
            let mask = CachedMask::new(start, self.padding);
            let part = x.clone().narrow(1, start, length);
            let (mixed, after) = step(part, packed, &rotary, &mask, cache);
            assert_eq!(
                mixed.dims(),
                [self.batch, length, self.heads * self.head_dim]
            );
            found.push(values(mixed));
            cache = after;
            start += length;
        }
        found.extend([cache.keys, cache.values].map(values));
        found
    }

    fn check(&self) {
        let width = (self.heads + 2 * self.kv_heads) * self.head_dim;
        let x = draw([self.batch, self.calls.iter().sum(), width]).inner();
        assert!(plain(x.clone()).is_some(), "the kernel is what is tested");
        let what = format!(
            "{} of {} heads of {}, {} sequences, {:?} positions, padding {:?}",
            self.heads, self.kv_heads, self.head_dim, self.batch, self.calls, self.padding
        );
        let kernel = self.run(&x, cached_attention);
        let composed = self.run(&x, decode::composed);
        for (call, (got, expected)) in kernel.iter().zip(&composed).enumerate() {
            assert_close(&format!("{what}: {call}"), got, expected, 1e-5);
        }
    }
}

#[test]
fn the_kernel_gives_what_operations_give() {
    // Heads with and without groups; widths that fill vector registers and not; prompts, single steps, chunks.
    let paddings: [(usize, &[usize]); 4] = [(1, &[]), (3, &[]), (3, &[0, 2, 3]), (1, &[4])];
    let lengths: [&[usize]; 4] = [&[1; 6], &[5, 1, 1, 1], &[2, 3, 1], &[9]];
    for (heads, kv_heads, head_dim) in [(1, 1, 4), (4, 4, 16), (6, 2, 20), (3, 1, 8)] {
        for (batch, padding) in paddings {
            for calls in lengths {
                let case = Case {
                    heads,
                    kv_heads,
                    head_dim,
                    interleaved: head_dim > 8,
                    padding,
                    batch,
                    calls,
                };
                case.check();
            }
        }
    }
}

/// More positions than in one tile, and more work than one thread takes alone.
#[test]
fn the_kernel_gives_what_operations_give_on_a_long_cache() {
    let paddings: [(usize, &[usize]); 2] = [(1, &[]), (2, &[70, 3])];
    for (batch, padding) in paddings {
        let case = Case {
            heads: 8,
            kv_heads: 4,
            head_dim: 48,
            interleaved: true,
            padding,
            batch,
            calls: &[150, 1, 600, 1, 1],
        };
        case.check();
    }
}

/// A cache without another owner keeps its memory when new positions are written. If another tensor shares the
/// memory, that tensor keeps its numbers.
#[test]
fn a_cache_is_written_in_place() {
    let device = Device::default();
    let places = |cache: &KeysValues| {
        [&cache.keys, &cache.values].map(|x| {
            let x = plain(x.clone()).expect("a tensor of the CPU backend");
            x.storage::<f32>().as_ptr()
        })
    };
    let heads = PackedHeads {
        heads: 4,
        kv_heads: 2,
    };
    let rotary = rotary_from(0, 1, 4, false, &device);
    let step = |cache| {
        let packed = draw([1, 1, 32]).inner();
        cached_attention(packed, heads, &rotary, &CachedMask::new(0, &[]), cache).1
    };
    let cache = empty([1, 2, 5, 4], &device);
    let before = places(&cache);
    let cache = step(cache);
    assert_eq!(places(&cache), before);
    let kept = cache.keys.clone();
    let numbers = values(kept.clone());
    step(cache);
    assert_eq!(values(kept), numbers);
}

/// On an autodiff device Burn's operations run instead of the kernel, and give a gradient.
#[test]
fn a_graph_goes_through_the_cache() {
    let device = super::device();
    let x = super::normal([1, 3, 16]);
    let heads = PackedHeads {
        heads: 2,
        kv_heads: 1,
    };
    let rotary = rotary_from(0, 3, 4, true, &device);
    let cache = empty([1, 1, 3, 4], &device);
    let mask = CachedMask::new(0, &[]);
    let (mixed, _) = cached_attention(x.clone(), heads, &rotary, &mask, cache);
    let gradients = mixed.square().sum().backward();
    let gradient = values(x.grad(&gradients).expect("a gradient"));
    assert!(gradient.iter().any(|x| *x != 0.0));
}

#[test]
#[should_panic(expected = "2 positions behind 4 in a cache of 5")]
fn a_full_cache_says_so() {
    let device = Device::default();
    let heads = PackedHeads {
        heads: 1,
        kv_heads: 1,
    };
    let rotary = rotary_from(4, 2, 4, true, &device);
    let cache = empty([1, 1, 5, 4], &device);
    let packed = draw([1, 2, 12]).inner();
    cached_attention(packed, heads, &rotary, &CachedMask::new(4, &[]), cache);
}
