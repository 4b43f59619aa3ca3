//! Pieces of recordings, which the codec is trained on.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm::core::LatentCodecConfig;
use latentlm_data::speech::SpeechDataset;
use latentlm_data::{BatchOrder, DataError};
use latentlm_pipelines::{SpeechData, SpeechRecipe};

use crate::error::{Result, TrainError};

/// Samples that are decoded once and kept in memory; at 16 kHz an hour takes 230 MB. The recordings of
/// larger corpora are decoded as they are needed.
const IN_MEMORY_SAMPLES: usize = 4 * 3600 * 16_000;

/// A piece is at least this many times as long as the silence between two of its recordings.
const LONGEST_PAUSE: usize = 4;

/// After so many recordings in a row that can't be decoded, the files are probably gone altogether.
const TRIES: usize = 64;

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
        Self::within(data, recipe, IN_MEMORY_SAMPLES)
    }

    /// As [`new`](Self::new). A corpus of more than `most` samples is not kept in memory.
    fn within(data: &mut SpeechData, recipe: &SpeechRecipe, most: usize) -> Result<Self> {
        let recordings = data.train.clone();
        let (mut decoded, mut total) = (Vec::new(), 0);
        // Headers tell of a large corpus before hours of it are decoded for nothing. They may say too little.
        let rate_hz = f64::from(recordings.spec().sample_rate_hz);
        let mut is_large = recordings.seconds() * rate_hz > most as f64;
        for index in 0..recordings.len() {
            if is_large {
                break;
            }
            match recordings.get(index) {
                Ok(utterance) => {
                    total += utterance.samples.len();
                    decoded.push(utterance.samples);
                }
                Err(error) => data.skip(index, &error),
            }
            is_large = total > most;
        }
        let mut count = decoded.len();
        if is_large {
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
    ///
    /// # Errors
    /// If none of many recordings can be decoded.
    pub fn batch(&mut self, round: u64, device: &Device) -> Result<Tensor<3>, DataError> {
        let mut random = RandomStream::for_step(self.seed, "pieces", round);
        let picked = self.order.batch(round);
        let mut values = Vec::with_capacity(picked.len() * self.samples);
        for first in &picked {
            let end = values.len() + self.samples;
            let mut index = *first;
            while values.len() < end {
                let clip = self.clip_or_draw(index, &mut random)?;
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
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// A recording, or another in the place of one that is broken, chosen by `random` alone.
    fn clip_or_draw(
        &self,
        index: usize,
        random: &mut RandomStream,
    ) -> Result<Cow<'_, [f32]>, DataError> {
        if let Some(clip) = self.decoded.get(index) {
            return Ok(clip.into());
        }
        let mut clip = self.recordings.get(index);
        for _ in 0..TRIES {
            if clip.is_ok() {
                break;
            }
            clip = self.recordings.get(random.below(self.count));
        }
        Ok(clip?.samples.into())
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use latentlm_data::speech::write_wav;
    use latentlm_pipelines::{Recipe, host_values};

    /// Training recordings of a corpus.
    const COUNT: usize = 12;
    /// Samples of each.
    const LENGTH: usize = 8000;

    fn file(folder: &Path, index: usize) -> PathBuf {
        folder.join(format!("{index}.wav"))
    }

    /// A corpus of tones, and a recipe that takes a piece of each.
    fn corpus(folder: &Path) -> (SpeechRecipe, SpeechData) {
        let tone = (0..LENGTH).map(|i| 0.2 * (i as f32 * 0.1).sin());
        let tone: Vec<f32> = tone.collect();
        let mut lines = String::new();
        for index in 0..=COUNT {
            write_wav(&file(folder, index), &tone, 16_000).unwrap();
            let split = if index < COUNT { "train" } else { "test" };
            lines += &format!(
                "{{\"audio\": \"{index}.wav\", \"text\": \"word\", \"split\": \"{split}\"}}\n"
            );
        }
        std::fs::write(folder.join("metadata.jsonl"), lines).unwrap();
        let overrides = [
            format!("data.path={}", folder.display()),
            "data.composed=0".into(),
            "data.trim_silence=false".into(),
            "data.codec_seconds=0.2".into(),
            format!("codec_train.batch_size={COUNT}"),
        ];
        let recipe = SpeechRecipe::resolve(None, &overrides).unwrap();
        let data = SpeechData::open(&recipe).unwrap();
        (recipe, data)
    }

    /// A broken recording is listed when it is decoded.
    #[test]
    fn a_large_corpus_is_not_decoded_beforehand() {
        let dir = tempfile::tempdir().unwrap();
        let (recipe, mut data) = corpus(dir.path());
        std::fs::write(file(dir.path(), 3), "gone").unwrap();
        let within = |data: &mut SpeechData, most| {
            let pieces = Pieces::within(data, &recipe, most).unwrap();
            let listed = data.skipped.clone().into_vec().len();
            (pieces.count, pieces.decoded.len(), listed)
        };
        assert_eq!(within(&mut data, COUNT * LENGTH - 1), (COUNT, 0, 0));
        let all = (COUNT - 1, COUNT - 1, 1);
        assert_eq!(within(&mut data, COUNT * LENGTH), all);
    }

    /// Recordings that are decoded as they are needed, of which some break after the corpus was opened.
    #[test]
    fn another_recording_stands_in_for_a_broken_one() {
        let dir = tempfile::tempdir().unwrap();
        let (recipe, mut data) = corpus(dir.path());
        let file = |index: usize| file(dir.path(), index);
        let mut pieces = Pieces::within(&mut data, &recipe, 0).unwrap();
        let mut read = || {
            let batch = pieces.batch(0, &Device::default());
            batch.map(host_values)
        };
        let is_silent = |values: &[f32]| {
            let mut rows = values.chunks(values.len() / COUNT);
            rows.any(|row| row.iter().all(|value| *value == 0.0))
        };
        let whole = read().unwrap();
        assert!(!is_silent(&whole));
        for index in 0..4 {
            std::fs::write(file(index), "gone").unwrap();
        }
        let others = read().unwrap();
        assert!(!is_silent(&others), "silence is no recording");
        assert_ne!(others, whole);
        assert_eq!(others, read().unwrap());
        for index in 4..COUNT {
            std::fs::write(file(index), "gone").unwrap();
        }
        let error = read().unwrap_err().to_string();
        assert!(error.contains(".wav"), "{error}");
    }
}
