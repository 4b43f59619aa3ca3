//! Pieces of recordings, which the codec is trained on.

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm_data::BatchOrder;
use latentlm_data::speech::SpeechDataset;
use latentlm_pipelines::SpeechData;

use crate::error::TrainError;

/// Recordings in memory: at 16 kHz an hour takes 230 MB. Larger corpora are decoded as they are
/// needed.
const IN_MEMORY_SAMPLES: usize = 4 * 3600 * 16_000;

/// Of a piece: what part silence between two recordings takes at most, one in so many.
const LONGEST_PAUSE: usize = 4;

/// Pieces of recordings for the codec, cut anew for every step, as a function of seed and step.
pub struct Pieces {
    clips: Clips,
    order: BatchOrder,
    samples: usize,
    seed: u64,
}

enum Clips {
    Decoded(Vec<Vec<f32>>),
    Files(SpeechDataset),
}

impl Pieces {
    /// Pieces of `samples` samples. Recordings that can't be decoded are left out and listed.
    pub fn new(
        data: &mut SpeechData,
        batch_size: usize,
        samples: usize,
        seed: u64,
    ) -> Result<Self, TrainError> {
        let (mut decoded, mut total) = (Vec::new(), 0);
        for index in 0..data.train.len() {
            match data.train.get(index) {
                Ok(utterance) => {
                    total += utterance.samples.len();
                    decoded.push(utterance.samples);
                }
                Err(error) => data.skip(index, &error),
            }
            if total > IN_MEMORY_SAMPLES {
                break;
            }
        }
        let clips = match total > IN_MEMORY_SAMPLES {
            true => Clips::Files(data.train.clone()),
            false => Clips::Decoded(decoded),
        };
        let count = match &clips {
            Clips::Files(dataset) => dataset.len(),
            Clips::Decoded(clips) => clips.len(),
        };
        if count == 0 {
            return Err(TrainError::config(
                "no recording of the training split can be decoded",
            ));
        }
        Ok(Self {
            clips,
            order: BatchOrder::new(count, batch_size.min(count), seed),
            samples,
            seed,
        })
    }

    /// The pieces of a round, `[B, 1, samples]`. Each begins anywhere in its recording; short ones
    /// are followed by silence, which a codec has to learn like any sound, and by others.
    pub fn batch(&mut self, round: u64, device: &Device) -> Tensor<3> {
        let mut random = RandomStream::for_step(self.seed, "pieces", round);
        let picked = self.order.batch(round);
        let mut values = Vec::with_capacity(picked.len() * self.samples);
        for first in &picked {
            let end = values.len() + self.samples;
            let mut index = *first;
            while values.len() < end {
                let clip = self.clip(index);
                let start = match clip.len().checked_sub(self.samples) {
                    Some(spare) => random.below(spare + 1),
                    None => 0,
                };
                let count = (clip.len() - start).min(end - values.len());
                values.extend_from_slice(&clip[start..start + count]);
                let pause = random.below(self.samples / LONGEST_PAUSE + 1);
                values.resize((values.len() + pause).min(end), 0.0);
                index = random.below(self.count());
            }
        }
        let shape = [picked.len(), 1, self.samples];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn count(&self) -> usize {
        match &self.clips {
            Clips::Decoded(clips) => clips.len(),
            Clips::Files(dataset) => dataset.len(),
        }
    }

    /// A recording; silence in the place of one that is broken.
    fn clip(&self, index: usize) -> std::borrow::Cow<'_, [f32]> {
        match &self.clips {
            Clips::Decoded(clips) => clips[index].as_slice().into(),
            Clips::Files(dataset) => match dataset.get(index) {
                Ok(utterance) => utterance.samples.into(),
                Err(_) => vec![0.0; self.samples].into(),
            },
        }
    }
}
