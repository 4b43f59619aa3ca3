//! Batches of pictures, decoded ahead by a thread of their own.

use latentlm::RandomStream;
use latentlm_data::{BatchOrder, ImageDataset};
use latentlm_pipelines::{HostBatch, ImageRecipe};

use crate::ahead::{Ahead, rounds};

/// The training batches of the codec's stage of a recipe, from the step `first` on.
pub fn batches(dataset: ImageDataset, recipe: &ImageRecipe, first: u64) -> Ahead<HostBatch> {
    let (seed, flip) = (recipe.seed, recipe.data.horizontal_flip);
    let stage = &recipe.codec_train;
    let mut order = BatchOrder::new(dataset.len(), stage.batch_size, seed);
    Ahead::start(rounds(stage, first), move |round| {
        let indices = order.batch(round);
        let mut random = RandomStream::for_step(seed, "flip", round);
        let flips: Vec<bool> = indices.iter().map(|_| flip && random.chance(0.5)).collect();
        let mut random = RandomStream::for_step(seed, "stand-in", round);
        HostBatch::read_or_draw(&dataset, &indices, &flips, &mut random)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_data::{ImageSpec, Split};
    use latentlm_pipelines::Recipe;

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
        let pixels = |seed: u64, first: u64| {
            let recipe = ImageRecipe {
                seed,
                ..recipe.clone()
            };
            let batches = batches(dataset.clone(), &recipe, first);
            let batches = batches.receiver.iter();
            batches
                .map(|batch| batch.unwrap().pixels)
                .collect::<Vec<Vec<f32>>>()
        };
        let all = pixels(1, 0);
        assert_eq!(all.len(), 12);
        assert_eq!(pixels(1, 0), all);
        assert_eq!(pixels(1, 5), all[5..]);
        assert_ne!(pixels(2, 0), all);
        let broken = |value: &f32| (((value + 1.0) * 127.5 / 6.0).round() as u8).is_multiple_of(3);
        assert!(
            !all.iter().flatten().any(broken),
            "no broken picture is seen"
        );
        assert!(!dataset.left_out().is_empty());
    }
}
