//! The one source of randomness: a seeded stream, drawn on the host.
//!
//! Noise is made here and handed to the device, not drawn by the device's own generator. The cost
//! is small (latents are small), and it buys three things: the same seed gives the same noise on
//! every backend, streams can be re-derived from `(seed, purpose, step)` so that a resume needs no
//! saved generator state, and two threads never disturb each other's draws.

use burn::tensor::{Device, Int, Shape, Tensor, TensorData};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

/// A deterministic stream of random numbers.
#[derive(Debug)]
pub struct RandomStream(ChaCha8Rng);

impl RandomStream {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// The stream of one step of one purpose in a run: equal arguments, equal numbers.
    pub fn for_step(seed: u64, purpose: &str, step: u64) -> Self {
        let mut hash = splitmix(seed ^ 0x6c61_7465_6e74_6c6d);
        for byte in purpose.bytes() {
            hash = splitmix(hash ^ u64::from(byte));
        }
        Self::new(splitmix(hash ^ step))
    }

    /// Standard normal numbers.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Tensor<D> {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.0.sample(StandardNormal)).collect();
        Tensor::from_data(TensorData::new(values, Shape::from(shape)), device)
    }

    /// Integers, uniform in `0..bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn integers(&mut self, count: usize, bound: usize, device: &Device) -> Tensor<1, Int> {
        let values: Vec<i64> = (0..count)
            .map(|_| self.0.random_range(0..bound as i64))
            .collect();
        Tensor::from_data(TensorData::new(values, [count]), device)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.0.random::<f64>() < p
    }

    /// A number, uniform in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// An integer, uniform in `0..bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    /// A seed for another generator.
    pub fn seed(&mut self) -> u64 {
        self.0.random()
    }
}

/// One round of SplitMix64: spreads every input bit over the whole word.
fn splitmix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_repeat_and_differ() {
        let draw = |seed, purpose, step| RandomStream::for_step(seed, purpose, step).seed();
        assert_eq!(draw(1, "lm", 7), draw(1, "lm", 7));
        for other in [draw(2, "lm", 7), draw(1, "codec", 7), draw(1, "lm", 8)] {
            assert_ne!(draw(1, "lm", 7), other);
        }
    }

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let x = RandomStream::new(3).normal([100_000], &Device::default());
        let (variance, mean) = x.var_mean(0);
        assert!(mean.into_scalar::<f32>().abs() < 0.01);
        assert!((variance.into_scalar::<f32>() - 1.0).abs() < 0.02);
    }

    #[test]
    fn uniform_numbers_fill_the_interval() {
        let mut random = RandomStream::new(4);
        let numbers: Vec<f64> = (0..10_000).map(|_| random.uniform()).collect();
        let mean = numbers.iter().sum::<f64>() / 10_000.0;
        assert!(numbers.iter().all(|x| (0.0..1.0).contains(x)));
        // The mean's deviation is 1 / sqrt(12 * 10,000) = 0.003.
        assert!((mean - 0.5).abs() < 0.015, "{mean}");
    }

    #[test]
    fn integers_cover_the_range() {
        let x = RandomStream::new(3).integers(10_000, 10, &Device::default());
        let mut seen = [0usize; 10];
        for v in x.into_data().convert::<i64>().as_slice::<i64>().unwrap() {
            seen[*v as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1200).contains(&n)), "{seen:?}");
    }
}
