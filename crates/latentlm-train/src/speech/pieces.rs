//! Pieces of recordings, which the codec is trained on.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm::core::LatentCodecConfig;
use latentlm_data::BatchOrder;
use latentlm_data::speech::SpeechDataset;
use latentlm_pipelines::{SpeechData, SpeechRecipe};

use crate::error::{Result, TrainError};

/// Samples that are decoded once and kept in memory; at 16 kHz an hour takes 230 MB. The recordings of
/// larger corpora are decoded as they are needed.
const IN_MEMORY_SAMPLES: usize = 4 * 3600 * 16_000;

/// A piece is at least this many times as long as the silence between two of its recordings.
const LONGEST_PAUSE: usize = 4;

/// Pieces of recordings for the codec, cut anew for every step, as a function of seed and step.
pub struct Pieces {
    recordings: SpeechDataset,
    /// All recordings that can be decoded; empty for a larger corpus.
    decoded: Vec<Vec<f32>>,
    /// Number of recordings to choose from.
    count: usize,
    order: BatchOrder,
    samples: usize,
    seed: u64,
}

impl Pieces {
    /// Pieces as long as a recipe says. Recordings that can't be decoded are left out and listed.
    ///
    /// # Errors
    /// If no recording can be decoded.
    pub fn new(data: &mut SpeechData, recipe: &SpeechRecipe) -> Result<Self> {
        let recordings = data.train.clone();
        let (mut decoded, mut total) = (Vec::new(), 0);
        for index in 0..recordings.len() {
            match recordings.get(index) {
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
        let mut count = decoded.len();
        if total > IN_MEMORY_SAMPLES {
            (count, decoded) = (recordings.len(), Vec::new());
        }
        if count == 0 {
            let reason = "no recording of the training split can be decoded";
            return Err(TrainError::config(reason));
        }
        Ok(Self {
            recordings,
            decoded,
            count,
            order: BatchOrder::new(count, recipe.codec_train.batch_size.min(count), recipe.seed),
            samples: recipe.codec_frames() * recipe.codec.signal().hop_samples,
            seed: recipe.seed,
        })
    }

    /// The pieces of a round, `[B, 1, samples]`. Each begins anywhere in its recording. A shorter recording is
    /// followed by silence, which a codec has to learn too, and by another recording.
    pub fn batch(&mut self, round: u64, device: &Device) -> Tensor<3> {
        let mut random = RandomStream::for_step(self.seed, "pieces", round);
        let picked = self.order.batch(round);
        let mut values = Vec::with_capacity(picked.len() * self.samples);
        for first in &picked {
            let end = values.len() + self.samples;
            let mut index = *first;
            while values.len() < end {
                let clip = self.clip(index);
                let spare = clip.len().checked_sub(self.samples);
                let start = spare.map_or(0, |spare| random.below(spare + 1));
                let count = (clip.len() - start).min(end - values.len());
                values.extend_from_slice(&clip[start..start + count]);
                let pause = random.below(self.samples / LONGEST_PAUSE + 1);
                values.resize((values.len() + pause).min(end), 0.0);
                index = random.below(self.count);
            }
        }
        let shape = [picked.len(), 1, self.samples];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// A recording; silence if it is broken.
    fn clip(&self, index: usize) -> Cow<'_, [f32]> {
        if let Some(clip) = self.decoded.get(index) {
            return clip.into();
        }
        match self.recordings.get(index) {
            Ok(utterance) => utterance.samples.into(),
            Err(_) => vec![0.0; self.samples].into(),
        }
    }
}
