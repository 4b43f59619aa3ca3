//! The pictures that a recipe names, and batches of them.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm_data::{DataError, ImageDataset, Split};

use super::recipe::ImageRecipe;
use crate::data::TrainingData;
use crate::error::PipelineError;

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
    /// If there is no dataset, or one of another layout.
    pub fn open(recipe: &ImageRecipe) -> Result<Self, PipelineError> {
        let path = Path::new(&recipe.data.path);
        let open = |split| ImageDataset::open(path, recipe.image_spec(), split);
        Ok(Self {
            train: open(Split::Train)?,
            test: open(Split::Test)?,
        })
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
