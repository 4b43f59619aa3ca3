//! The pictures that a recipe names, and batches of them.

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::RandomStream;
use latentlm_data::{DataError, ImageDataset, ImageSpec, LeftOut, Sample, Split};

use super::recipe::ImageRecipe;
use crate::data::{TrainingData, both};
use crate::error::Result;

/// Training and held-out pictures.
#[derive(Debug)]
pub struct ImageData {
    /// Training pictures.
    pub train: ImageDataset,
    /// Held-out pictures.
    pub test: ImageDataset,
}

impl ImageData {
    /// Opens the folder that a recipe names.
    ///
    /// # Errors
    /// If there is no dataset, one of another layout, or too much of it is broken.
    pub fn open(recipe: &ImageRecipe) -> Result<Self> {
        let path = Path::new(&recipe.data.path);
        let options = recipe.data.options;
        let [train, test] = ImageDataset::open_both(path, recipe.image_spec(), options)?;
        Ok(Self {
            train: train.filled(path, Split::Train)?,
            test: test.filled(path, Split::Test)?,
        })
    }
}

impl TrainingData for ImageData {
    fn fingerprint(&self) -> String {
        self.train.fingerprint()
    }

    fn samples(&self) -> Vec<Sample> {
        both(self.train.samples(), self.test.samples())
    }

    fn left_out(&self) -> Vec<LeftOut> {
        self.train.left_out()
    }

    fn classes(&self) -> &[String] {
        self.train.classes()
    }
}

/// A batch on the host.
pub struct HostBatch {
    /// `[B, C, H, W]`, in `[-1, 1]`.
    pub pixels: Vec<f32>,
    spec: ImageSpec,
}

impl HostBatch {
    /// An empty batch with room for some pictures.
    pub(crate) fn new(spec: ImageSpec, capacity: usize) -> Self {
        Self {
            pixels: Vec::with_capacity(capacity * spec.bytes()),
            spec,
        }
    }

    /// Adds a picture's bytes, `[C, H, W]`.
    pub(crate) fn push(&mut self, bytes: &[u8], flip: bool) {
        for row in bytes.chunks_exact(self.spec.width) {
            let values = row.iter().map(|byte| f32::from(*byte) / 127.5 - 1.0);
            if flip {
                self.pixels.extend(values.rev());
            } else {
                self.pixels.extend(values);
            }
        }
    }

    /// Decodes pictures. `flips` has an entry for each picture: true mirrors it. A picture that can't be
    /// decoded any more is replaced by another one, chosen by `random` alone.
    ///
    /// # Errors
    /// If none of many can be decoded.
    pub fn read_or_draw(
        dataset: &ImageDataset,
        indices: &[usize],
        flips: &[bool],
        random: &mut RandomStream,
    ) -> Result<Self, DataError> {
        let mut batch = Self::new(dataset.spec(), indices.len());
        for (&index, &flip) in indices.iter().zip(flips) {
            let picture = dataset.get_or_draw(index, |bound| random.below(bound))?;
            batch.push(&picture.pixels, flip);
        }
        Ok(batch)
    }

    /// The batch on a device, `[B, C, H, W]`.
    pub fn tensor(self, device: &Device) -> Tensor<4> {
        let spec = self.spec;
        let count = self.pixels.len() / spec.bytes();
        let shape = [count, spec.channels, spec.height, spec.width];
        Tensor::from_data(TensorData::new(self.pixels, shape), device)
    }
}

/// All pictures of a dataset, `[B, C, H, W]`.
///
/// # Errors
/// If a picture can't be decoded.
pub fn read_all(data: &ImageDataset, device: &Device) -> Result<Tensor<4>> {
    read_evenly(data, data.len(), device)
}

/// Some pictures of a dataset, or all, spread evenly over it, `[B, C, H, W]`.
///
/// # Errors
/// If a picture can't be decoded.
pub fn read_evenly(data: &ImageDataset, count: usize, device: &Device) -> Result<Tensor<4>> {
    read_at(data, &evenly(count, data.len()), device)
}

/// The pictures of a dataset at some indices, `[B, C, H, W]`.
///
/// # Errors
/// If a picture can't be decoded.
pub fn read_at(data: &ImageDataset, indices: &[usize], device: &Device) -> Result<Tensor<4>> {
    let mut batch = HostBatch::new(data.spec(), indices.len());
    for &index in indices {
        batch.push(&data.get(index)?.pixels, false);
    }
    Ok(batch.tensor(device))
}

/// The pictures of a dataset at some indices, `[B, C, H, W]`, without those that can't be decoded, and the
/// indices of the others. The dataset lists what can't be decoded as left out.
pub fn read_readable(
    data: &ImageDataset,
    indices: &[usize],
    device: &Device,
) -> (Tensor<4>, Vec<usize>) {
    let mut batch = HostBatch::new(data.spec(), indices.len());
    let mut read = Vec::with_capacity(indices.len());
    for &index in indices {
        if let Ok(picture) = data.get(index) {
            batch.push(&picture.pixels, false);
            read.push(index);
        }
    }
    (batch.tensor(device), read)
}

/// Indices of some of a number of samples, or of all, spread evenly: data may be sorted by class.
pub fn evenly(count: usize, of: usize) -> Vec<usize> {
    let count = count.min(of);
    (0..count).map(|index| index * of / count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::host_values;

    #[test]
    fn pictures_that_cannot_be_read_are_left_out_and_listed() {
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
        let all: Vec<usize> = (0..dataset.len()).collect();
        let device = Device::default();
        let (whole, read) = read_readable(&dataset, &all, &device);
        assert_eq!(read, all);
        let whole = host_values(whole);
        let broken = |place: &usize| {
            let grey = (whole[16 * place] + 1.0) * 127.5;
            ((grey / 6.0).round() as u8).is_multiple_of(3)
        };
        for i in (0..40).step_by(3) {
            std::fs::write(file(i), b"gone").unwrap();
        }
        let (pictures, read) = read_readable(&dataset, &all, &device);
        let expected: Vec<usize> = all.iter().copied().filter(|i| !broken(i)).collect();
        assert_eq!(read, expected);
        assert!(read.len() < all.len());
        let kept = read.iter().flat_map(|i| &whole[16 * i..16 * (i + 1)]);
        assert_eq!(host_values(pictures), kept.copied().collect::<Vec<f32>>());
        assert_eq!(dataset.left_out().len(), all.len() - read.len());
    }

    #[test]
    fn samples_are_spread_over_all() {
        assert_eq!(evenly(3, 10), [0, 3, 6]);
        assert_eq!(evenly(5, 3), [0, 1, 2]);
        assert!(evenly(2, 0).is_empty());
    }
}
