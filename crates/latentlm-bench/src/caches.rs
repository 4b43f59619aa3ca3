//! Caches without a workload's numbers.

use std::hint::black_box;

use latentlm_kernels::{at_once, cut};

/// Least bytes that are walked: four times the caches of a small machine.
const LEAST_BYTES: usize = 1 << 27;

/// The caches of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caches {
    /// Bytes of the largest; 0 if that is not known.
    pub bytes: usize,
    /// Number of cores, each of which has smaller ones of its own.
    pub cores: usize,
}

/// Memory that is walked to empty a processor's caches.
#[derive(Debug)]
pub struct CacheFlush {
    numbers: Vec<u64>,
    cores: usize,
}

impl CacheFlush {
    /// Takes twice the memory of the caches.
    pub fn new(caches: Caches) -> Self {
        let bytes = LEAST_BYTES.max(caches.bytes.saturating_mul(2));
        Self {
            numbers: vec![0; bytes / size_of::<u64>()],
            cores: caches.cores.max(1),
        }
    }

    /// Reads and writes all of the memory, on as many threads as there are cores.
    pub fn run(&mut self) {
        let parts = cut(self.numbers.len(), self.cores);
        // The last part is the longest.
        let length = parts.last().map_or(1, |range| range.len().max(1));
        let parts: Vec<&mut [u64]> = self.numbers.chunks_mut(length).collect();
        at_once(parts, |part| {
            for number in part {
                *number = number.wrapping_add(1);
            }
        });
        black_box(&self.numbers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_written() {
        for cores in [1, 2, 3, 9] {
            let numbers = vec![1; 7];
            let mut flush = CacheFlush { numbers, cores };
            flush.run();
            assert_eq!(flush.numbers, [2; 7], "{cores} cores");
        }
    }

    #[test]
    fn the_memory_is_larger_than_the_caches() {
        for (bytes, expected) in [(0, LEAST_BYTES), (1 << 27, 1 << 28)] {
            let flush = CacheFlush::new(Caches { bytes, cores: 2 });
            assert_eq!(8 * flush.numbers.len(), expected);
        }
    }
}
