//! What a drawn picture looks like, judged without a trained judge: by the pictures nearest to it in
//! the codec's latents, and by its colour.

use burn::tensor::Tensor;
use latentlm::LatentCodec;
use latentlm::codec_image::Codec;
use latentlm_data::Caption;

use crate::image::host_values;

/// Pictures encoded at once.
const BATCH: usize = 100;
const COLOURS: [&str; 9] = [
    "red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white",
];
/// A pixel whose red, green and blue are all above this is background; pictures lie in `[-1, 1]`.
const BACKGROUND: f32 = 0.9;

/// All pictures there are, and their latents.
pub(crate) struct Gallery {
    pictures: Tensor<4>,
    /// `[N, T * Z]`
    latents: Tensor<2>,
    captions: Vec<Caption>,
}

impl Gallery {
    pub(crate) fn new(codec: &Codec, pictures: Tensor<4>, captions: Vec<Caption>) -> Self {
        Self {
            latents: flat_latents(codec, pictures.clone()),
            pictures,
            captions,
        }
    }

    /// A picture, `[1, C, H, W]`.
    pub(crate) fn picture(&self, index: usize) -> Tensor<4> {
        self.pictures.clone().narrow(0, index, 1)
    }

    /// The `count` nearest of each picture, nearest first.
    pub(crate) fn nearest(
        &self,
        codec: &Codec,
        pictures: Tensor<4>,
        count: usize,
    ) -> Vec<Vec<usize>> {
        let own = flat_latents(codec, pictures);
        let squares = |x: &Tensor<2>| x.clone().square().sum_dim(1);
        // |a - b|^2 = |a|^2 + |b|^2 - 2ab; |a|^2 changes no order.
        let products = own.matmul(self.latents.clone().transpose()).mul_scalar(2.0);
        let distances = squares(&self.latents).transpose() - products;
        let values = host_values(distances);
        let rows = values.chunks_exact(self.captions.len()).map(|row| {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&a, &b| row[a].total_cmp(&row[b]));
            order.truncate(count);
            order
        });
        rows.collect()
    }

    /// Share of neighbours of the asked category.
    pub(crate) fn of_category(&self, nearest: &[Vec<usize>], asked: &[Caption]) -> Option<f64> {
        let shares = nearest.iter().zip(asked).filter_map(|(near, asked)| {
            let category = asked.category.as_ref()?;
            let same = near.iter();
            let same =
                same.filter(|&&index| self.captions[index].category.as_ref() == Some(category));
            Some(same.count() as f64 / near.len().max(1) as f64)
        });
        mean(shares)
    }

    /// The same, were neighbours drawn by lot.
    pub(crate) fn by_chance(&self, asked: &[Caption]) -> Option<f64> {
        let shares = asked.iter().filter_map(|asked| {
            let category = asked.category.as_ref()?;
            let same = self.captions.iter();
            let same = same.filter(|caption| caption.category.as_ref() == Some(category));
            Some(same.count() as f64 / self.captions.len() as f64)
        });
        mean(shares)
    }

    /// Share of what was asked for that is among the nearest.
    pub(crate) fn asked_among(&self, nearest: &[Vec<usize>], asked: &[Caption]) -> f64 {
        let found = nearest.iter().zip(asked).map(|(near, asked)| {
            let found = near.iter().any(|&index| self.captions[index] == *asked);
            f64::from(u8::from(found))
        });
        mean(found).unwrap_or_default()
    }
}

/// Means of the codec's posterior, `[N, T * Z]`.
fn flat_latents(codec: &Codec, pictures: Tensor<4>) -> Tensor<2> {
    let count = pictures.dims()[0];
    let parts = (0..count).step_by(BATCH).map(|start| {
        let part = pictures.clone().narrow(0, start, BATCH.min(count - start));
        codec.encode(part).mode().flatten::<2>(1, 2)
    });
    Tensor::cat(parts.collect(), 0)
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), x| (sum + x, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

/// Captions that name exactly one colour, and which. `None` if fewer than two colours are named.
pub(crate) fn named_colours(captions: &[Caption]) -> Option<Vec<(usize, usize)>> {
    let named = captions.iter().enumerate().filter_map(|(index, caption)| {
        let mut colours = (0..COLOURS.len()).filter(|&colour| {
            let mut words = caption.text.split(|c: char| !c.is_alphanumeric());
            words.any(|word| word == COLOURS[colour])
        });
        match (colours.next(), colours.next()) {
            (Some(colour), None) => Some((index, colour)),
            _ => None,
        }
    });
    let named: Vec<(usize, usize)> = named.collect();
    let first = named.first()?.1;
    named
        .iter()
        .any(|(_, colour)| *colour != first)
        .then_some(named)
}

/// Share of pictures whose mean colour is nearer to that of real pictures of the named colour than of
/// any other. A real picture itself is left out of the mean that it is compared with.
///
/// # Shapes
/// - `pictures`, `real`: `[B, C, H, W]`, of the same captions; `names`: their colours
pub(crate) fn colour_agreement(pictures: &Tensor<4>, real: &Tensor<4>, names: &[usize]) -> f64 {
    let (own, real) = (mean_colours(pictures), mean_colours(real));
    let agreed = (0..names.len()).filter(|&index| {
        let distance = |colour: usize| {
            let same = (0..names.len()).filter(|&i| i != index && names[i] == colour);
            let same: Vec<&Vec<f64>> = same.map(|i| &real[i]).collect();
            let centre =
                |channel: usize| same.iter().map(|c| c[channel]).sum::<f64>() / same.len() as f64;
            let square = |channel: usize| (own[index][channel] - centre(channel)).powi(2);
            match same.is_empty() {
                true => f64::INFINITY,
                false => (0..own[index].len()).map(square).sum(),
            }
        };
        let asked = distance(names[index]);
        let others = (0..COLOURS.len()).filter(|&colour| colour != names[index]);
        asked.is_finite() && others.map(distance).all(|other| asked < other)
    });
    agreed.count() as f64 / names.len().max(1) as f64
}

/// Of every picture the mean of each channel over all that is not background.
fn mean_colours(pictures: &Tensor<4>) -> Vec<Vec<f64>> {
    let [_, channels, height, width] = pictures.dims();
    let plane = height * width;
    let values = host_values(pictures.clone());
    let colours = values.chunks_exact(channels * plane).map(|picture| {
        let at = |channel: usize, pixel: usize| picture[channel * plane + pixel];
        let shown = |&pixel: &usize| (0..channels).any(|channel| at(channel, pixel) < BACKGROUND);
        let shown: Vec<usize> = (0..plane).filter(shown).collect();
        let mean = |channel: usize| {
            let sum: f64 = shown
                .iter()
                .map(|&pixel| f64::from(at(channel, pixel)))
                .sum();
            match shown.len() {
                0 => 1.0,
                count => sum / count as f64,
            }
        };
        (0..channels).map(mean).collect()
    });
    colours.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, TensorData};

    fn caption(text: &str) -> Caption {
        Caption {
            text: text.into(),
            category: None,
        }
    }

    /// Pictures of one pixel of a colour and one of background.
    fn pictures(colours: &[[f32; 3]]) -> Tensor<4> {
        let values: Vec<f32> = colours.iter().flatten().flat_map(|&x| [x, 1.0]).collect();
        let shape = [colours.len(), 3, 1, 2];
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    #[test]
    fn colours_are_read_from_captions() {
        let captions = ["red heart", "a redder one", "white-red flag", "blue, book"].map(caption);
        assert_eq!(named_colours(&captions), Some(vec![(0, 0), (3, 4)]));
        assert_eq!(
            named_colours(&captions[..2]),
            None,
            "one colour is no choice"
        );
    }

    #[test]
    fn colours_agree_where_they_are_nearest() {
        let (red, blue) = ([0.8, -1.0, -1.0], [-1.0, -1.0, 0.8]);
        let real = pictures(&[red, red, blue, blue]);
        let names = [0, 0, 4, 4];
        assert_eq!(colour_agreement(&real, &real, &names), 1.0);
        let drawn = pictures(&[red, blue, blue, red]);
        assert_eq!(colour_agreement(&drawn, &real, &names), 0.5);
        let colours = mean_colours(&pictures(&[red, [1.0; 3]]));
        assert!((colours[0][0] - 0.8).abs() < 1e-6, "background is left out");
        assert_eq!(colours[1], [1.0; 3]);
    }
}
