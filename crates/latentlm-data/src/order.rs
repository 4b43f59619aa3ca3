//! Which samples a step sees.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;

/// Epoch after epoch of shuffled batches, as a function of seed and step alone: whoever resumes at
/// step `n` sees the batches that an uninterrupted run sees from there.
#[derive(Debug, Clone)]
pub struct BatchOrder {
    samples: usize,
    batch_size: usize,
    seed: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl BatchOrder {
    /// The order over `samples` samples. The last, incomplete batch of an epoch is left out; a set
    /// smaller than a batch is one batch.
    ///
    /// # Panics
    /// If there are no samples or batches of none.
    pub fn new(samples: usize, batch_size: usize, seed: u64) -> Self {
        assert!(samples > 0 && batch_size > 0, "batches need samples");
        Self {
            samples,
            batch_size: batch_size.min(samples),
            seed,
            epoch: None,
        }
    }

    /// Batches an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        (self.samples / self.batch_size) as u64
    }

    /// The sample numbers of a step's batch.
    pub fn batch(&mut self, step: u64) -> Vec<usize> {
        let epoch = step / self.batches_per_epoch();
        let index = (step % self.batches_per_epoch()) as usize;
        if self.epoch.as_ref().is_none_or(|(known, _)| *known != epoch) {
            self.epoch = Some((epoch, self.permutation(epoch)));
        }
        match &self.epoch {
            Some((_, order)) => {
                order[index * self.batch_size..(index + 1) * self.batch_size].to_vec()
            }
            None => Vec::new(),
        }
    }

    fn permutation(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(epoch);
        order.shuffle(&mut rng);
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_covers_every_sample_once() {
        let mut order = BatchOrder::new(10, 2, 1);
        let mut seen: Vec<usize> = (0..5).flat_map(|step| order.batch(step)).collect();
        seen.sort();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        assert_ne!(order.batch(0), order.batch(5), "epochs differ");
    }

    #[test]
    fn a_resumed_order_continues() {
        let mut whole = BatchOrder::new(10, 3, 1);
        let list: Vec<_> = (0..9).map(|step| whole.batch(step)).collect();
        let mut resumed = BatchOrder::new(10, 3, 1);
        for step in 4..9 {
            assert_eq!(resumed.batch(step), list[step as usize]);
        }
        assert_ne!(BatchOrder::new(10, 3, 2).batch(0), list[0], "seeds differ");
    }

    #[test]
    fn a_small_set_is_one_batch() {
        assert_eq!(BatchOrder::new(3, 8, 1).batch(7).len(), 3);
    }
}
