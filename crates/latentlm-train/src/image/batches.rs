//! Batches of pictures as tensors, decoded ahead by a thread of their own.

use burn::tensor::{Device, Tensor};
use latentlm::RandomStream;
use latentlm_data::{BatchOrder, ImageDataset};
use latentlm_pipelines::{HostBatch, ImageRecipe, Recipe, RunFolder};

use crate::ahead::{Ahead, rounds};
use crate::error::Result;

/// The training batches of a stage, from a step on.
pub struct Batches(Ahead<HostBatch>);

impl Batches {
    /// Starts the thread for the codec's stage of a recipe. It ends with the last batch, or when this is dropped.
    pub fn start(dataset: ImageDataset, recipe: &ImageRecipe, first: u64) -> Self {
        let (seed, flip) = (recipe.seed, recipe.data.horizontal_flip);
        let stage = &recipe.codec_train;
        let mut order = BatchOrder::new(dataset.len(), stage.batch_size, seed);
        Self(Ahead::start(rounds(stage, first), move |round| {
            let indices = order.batch(round);
            let mut random = RandomStream::for_step(seed, "flip", round);
            let flips: Vec<bool> = indices.iter().map(|_| flip && random.chance(0.5)).collect();
            let mut random = RandomStream::for_step(seed, "stand-in", round);
            HostBatch::read_or_draw(&dataset, &indices, &flips, &mut random)
        }))
    }

    /// The next batch, `[B, C, H, W]`.
    ///
    /// # Errors
    /// If a picture can't be decoded, or there are no more batches.
    pub fn next_batch<R: Recipe>(&self, run: &RunFolder<R>, device: &Device) -> Result<Tensor<4>> {
        Ok(self.0.next_batch(run)?.tensor(device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_data::{ImageSpec, Split};

    /// Two trainings meet the same broken pictures and learn from the same others; so does one that
    /// is continued.
    #[test]
    fn stand_ins_depend_on_seed_and_step_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = |i: u8| dir.path().join(format!("{i}.png"));
        for i in 0..40 {
            let picture = image::GrayImage::from_pixel(4, 4, image::Luma([i * 6]));
            picture.save(file(i)).unwrap();
        }
        let spec = ImageSpec {
            channels: 1,
            height: 4,
            width: 4,
        };
        let dataset = ImageDataset::open(dir.path(), spec, Split::Train).unwrap();
        (0..40)
            .step_by(3)
            .for_each(|i| std::fs::write(file(i), b"gone").unwrap());
        let overrides = [
            "codec_train.batch_size=8",
            "codec_train.steps=12",
            "codec_train.warmup_steps=2",
        ];
        let recipe = ImageRecipe::resolve(None, &overrides.map(String::from)).unwrap();
        let batches = |seed: u64, first: u64| {
            let recipe = ImageRecipe {
                seed,
                ..recipe.clone()
            };
            let batches = Batches::start(dataset.clone(), &recipe, first);
            let batches = batches.0.receiver.iter();
            batches
                .map(|batch| batch.unwrap().pixels)
                .collect::<Vec<Vec<f32>>>()
        };
        let all = batches(1, 0);
        assert_eq!(all.len(), 12);
        assert_eq!(batches(1, 0), all);
        assert_eq!(batches(1, 5), all[5..]);
        assert_ne!(batches(2, 0), all);
        let broken = |value: &f32| (((value + 1.0) * 127.5 / 6.0).round() as u8).is_multiple_of(3);
        assert!(
            !all.iter().flatten().any(broken),
            "no broken picture is seen"
        );
        assert!(!dataset.left_out().is_empty());
    }
}
