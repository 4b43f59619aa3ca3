//! The source of random numbers: seeded streams on the host.
//!
//! Noise is drawn here and copied to the device, instead of being drawn by the device's own generator.
//! That costs little, because latents are small, and has three advantages. The same seed gives the same
//! noise on all backends. A resumed run needs no saved generator, because a stream follows from
//! `(seed, purpose, step)`. And threads do not disturb each other's draws.

use burn::tensor::{Device, Int, Shape, Tensor, TensorData};
use rand::rngs::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
use rand_distr::StandardNormal;

const ONE_ROW: &str = "streams of several rows draw normal numbers only";

/// A deterministic stream of random numbers.
///
/// Within [`of_rows`](Self::of_rows) it stands for several streams, one for each row.
#[derive(Debug)]
pub struct RandomStream(Vec<ChaCha8Rng>);

impl RandomStream {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(vec![ChaCha8Rng::seed_from_u64(seed)])
    }

    /// The stream for a purpose at a step of a run. Equal arguments give equal numbers.
    pub fn for_step(seed: u64, purpose: &str, step: u64) -> Self {
        let mut hash = splitmix(seed ^ 0x6c61_7465_6e74_6c6d);
        for byte in purpose.bytes() {
            hash = splitmix(hash ^ u64::from(byte));
        }
        Self::new(splitmix(hash ^ step))
    }

    /// Calls `draw` with a stream that draws each row of a batch from a stream of its own: row `i` of a
    /// tensor of [`normal`](Self::normal) numbers is what the `i`-th of `streams` alone would give. So the
    /// noise of a row does not depend on the other rows. Only normal numbers can be drawn this way.
    ///
    /// # Panics
    /// If there are no streams, or if one of them stands for several itself.
    pub fn of_rows<T>(mut streams: Vec<&mut Self>, draw: impl FnOnce(&mut Self) -> T) -> T {
        assert!(!streams.is_empty(), "no stream to draw from");
        let mut generators = Vec::with_capacity(streams.len());
        for stream in &mut streams {
            assert_eq!(stream.0.len(), 1, "{ONE_ROW}");
            generators.append(&mut stream.0);
        }
        let mut rows = Self(generators);
        let drawn = draw(&mut rows);
        for (stream, row) in streams.into_iter().zip(rows.0) {
            stream.0 = vec![row];
        }
        drawn
    }

    /// Standard normal numbers.
    ///
    /// # Panics
    /// If the stream stands for several rows and `shape` does not start with their number.
    pub fn normal<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Tensor<D> {
        let (count, rows) = (shape.iter().product::<usize>(), self.0.len());
        assert!(
            rows == 1 || shape[0] == rows,
            "noise of shape {shape:?} for {rows} rows with a stream each"
        );
        let mut values: Vec<f32> = Vec::with_capacity(count);
        for generator in &mut self.0 {
            values.extend((0..count / rows).map(|_| -> f32 { generator.sample(StandardNormal) }));
        }
        Tensor::from_data(TensorData::new(values, Shape::from(shape)), device)
    }

    /// Integers, uniformly distributed in `0..bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn integers(&mut self, count: usize, bound: usize, device: &Device) -> Tensor<1, Int> {
        let values: Vec<i64> = (0..count)
            .map(|_| self.generator().random_range(0..bound as i64))
            .collect();
        Tensor::from_data(TensorData::new(values, [count]), device)
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.generator().random::<f64>() < p
    }

    /// A number, uniformly distributed in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        self.generator().random()
    }

    /// An integer, uniformly distributed in `0..bound`.
    ///
    /// # Panics
    /// If `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.generator().random_range(0..bound)
    }

    /// A seed for another generator.
    pub fn seed(&mut self) -> u64 {
        self.generator().random()
    }

    /// The only generator.
    fn generator(&mut self) -> &mut ChaCha8Rng {
        assert_eq!(self.0.len(), 1, "{ONE_ROW}");
        &mut self.0[0]
    }
}

/// One round of SplitMix64, in which each bit of the input changes about half of the bits of the result.
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

    /// Rows get what their streams give alone, whatever was drawn before, and streams go on from there.
    #[test]
    fn rows_draw_from_their_own_streams() {
        let device = Device::default();
        let streams = || [3, 1, 2].map(RandomStream::new);
        let values = |x: Tensor<2>| -> Vec<f32> { x.into_data().try_to_vec().unwrap() };
        let (mut together, mut alone) = (streams(), streams());
        together[1].uniform();
        alone[1].uniform();
        let drawn = RandomStream::of_rows(together.iter_mut().collect(), |random| {
            [4, 1].map(|width| values(random.normal([3, width], &device)))
        });
        for (row, stream) in alone.iter_mut().enumerate() {
            for (drawn, width) in drawn.iter().zip([4, 1]) {
                let expected = values(stream.normal([1, width], &device));
                assert_eq!(drawn[row * width..][..width], expected);
            }
            assert_eq!(together[row].seed(), stream.seed());
        }
    }

    #[test]
    #[should_panic(expected = "[2, 4] for 3 rows")]
    fn noise_for_other_rows_is_refused() {
        let mut streams = [3, 1, 2].map(RandomStream::new);
        RandomStream::of_rows(streams.iter_mut().collect(), |random| {
            let _ = random.normal([2, 4], &Device::default());
        });
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
