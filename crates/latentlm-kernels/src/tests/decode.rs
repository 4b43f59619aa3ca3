//! Attention over a cache: the kernel against Burn's operations, step by step.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rayon::ThreadPoolBuilder;

use super::attention::rotary_from;
use super::{assert_close, draw, values};
use crate::cache::{CacheNumbers, KeysValues};
use crate::cpu::plain;
use crate::decode::{self, CachedMask, cached_attention};
use crate::types::PackedHeads;

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

/// An empty cache of float32.
fn empty(shape: [usize; 4], device: &Device) -> KeysValues {
    KeysValues::zeros(CacheNumbers::F32, shape, device)
}

type Step =
    fn(Tensor<3>, PackedHeads, &crate::Rotary, &CachedMask, KeysValues) -> (Tensor<3>, KeysValues);

impl Case<'_> {
    /// Results of all calls on the input `x`, and the cache after the last one.
    fn run(&self, x: &Tensor<3>, step: Step, numbers: CacheNumbers) -> Vec<Vec<f32>> {
        let device = Device::default();
        let capacity = self.calls.iter().sum::<usize>() + 2;
        let shape = [self.batch, self.kv_heads, capacity, self.head_dim];
        let mut cache = KeysValues::zeros(numbers, shape, &device);
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
        found.extend(cache.exact(capacity, DType::F32).map(values));
        found
    }

    /// Queries, keys and values of all calls.
    fn input(&self) -> Tensor<3> {
        let width = (self.heads + 2 * self.kv_heads) * self.head_dim;
        let x = draw([self.batch, self.calls.iter().sum(), width]).inner();
        assert!(plain(x.clone()).is_some(), "the kernel is what is tested");
        x
    }

    fn check(&self) {
        let x = self.input();
        let what = format!(
            "{} of {} heads of {}, {} sequences, {:?} positions, padding {:?}",
            self.heads, self.kv_heads, self.head_dim, self.batch, self.calls, self.padding
        );
        // A number that lies between two of the cache's may be rounded to either: within a step of int8 rows, whose
        // largest numbers are about 4, and of bfloat16 numbers.
        for (numbers, bound) in [
            (CacheNumbers::F32, 1e-5),
            (CacheNumbers::Bf16, 8e-3),
            (CacheNumbers::Int8, 8e-3),
        ] {
            let kernel = self.run(&x, cached_attention, numbers);
            let composed = self.run(&x, decode::composed, numbers);
            for (call, (got, expected)) in kernel.iter().zip(&composed).enumerate() {
                assert_close(
                    &format!("{what}, {numbers:?}: {call}"),
                    got,
                    expected,
                    bound,
                );
            }
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

/// A case with several blocks of cached positions, whose last one is not whole.
const LONG: Case<'_> = Case {
    heads: 6,
    kv_heads: 2,
    head_dim: 24,
    interleaved: false,
    padding: &[0, 600],
    batch: 2,
    calls: &[1100, 1, 2, 1],
};

/// One sequence is padded by more than a block.
#[test]
fn long_caches_are_read_in_blocks() {
    LONG.check();
}

#[test]
fn results_do_not_depend_on_threads() {
    let x = LONG.input();
    for numbers in [CacheNumbers::F32, CacheNumbers::Bf16, CacheNumbers::Int8] {
        let run = |threads| {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.expect("a few threads");
            pool.install(|| LONG.run(&x, cached_attention, numbers))
        };
        let expected = run(1);
        for threads in [2, 5] {
            assert_eq!(run(threads), expected, "{numbers:?}");
        }
    }
}

/// Attention over a smaller cache against that over float32: keys and values are within half a step of what they were,
/// and results are off by as much as follows from that.
///
/// With weights `p`, a result is `o = sum(p v)`. Rounding adds `e` to a value and `d = q . (error of the key) / sqrt(E)`
/// to a score. The weight becomes `p exp(d) / sum(p exp(d))`, about `p (1 + d - sum(p d))`, so that the result changes by
/// `sum(p e) + sum(p (d - sum(p d)) v)`. Let the numbers of `e` have the root mean square `s`. For normally distributed
/// queries `q / sqrt(E)` has a length of about 1, so `d` has `s` too. Both sums have `s sqrt(sum(p^2))`, and `o` has
/// `sqrt(sum(p^2))`. So results are off by `sqrt(2) s` of their size.
#[test]
fn smaller_caches_stay_within_the_bound_of_rounding() {
    let x = LONG.input();
    let exact = LONG.run(&x, cached_attention, CacheNumbers::F32);
    // An error that is uniform within a step has the step / sqrt(12) as its root mean square. A step of int8 is a 127th of
    // a row's largest number, which is 2.2 for 24 numbers. A step of bfloat16 is 2^(e - 7) between 2^e and 2^(e + 1), and
    // 4^e is 0.54 in the mean.
    for (numbers, s) in [(CacheNumbers::Bf16, 0.00166), (CacheNumbers::Int8, 0.0051)] {
        let got = LONG.run(&x, cached_attention, numbers);
        let (calls, rows) = got.split_at(LONG.calls.len());
        for (got, exact) in rows.iter().zip(&exact[LONG.calls.len()..]) {
            let rows = got.chunks(LONG.head_dim).zip(exact.chunks(LONG.head_dim));
            for (got, exact) in rows {
                let most = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                for (got, exact) in got.iter().zip(exact) {
                    // bfloat16 keeps 8 bits: half a step is a 256th of the power of two below a number.
                    let half_step = match numbers {
                        CacheNumbers::Int8 => most / 254.0,
                        _ => exact.abs() / 256.0,
                    };
                    let error = (got - exact).abs();
                    assert!(error <= half_step * 1.01 + 1e-6, "{got} for {exact}");
                }
            }
        }
        // Simulations with other numbers gave 0.93 to 1.04 of the estimate for the 1100 positions, and 0.90 to 1.45 for the
        // few results of the other calls. Scales that are off by a fiftieth gave 5, steps twice as large 1.9, bfloat16
        // numbers that are cut instead of rounded 2.4.
        for ((got, exact), length) in calls.iter().zip(&exact).zip(LONG.calls) {
            let square: f32 = got.iter().zip(exact).map(|(a, b)| (a - b).powi(2)).sum();
            let size: f32 = exact.iter().map(|x| x * x).sum();
            let of_estimate = (square / size / 2.0).sqrt() / s;
            let [least, most] = if *length > 100 {
                [0.8, 1.2]
            } else {
                [0.5, 2.0]
            };
            assert!(
                (least..most).contains(&of_estimate),
                "{numbers:?}, {length} positions: {of_estimate} of the estimate"
            );
        }
    }
}

/// A row that isn't finite shows in the row that is read back, and in no other.
#[test]
fn rubbish_in_a_row_of_int8_shows() {
    for rubbish in [f32::NAN, f32::INFINITY] {
        let row = [1.0, rubbish, -127.0, 0.0];
        let rows = [[2.0, 127.0, -1.0, 0.0], row, [0.0; 4]].concat();
        let device = Device::default();
        let data = TensorData::new(rows.clone(), [1, 1, 3, 4]);
        let x = Tensor::<4>::from_data(data, &device);
        let cache = KeysValues::zeros(CacheNumbers::Int8, [1, 1, 3, 4], &device);
        for got in cache.write(0, [x.clone(), x]).exact(3, DType::F32) {
            let got = values(got);
            assert_eq!(got[..4], rows[..4]);
            assert!(got[4..8].iter().all(|x| x.is_nan()), "{got:?}");
            assert_eq!(got[8..], [0.0; 4]);
        }
    }
}

/// A cache without another owner keeps its memory when new positions are written. If another tensor shares the
/// memory, that tensor keeps its numbers.
#[test]
fn a_cache_is_written_in_place() {
    let device = Device::default();
    let float = |cache: &KeysValues| match cache {
        KeysValues::Float(both) => both.clone(),
        KeysValues::Int8 { .. } => panic!("a cache of float32"),
    };
    let places = |cache: &KeysValues| {
        float(cache).map(|x| {
            let x = plain(x).expect("a tensor of the CPU backend");
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
    let [kept, _] = float(&cache);
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
