//! Evaluation of drawn pictures without a trained classifier, by their nearest neighbours among real
//! pictures in the codec's latent space.

use burn::tensor::{Device, Tensor};
use latentlm::LatentCodec;
use latentlm::codec_image::Codec;
use latentlm_data::Caption;
use latentlm_pipelines::{MllmData, host_values, read_all};

use crate::error::Result;
use crate::statistics::{mean, share};

/// Pictures in a batch of the encoder.
const BATCH: usize = 100;
/// Number of nearest neighbours.
const NEAREST: usize = 10;

/// All real pictures, with their latents and captions.
pub struct Gallery {
    codec: Codec,
    pictures: Tensor<4>,
    /// Means of the codec's posterior, `[N, T * Z]`.
    latents: Tensor<2>,
    pub(super) captions: Vec<Caption>,
}

impl Gallery {
    /// Encodes the pictures of both splits.
    ///
    /// # Errors
    /// If a picture can't be read.
    pub fn open(codec: &Codec, data: &MllmData, device: &Device) -> Result<Self> {
        let (train, test) = (&data.pictures.train, &data.pictures.test);
        let pictures = vec![read_all(train, device)?, read_all(test, device)?];
        let captions = [&data.train.captions[..], &data.test.captions[..]].concat();
        Ok(Self::new(codec, Tensor::cat(pictures, 0), captions))
    }

    fn new(codec: &Codec, pictures: Tensor<4>, captions: Vec<Caption>) -> Self {
        Self {
            latents: flat_latents(codec, pictures.clone()),
            codec: codec.clone(),
            pictures,
            captions,
        }
    }

    /// One real picture, `[1, C, H, W]`.
    pub fn picture(&self, index: usize) -> Tensor<4> {
        self.pictures.clone().narrow(0, index, 1)
    }

    /// Indices of the ten nearest neighbours of each picture, nearest first.
    pub fn nearest(&self, pictures: Tensor<4>) -> Vec<Vec<usize>> {
        let latents = flat_latents(&self.codec, pictures);
        // |a - b|^2 = |a|^2 + |b|^2 - 2ab. |a|^2 is left out, since it does not change the order.
        let products = latents
            .matmul(self.latents.clone().transpose())
            .mul_scalar(2.0);
        let squares = self.latents.clone().square().sum_dim(1);
        let distances = squares.transpose() - products;
        let values = host_values(distances);
        let mut nearest = Vec::new();
        for row in values.chunks_exact(self.captions.len()) {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
            order.truncate(NEAREST);
            nearest.push(order);
        }
        nearest
    }

    /// Mean fraction of neighbours that have the category of the caption. `None` if no caption has
    /// one.
    pub fn of_category(&self, nearest: &[Vec<usize>], asked: &[Caption]) -> Option<f64> {
        let pairs = nearest.iter().zip(asked);
        mean(pairs.filter_map(|(near, asked)| {
            alike(near.iter().map(|&index| &self.captions[index]), asked)
        }))
    }

    /// Fraction of drawn pictures that have a neighbour with exactly the caption they were drawn for.
    pub fn asked_among(&self, nearest: &[Vec<usize>], asked: &[Caption]) -> f64 {
        let pairs = nearest.iter().zip(asked);
        let found = pairs.map(|(near, asked)| near.iter().any(|&i| self.captions[i] == *asked));
        share(found).unwrap_or_default()
    }
}

/// Mean fraction of all captions that have the category of the caption asked for. `None` if no
/// caption asked for has one.
pub fn by_chance(all: &[Caption], asked: &[Caption]) -> Option<f64> {
    mean(asked.iter().filter_map(|asked| alike(all.iter(), asked)))
}

/// Fraction of captions that have the category of the caption asked for. `None` if that has none.
fn alike<'a>(captions: impl Iterator<Item = &'a Caption>, asked: &Caption) -> Option<f64> {
    asked.category.as_ref()?;
    let same = captions.map(|caption| caption.category == asked.category);
    Some(share(same).unwrap_or_default())
}

/// Means of the codec's posterior, `[N, T * Z]`.
fn flat_latents(codec: &Codec, pictures: Tensor<4>) -> Tensor<2> {
    let batches = pictures.split(BATCH, 0).into_iter();
    let latents = batches.map(|batch| codec.encode(batch).mode().flatten::<2>(1, 2));
    Tensor::cat(latents.collect(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm::RandomStream;
    use latentlm::core::LatentCodecConfig;
    use latentlm::core::conformance::seeded;
    use latentlm_pipelines::MllmRecipe;

    #[test]
    fn neighbours_are_judged_by_their_category() {
        let device = Device::default();
        let config = MllmRecipe::default().codec;
        let codec = seeded(1, &device, |device| config.init(device));
        let captions = ["animals", "animals", "food"].map(|category| Caption {
            text: category.into(),
            category: Some(category.into()),
        });
        let pictures = RandomStream::new(1).normal([3, 3, 32, 32], &device);
        let gallery = Gallery::new(&codec, pictures.clone(), captions.to_vec());
        let nearest = gallery.nearest(pictures);
        for (index, near) in nearest.iter().enumerate() {
            assert_eq!((near[0], near.len()), (index, 3), "itself first");
        }
        let asked = &captions[1..];
        let near = [vec![0, 1, 2, 2], vec![2, 0]];
        assert_eq!(gallery.of_category(&near, asked), Some(0.5));
        assert_eq!(
            by_chance(&gallery.captions, asked),
            Some((2.0 / 3.0 + 1.0 / 3.0) / 2.0)
        );
        assert_eq!(gallery.asked_among(&near, asked), 1.0);
    }
}
