//! Whether drawn pictures have the colours that were asked for.

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use latentlm_data::Caption;
use latentlm_pipelines::{Artist, HostBatch, MixedData, host_values};

use super::evaluate::EvaluateMixedOptions;
use crate::error::EvalError;

const COLOURS: [&str; 9] = [
    "red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white",
];
/// A pixel whose red, green and blue are all above this is background; pictures lie in `[-1, 1]`.
const BACKGROUND: f32 = 0.9;

/// Whether pictures have the colours that their captions name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Colours {
    /// Drawn pictures nearer to real ones of the named colour than of any other.
    pub drawn: f64,
    /// The same of the real pictures.
    pub real: f64,
    /// One over the number of colours.
    pub chance: f64,
    /// Share of the colour that is named most.
    pub majority: f64,
}

impl Colours {
    /// Draws a picture for every training caption that names a colour. `None` where captions name
    /// fewer than two.
    ///
    /// # Errors
    /// If a picture can't be read or a caption can't be encoded.
    pub fn measure(
        artist: &Artist,
        data: &MixedData,
        options: &EvaluateMixedOptions,
        device: &Device,
    ) -> Result<Option<Self>, EvalError> {
        let (pictures, captions) = (&data.pictures.train, &data.train.captions);
        let Some(named) = named_colours(captions) else {
            return Ok(None);
        };
        let picked: Vec<usize> = named.iter().map(|(index, _)| *index).collect();
        let real = HostBatch::read(pictures, &picked, &[])?.tensor(device);
        let texts: Vec<String> = picked.iter().map(|&i| captions[i].text.clone()).collect();
        let drawn = artist.draw(&texts, &options.sample, options.seed)?;
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

fn counts(names: &[usize]) -> BTreeMap<usize, usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for name in names {
        *counts.entry(*name).or_default() += 1;
    }
    counts
}

/// Captions that name exactly one colour, and which. `None` if fewer than two colours are named.
fn named_colours(captions: &[Caption]) -> Option<Vec<(usize, usize)>> {
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
fn colour_agreement(pictures: &Tensor<4>, real: &Tensor<4>, names: &[usize]) -> f64 {
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

/// How far the colours of drawn pictures are from those of the pictures that were asked for, in RGB of
/// `[-1, 1]`, backgrounds left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ColourDistance {
    /// The mean over all pairs.
    pub asked: f64,
    /// The same of each drawn picture and one that another was drawn for.
    pub shuffled: f64,
}

impl ColourDistance {
    /// # Shapes
    /// - `drawn`, `asked`: `[B, C, H, W]`, pairs
    pub fn measure(drawn: &Tensor<4>, asked: &Tensor<4>) -> Self {
        let (drawn, asked) = (mean_colours(drawn), mean_colours(asked));
        let count = asked.len();
        let distance = |a: &[f64], b: &[f64]| {
            let square = |(x, y): (&f64, &f64)| (x - y).powi(2);
            a.iter().zip(b).map(square).sum::<f64>().sqrt()
        };
        // Neighbours are alike where data is sorted: half of all lies between the two of a pair.
        let mean = |shift: usize| {
            let pair =
                |(index, own): (usize, &Vec<f64>)| distance(own, &asked[(index + shift) % count]);
            drawn.iter().enumerate().map(pair).sum::<f64>() / count.max(1) as f64
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

    /// The first is drawn right, the second 0.5 off in one channel; half a turn on, red meets blue.
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
