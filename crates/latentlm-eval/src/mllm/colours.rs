//! Colours of drawn pictures, compared with their captions and with real pictures.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use latentlm::SampleOptions;
use latentlm_data::Caption;
use latentlm_pipelines::{HostBatch, MllmData, MllmPipeline, host_values};

use crate::error::EvalError;

const COLOURS: [&str; 9] = [
    "red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white",
];
/// Lower bound of red, green and blue of a background pixel. Pixels are in `[-1, 1]`.
const BACKGROUND: f32 = 0.9;

/// How often pictures have the colour that their caption names.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colours {
    /// Fraction of drawn pictures that are nearer to real pictures of the named colour than to
    /// those of any other.
    pub drawn: f64,
    /// The same fraction for the real pictures.
    pub real: f64,
    /// The same fraction by chance: one over the number of colours.
    pub chance: f64,
    /// Fraction of captions that name the most frequent colour.
    pub majority: f64,
}

impl Colours {
    /// Draws a picture for every training caption that names a colour, and compares. `None` if
    /// captions name fewer than two colours.
    ///
    /// # Errors
    /// If a picture can't be read or a caption can't be encoded.
    pub fn measure(
        artist: &MllmPipeline,
        data: &MllmData,
        sample: &SampleOptions,
        seed: u64,
        device: &Device,
    ) -> Result<Option<Self>, EvalError> {
        let (pictures, captions) = (&data.pictures.train, &data.train.captions);
        let Some(named) = named_colours(captions) else {
            return Ok(None);
        };
        let picked: Vec<usize> = named.iter().map(|(index, _)| *index).collect();
        let real = HostBatch::read(pictures, &picked, &[])?.tensor(device);
        let texts: Vec<String> = picked.iter().map(|&i| captions[i].text.clone()).collect();
        let drawn = artist.draw(&texts, sample, seed)?;
        let names: Vec<usize> = named.iter().map(|(_, colour)| *colour).collect();
        let counts = counts(&names);
        let most = counts.values().copied().max().unwrap_or(0);
        Ok(Some(Self {
            drawn: colour_agreement(&drawn, &real, &names),
            real: colour_agreement(&real, &real, &names),
            chance: 1.0 / counts.len() as f64,
            majority: most as f64 / names.len() as f64,
        }))
    }
}

/// How often each colour is named.
fn counts(names: &[usize]) -> BTreeMap<usize, usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(*name).or_default() += 1;
    }
    counts
}

/// Indices of captions that name exactly one colour, and that colour. `None` if all name the same
/// colour, or none does.
fn named_colours(captions: &[Caption]) -> Option<Vec<(usize, usize)>> {
    let mut named = Vec::new();
    for (index, caption) in captions.iter().enumerate() {
        let mut colours = (0..COLOURS.len()).filter(|&colour| {
            let mut words = caption.text.split(|c: char| !c.is_alphanumeric());
            words.any(|word| word == COLOURS[colour])
        });
        if let (Some(colour), None) = (colours.next(), colours.next()) {
            named.push((index, colour));
        }
    }
    let first = named.first()?.1;
    named
        .iter()
        .any(|(_, colour)| *colour != first)
        .then_some(named)
}

/// Fraction of pictures whose mean colour is nearer to that of the real pictures of the named colour
/// than to that of any other colour. The real picture of the same caption is left out of the mean.
///
/// # Shapes
/// - `pictures`, `real`: `[B, C, H, W]`, of the same captions; `names`: their colours
fn colour_agreement(pictures: &Tensor<4>, real: &Tensor<4>, names: &[usize]) -> f64 {
    let (own, real) = (mean_colours(pictures), mean_colours(real));
    let mut agreed = 0;
    for (index, &name) in names.iter().enumerate() {
        let distance = |colour: usize| {
            let same: Vec<&Vec<f64>> = (0..names.len())
                .filter(|&i| i != index && names[i] == colour)
                .map(|i| &real[i])
                .collect();
            squared_distance_to_mean(&own[index], &same)
        };
        let asked = distance(name);
        let is_nearest = (0..COLOURS.len()).all(|other| other == name || asked < distance(other));
        if asked.is_finite() && is_nearest {
            agreed += 1;
        }
    }
    f64::from(agreed) / names.len().max(1) as f64
}

/// Squared distance of a colour to the mean of some colours; infinite if there are none.
fn squared_distance_to_mean(colour: &[f64], others: &[&Vec<f64>]) -> f64 {
    if others.is_empty() {
        return f64::INFINITY;
    }
    let mut sum = 0.0;
    for (channel, value) in colour.iter().enumerate() {
        let mean = others.iter().map(|other| other[channel]).sum::<f64>() / others.len() as f64;
        sum += (value - mean).powi(2);
    }
    sum
}

/// For each picture, the mean of each channel over the pixels that are not background; 1 if all are.
fn mean_colours(pictures: &Tensor<4>) -> Vec<Vec<f64>> {
    let [_, channels, height, width] = pictures.dims();
    let plane = height * width;
    let values = host_values(pictures.clone());
    let mut colours = Vec::new();
    for picture in values.chunks_exact(channels * plane) {
        let foreground: Vec<usize> = (0..plane)
            .filter(|pixel| {
                (0..channels).any(|channel| picture[channel * plane + pixel] < BACKGROUND)
            })
            .collect();
        let mut colour = Vec::with_capacity(channels);
        for channel in picture.chunks_exact(plane) {
            let sum: f64 = foreground
                .iter()
                .map(|&pixel| f64::from(channel[pixel]))
                .sum();
            colour.push(if foreground.is_empty() {
                1.0
            } else {
                sum / foreground.len() as f64
            });
        }
        colours.push(colour);
    }
    colours
}

/// Distances between mean colours of drawn pictures and of real ones, in RGB of `[-1, 1]`, without
/// backgrounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColourDistance {
    /// Mean distance of a drawn picture to the real picture of its caption.
    pub asked: f64,
    /// Mean distance of a drawn picture to the real picture of another caption.
    pub shuffled: f64,
}

impl ColourDistance {
    /// Measures both distances.
    ///
    /// # Shapes
    /// - `drawn`, `asked`: `[B, C, H, W]`, drawn pictures and the real pictures of their captions
    pub fn measure(drawn: &Tensor<4>, asked: &Tensor<4>) -> Self {
        let (drawn, asked) = (mean_colours(drawn), mean_colours(asked));
        let count = asked.len();
        let distance = |a: &[f64], b: &[f64]| {
            let square = |(x, y): (&f64, &f64)| (x - y).powi(2);
            a.iter().zip(b).map(square).sum::<f64>().sqrt()
        };
        // Data may be sorted, so that neighbours are alike. A shift by half of all pictures avoids
        // that.
        let mean = |shift: usize| {
            let distances = drawn
                .iter()
                .enumerate()
                .map(|(index, own)| distance(own, &asked[(index + shift) % count]));
            distances.sum::<f64>() / count.max(1) as f64
        };
        Self {
            asked: mean(0),
            shuffled: mean(count / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::TensorData;

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

    #[test]
    fn the_majority_is_the_share_of_the_commonest() {
        assert_eq!(counts(&[0, 4, 4, 4]), BTreeMap::from([(0, 1), (4, 3)]));
    }

    /// The first picture is drawn right, the second is 0.5 off in one channel. Shuffled, red is
    /// compared with blue.
    #[test]
    fn distances_are_of_mean_colours() {
        let (red, blue) = ([0.8, -1.0, -1.0], [-1.0, -1.0, 0.8]);
        let drawn = pictures(&[red, [-1.0, -0.5, 0.8]]);
        let distance = ColourDistance::measure(&drawn, &pictures(&[red, blue]));
        assert!((distance.asked - 0.25).abs() < 1e-6, "{distance:?}");
        // Red and blue: 1.8 in two channels; the second is 0.5 off in a third.
        let apart = [2.0 * 1.8f64.powi(2), 2.0 * 1.8f64.powi(2) + 0.25];
        let shuffled = apart.map(f64::sqrt).iter().sum::<f64>() / 2.0;
        assert!((distance.shuffled - shuffled).abs() < 1e-6, "{distance:?}");
    }
}
