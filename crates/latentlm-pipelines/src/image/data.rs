//! The pictures that a recipe names, and batches of them.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm_data::Skipped;
use latentlm_data::{DataError, ImageDataset, ImageSample, Split};

use super::recipe::ImageRecipe;
use crate::data::TrainingData;
use crate::error::PipelineError;
use crate::recipe::Recipe;
use crate::run::RunFolder;
use crate::skipped::{self, SkippedList};

/// Training and held-out pictures.
#[derive(Debug)]
pub struct ImageData {
    /// Pictures that are trained on.
    pub train: ImageDataset,
    /// Pictures that are only measured with.
    pub test: ImageDataset,
}

impl ImageData {
    /// Opens the folder that a recipe names.
    ///
    /// # Errors
    /// If there is no dataset, one of another layout, or too much of it is broken.
    pub fn open(recipe: &ImageRecipe) -> Result<Self, PipelineError> {
        let path = Path::new(&recipe.data.path);
        let options = recipe.data.options();
        let [train, test] = ImageDataset::open_both(path, recipe.image_spec(), options)?;
        Ok(Self {
            train: train.filled(path, Split::Train)?,
            test: test.filled(path, Split::Test)?,
        })
    }

    /// Lists what is left out in the run's folder, with what a run that is continued left out before.
    ///
    /// # Errors
    /// If the list can't be read or written.
    pub fn list_left_out<R: Recipe>(
        &self,
        run: &RunFolder<R>,
    ) -> Result<SkippedList, PipelineError> {
        let mut list = SkippedList::default();
        // Both splits have one list.
        for left_out in self.train.left_out() {
            list.add(Skipped {
                path: left_out.path,
                reason: left_out.reason.to_string(),
            });
        }
        list.keep_in(&run.file(skipped::FILE))?;
        Ok(list)
    }
}

impl TrainingData for ImageData {
    fn fingerprint(&self) -> String {
        self.train.fingerprint()
    }

    fn classes(&self) -> &[String] {
        self.train.classes()
    }
}

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
        let samples = indices.iter().map(|&index| dataset.get(index));
        Self::of(dataset, samples, flips)
    }

    /// The same, but others stand in for pictures that can't be decoded. They were whole when the
    /// dataset was opened; which ones stand in depends on `random` alone.
    ///
    /// # Errors
    /// If none of many can be decoded.
    pub fn read_or_draw(
        dataset: &ImageDataset,
        indices: &[usize],
        flips: &[bool],
        random: &mut RandomStream,
    ) -> Result<Self, DataError> {
        let mut draw = |bound: usize| random.below(bound);
        let samples = indices.iter();
        let samples = samples.map(|&index| dataset.get_or_draw(index, &mut draw));
        Self::of(dataset, samples, flips)
    }

    fn of(
        dataset: &ImageDataset,
        samples: impl ExactSizeIterator<Item = Result<ImageSample, DataError>>,
        flips: &[bool],
    ) -> Result<Self, DataError> {
        let spec = dataset.spec();
        let count = samples.len();
        let mut pixels = Vec::with_capacity(count * spec.bytes());
        for (i, sample) in samples.enumerate() {
            let sample = sample?;
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
            count,
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

/// The first pictures of a dataset, `[B, C, H, W]`.
pub fn read_all(
    data: &ImageDataset,
    count: usize,
    device: &Device,
) -> Result<Tensor<4>, PipelineError> {
    let indices: Vec<usize> = (0..count).collect();
    Ok(HostBatch::read(data, &indices, &[])?.tensor(device))
}

/// So many of a number of samples, or all, spread evenly: data may be sorted by class.
pub fn evenly(count: usize, of: usize) -> Vec<usize> {
    let count = count.min(of);
    (0..count).map(|index| index * of / count).collect()
}

/// So many pictures of a dataset, or all, spread evenly over it, `[B, C, H, W]`.
pub fn read_evenly(
    data: &ImageDataset,
    count: usize,
    device: &Device,
) -> Result<Tensor<4>, PipelineError> {
    let picked = evenly(count, data.len());
    Ok(HostBatch::read(data, &picked, &[])?.tensor(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_over_all() {
        assert_eq!(evenly(3, 10), [0, 3, 6]);
        assert_eq!(evenly(5, 3), [0, 1, 2]);
        assert!(evenly(2, 0).is_empty());
    }
}
