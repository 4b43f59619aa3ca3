//! Order of training samples: batches and packs as a function of seed and step.

use rand::SeedableRng;
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;

/// Shuffled batches, epoch after epoch. A batch is a function of seed and step alone, so a run resumed
/// at step `n` sees the same batches as an uninterrupted one.
#[derive(Debug, Clone)]
pub struct BatchOrder {
    samples: usize,
    batch_size: usize,
    seed: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl BatchOrder {
    /// Batches of `batch_size` out of `samples` samples. The last, incomplete batch of an epoch is
    /// dropped; a dataset smaller than a batch is one batch.
    ///
    /// # Panics
    /// If `samples` or `batch_size` is 0.
    pub fn new(samples: usize, batch_size: usize, seed: u64) -> Self {
        assert!(samples > 0 && batch_size > 0, "batches need samples");
        Self {
            samples,
            batch_size: batch_size.min(samples),
            seed,
            epoch: None,
        }
    }

    /// Number of batches per epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        (self.samples / self.batch_size) as u64
    }

    /// Indices of the samples of a step's batch.
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
        shuffle(&mut order, self.seed, epoch);
        order
    }
}

fn shuffle(order: &mut [usize], seed: u64, epoch: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    order.shuffle(&mut rng);
}

/// Packs samples of different lengths into sequences of a bounded number of positions, without padding.
/// The model's attention mask keeps the documents of a pack apart. A function of seed and step alone,
/// like [`BatchOrder`].
#[derive(Debug, Clone)]
pub struct PackOrder {
    lengths: Vec<usize>,
    capacity: usize,
    seed: u64,
    /// Indices of the samples, shortest first.
    by_length: Vec<usize>,
    /// First step at which all samples are packed.
    curriculum_steps: u64,
    /// The epoch of the last requested step.
    epoch: Option<Epoch>,
}

/// Fraction of the samples, the shortest ones, with which a curriculum begins.
const FIRST_SHARE: f64 = 0.1;

#[derive(Debug, Clone)]
struct Epoch {
    number: u64,
    first_step: u64,
    packs: Vec<Vec<usize>>,
}

impl PackOrder {
    /// Packs of at most `capacity` positions. `lengths` are the positions of each sample. A sample longer
    /// than `capacity` is a pack of its own.
    ///
    /// # Panics
    /// If there are no samples or the capacity is 0.
    pub fn new(lengths: Vec<usize>, capacity: usize, seed: u64) -> Self {
        assert!(!lengths.is_empty() && capacity > 0, "packs need samples");
        let mut by_length: Vec<usize> = (0..lengths.len()).collect();
        by_length.sort_by_key(|&sample| lengths[sample]);
        Self {
            lengths,
            capacity,
            seed,
            by_length,
            curriculum_steps: 0,
            epoch: None,
        }
    }

    /// Curriculum by length: the epoch that begins at step 0 holds the shortest tenth of the samples.
    /// The fraction grows with the square of the step, up to all samples at step `steps`. So the model
    /// learns short samples well before longer ones made of the same parts.
    pub fn short_first(mut self, steps: u64) -> Self {
        self.curriculum_steps = steps;
        self.epoch = None;
        self
    }

    /// Number of samples, the shortest ones, in an epoch that begins at `step`.
    fn admitted(&self, step: u64) -> usize {
        let samples = self.lengths.len();
        if step >= self.curriculum_steps {
            return samples;
        }
        let passed = step as f64 / self.curriculum_steps as f64;
        let share = FIRST_SHARE + (1.0 - FIRST_SHARE) * passed * passed;
        ((share * samples as f64).ceil() as usize).min(samples)
    }

    /// Indices of the samples of a step's pack.
    pub fn pack(&mut self, step: u64) -> Vec<usize> {
        // Epochs have different numbers of packs: the first step of one is known only after packing all
        // epochs before it.
        let mut epoch = match self.epoch.take() {
            Some(epoch) if epoch.first_step <= step => epoch,
            _ => self.pack_epoch(0, 0),
        };
        while step - epoch.first_step >= epoch.packs.len() as u64 {
            let next = epoch.first_step + epoch.packs.len() as u64;
            epoch = self.pack_epoch(epoch.number + 1, next);
        }
        let pack = epoch.packs[(step - epoch.first_step) as usize].clone();
        self.epoch = Some(epoch);
        pack
    }

    /// Packs the samples of one epoch, in shuffled order.
    fn pack_epoch(&self, number: u64, first_step: u64) -> Epoch {
        let mut order = self.by_length[..self.admitted(first_step)].to_vec();
        order.sort_unstable();
        shuffle(&mut order, self.seed, number);
        let mut packs: Vec<Vec<usize>> = Vec::new();
        let mut free = 0;
        for sample in order {
            let length = self.lengths[sample];
            match packs.last_mut() {
                Some(pack) if length <= free => pack.push(sample),
                _ => {
                    packs.push(vec![sample]);
                    free = self.capacity;
                }
            }
            free = free.saturating_sub(length);
        }
        Epoch {
            number,
            first_step,
            packs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every sample once per epoch, no pack too long, and the same packs after a resume.
    #[test]
    fn packs_hold_every_sample_once_an_epoch() {
        let lengths: Vec<usize> = (0..50).map(|i| 3 + i * 7 % 11).chain([40]).collect();
        let mut order = PackOrder::new(lengths.clone(), 30, 1);
        let (mut seen, mut step) = (Vec::<usize>::new(), 0);
        let mut packs = Vec::new();
        while seen.len() < 2 * lengths.len() {
            let pack = order.pack(step);
            let length: usize = pack.iter().map(|&i| lengths[i]).sum();
            assert!(length <= 30 || pack == [50], "{pack:?}");
            seen.extend(&pack);
            packs.push(pack);
            step += 1;
        }
        for epoch in seen.chunks(51) {
            let mut epoch = epoch.to_vec();
            epoch.sort_unstable();
            assert_eq!(epoch, (0..51).collect::<Vec<_>>());
        }
        let middle = packs.len() as u64 / 2 + 3;
        let mut resumed = PackOrder::new(lengths, 30, 1);
        assert_eq!(resumed.pack(middle), packs[middle as usize]);
        assert_eq!(resumed.pack(0), packs[0]);
    }

    /// Only the shortest samples at first, all in the end, longer ones later; the same after a resume.
    #[test]
    fn a_curriculum_begins_with_the_shortest() {
        let lengths: Vec<usize> = (0..100).map(|i| 1 + i * 37 % 100).collect();
        let begin = || PackOrder::new(lengths.clone(), 200, 3).short_first(60);
        let mut order = begin();
        let longest = |pack: &[usize]| pack.iter().map(|&i| lengths[i]).max().unwrap();
        let packs: Vec<Vec<usize>> = (0..200).map(|step| order.pack(step)).collect();
        assert_eq!(longest(&packs[0]), 10);
        for (step, pack) in packs.iter().take(60).enumerate() {
            let share = FIRST_SHARE + (1.0 - FIRST_SHARE) * (step as f64 / 60.0).powi(2);
            assert!(longest(pack) <= (share * 100.0).ceil() as usize, "{step}");
        }
        let mut last: Vec<usize> = packs[120..].concat();
        last.sort_unstable();
        last.dedup();
        assert_eq!(last.len(), 100);
        assert_eq!(begin().pack(47), packs[47]);
        let plain = PackOrder::new(lengths.clone(), 200, 3);
        assert_eq!(plain.clone().short_first(0).pack(5), plain.clone().pack(5));
    }

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
