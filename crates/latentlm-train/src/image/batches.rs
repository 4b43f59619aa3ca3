//! Batches of pictures as tensors, decoded ahead by a thread of their own.

use std::sync::mpsc::{Receiver, sync_channel};

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm_data::{BatchOrder, DataError, ImageDataset};

use super::recipe::DataConfig;
use crate::recipe::StageConfig;

/// Batches decoded ahead of their use.
const AHEAD: usize = 2;

/// A batch on the host.
pub struct HostBatch {
    /// `[B, C, H, W]`, in `[-1, 1]`.
    pub pixels: Vec<f32>,
    /// Number of pictures.
    pub count: usize,
    shape: [usize; 3],
}

impl HostBatch {
    /// Decodes pictures; those at true positions of `flips` are mirrored.
    ///
    /// # Errors
    /// If a picture can't be decoded.
    pub fn read(
        dataset: &ImageDataset,
        indices: &[usize],
        flips: &[bool],
    ) -> Result<Self, DataError> {
        let spec = dataset.spec();
        let mut pixels = Vec::with_capacity(indices.len() * spec.bytes());
        for (i, &index) in indices.iter().enumerate() {
            let sample = dataset.get(index)?;
            let flip = flips.get(i).copied().unwrap_or(false);
            for row in sample.pixels.chunks_exact(spec.width) {
                let value = |byte: &u8| f32::from(*byte) / 127.5 - 1.0;
                match flip {
                    true => pixels.extend(row.iter().rev().map(value)),
                    false => pixels.extend(row.iter().map(value)),
                }
            }
        }
        Ok(Self {
            pixels,
            count: indices.len(),
            shape: [spec.channels, spec.height, spec.width],
        })
    }

    /// The batch on a device, `[B, C, H, W]`.
    pub fn tensor(self, device: &Device) -> Tensor<4> {
        let [channels, height, width] = self.shape;
        let shape = [self.count, channels, height, width];
        Tensor::from_data(TensorData::new(self.pixels, shape), device)
    }
}

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

    /// The next batch; `None` after the last.
    pub fn next(&mut self) -> Option<Result<HostBatch, DataError>> {
        self.receiver.recv().ok()
    }
}
