//! Batches of pictures as tensors, decoded ahead by a thread of their own.

use std::sync::mpsc::{Receiver, sync_channel};

use latentlm::RandomStream;
use latentlm_data::{BatchOrder, DataError, ImageDataset};
use latentlm_pipelines::{DataConfig, HostBatch, StageConfig};

/// Batches decoded ahead of their use.
const AHEAD: usize = 2;

/// The training batches of a stage, from a step on.
pub struct Batches {
    receiver: Receiver<Result<HostBatch, DataError>>,
}

impl Batches {
    /// Starts the thread. It ends with the last batch, or when this is dropped.
    pub fn start(
        dataset: ImageDataset,
        data: &DataConfig,
        stage: &StageConfig,
        seed: u64,
        first: u64,
    ) -> Self {
        let (sender, receiver) = sync_channel(AHEAD);
        let mut order = BatchOrder::new(dataset.len(), stage.batch_size, seed);
        let accumulation = stage.grad_accumulation as u64;
        let rounds = first * accumulation..stage.steps * accumulation;
        let flip = data.horizontal_flip;
        std::thread::spawn(move || {
            for round in rounds {
                let indices = order.batch(round);
                let mut random = RandomStream::for_step(seed, "flip", round);
                let flips: Vec<bool> = indices.iter().map(|_| flip && random.chance(0.5)).collect();
                let batch = HostBatch::read(&dataset, &indices, &flips);
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        Self { receiver }
    }
}

impl Iterator for Batches {
    type Item = Result<HostBatch, DataError>;

    /// The next batch; `None` after the last.
    fn next(&mut self) -> Option<Self::Item> {
        self.receiver.recv().ok()
    }
}
