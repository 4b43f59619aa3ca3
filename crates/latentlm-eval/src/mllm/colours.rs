//! Colours of drawn pictures, compared with their captions and with real pictures.

use burn::tensor::Tensor;
use latentlm_data::Caption;
use latentlm_pipelines::{MllmData, MllmPipeline, host_values, read_at};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::evaluation::EvaluateOptions;
use crate::statistics::{counts, mean, share};

const COLOURS: [&str; 9] = [
    "red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white",
];
/// Lower bound of red, green and blue of a background pixel. Pixels are in `[-1, 1]`.
const BACKGROUND: f32 = 0.9;

/// How often pictures have the colour that their caption names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Colours {
    /// Fraction of drawn pictures that are nearer to real pictures of the named colour than to
    /// those of any other.
    pub colour_agreement: Option<f64>,
    /// `colour_agreement` of real pictures.
    pub colour_agreement_of_real: Option<f64>,
    /// `colour_agreement` of random colours: one over their number.
    pub colour_agreement_by_chance: Option<f64>,
    /// Fraction of captions that name the most frequent colour.
    pub colour_agreement_by_majority: Option<f64>,
}

impl Colours {
    /// Draws a picture for every training caption that names a colour, and compares. Nothing can be
    /// measured if captions name fewer than two colours.
    ///
    /// # Errors
    /// If a picture can't be read or a caption can't be encoded.
    pub fn measure(
        pipeline: &MllmPipeline,
        data: &MllmData,
        options: &EvaluateOptions,
    ) -> Result<Self> {
        let (pictures, captions) = (&data.pictures.train, &data.train.captions);
        let (picked, names): (Vec<usize>, Vec<usize>) = named_colours(captions).into_iter().unzip();
        let counts = counts(&names);
        if counts.len() < 2 {
            return Ok(Self::default());
        }
        let real = read_at(pictures, &picked, &pipeline.device)?;
        let texts: Vec<String> = picked.iter().map(|&i| captions[i].text.clone()).collect();
        let drawn = pipeline.draw(&texts, &options.sample, options.seed)?;
        let most = counts.values().copied().max().unwrap_or(0);
        Ok(Self {
            colour_agreement: Some(colour_agreement(&drawn, &real, &names)),
            colour_agreement_of_real: Some(colour_agreement(&real, &real, &names)),
            colour_agreement_by_chance: Some(1.0 / counts.len() as f64),
            colour_agreement_by_majority: Some(most as f64 / names.len() as f64),
        })
    }
}

/// Indices of captions that name exactly one colour, and that colour.
fn named_colours(captions: &[Caption]) -> Vec<(usize, usize)> {
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
    named
}

/// Fraction of pictures whose mean colour is nearer to that of the real pictures of the named colour
/// than to that of any other colour. The real picture of the same caption is left out of the mean.
///
/// # Shapes
/// - `pictures`, `real`: `[B, C, H, W]`, of the same captions; `names`: their colours
fn colour_agreement(pictures: &Tensor<4>, real: &Tensor<4>, names: &[usize]) -> f64 {
    let (own, real) = (mean_colours(pictures), mean_colours(real));
    let agreed = names.iter().enumerate().map(|(index, &name)| {
        let distance = |colour: usize| {
            let others = (0..names.len()).filter(|&i| i != index && names[i] == colour);
            distance_to_mean(&own[index], &others.map(|i| &real[i]).collect::<Vec<_>>())
        };
        let asked = distance(name);
        let mut others = (0..COLOURS.len()).filter(|other| *other != name);
        asked.is_finite() && others.all(|other| asked < distance(other))
    });
    share(agreed).unwrap_or_default()
}

/// Squared distance of a colour to the mean of some colours; infinite if there are none.
fn distance_to_mean(colour: &[f64], others: &[&Vec<f64>]) -> f64 {
    let mut sum = 0.0;
    for (channel, value) in colour.iter().enumerate() {
        let values = others.iter().map(|other| other[channel]);
        sum += (value - mean(values).unwrap_or(f64::INFINITY)).powi(2);
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
        let mut foreground: Vec<usize> = (0..plane).collect();
        foreground.retain(|pixel| {
            let mut channels = picture.chunks_exact(plane);
            channels.any(|channel| channel[*pixel] < BACKGROUND)
        });
        let colour = picture.chunks_exact(plane).map(|channel| {
            let values = foreground.iter().map(|&pixel| f64::from(channel[pixel]));
            mean(values).unwrap_or(1.0)
        });
        colours.push(colour.collect());
    }
    colours
}

/// Euclidean distance of two colours.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let squares = a.iter().zip(b).map(|(x, y)| (x - y).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Mean distance between the mean colours of a drawn picture and of the real picture of its caption, then to the real
/// picture of another caption. It is in RGB of `[-1, 1]`, without backgrounds.
///
/// # Shapes
/// - `drawn`, `asked`: `[B, C, H, W]`, drawn pictures and the real pictures of their captions
pub fn colour_distances(drawn: &Tensor<4>, asked: &Tensor<4>) -> [f64; 2] {
    let (drawn, asked) = (mean_colours(drawn), mean_colours(asked));
    // Data may be sorted, so that neighbours are alike. A shift by half of all pictures avoids that.
    [0, asked.len() / 2].map(|shift| {
        let shifted = asked.iter().cycle().skip(shift);
        mean(drawn.iter().zip(shifted).map(|(a, b)| distance(a, b))).unwrap_or_default()
    })
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
        assert_eq!(named_colours(&captions), [(0, 0), (3, 4)]);
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

    /// The first picture is drawn right, the second is 0.5 off in one channel. Shuffled, red is
    /// compared with blue.
    #[test]
    fn distances_are_of_mean_colours() {
        let (red, blue) = ([0.8, -1.0, -1.0], [-1.0, -1.0, 0.8]);
        let drawn = pictures(&[red, [-1.0, -0.5, 0.8]]);
        let [own, other] = colour_distances(&drawn, &pictures(&[red, blue]));
        assert!((own - 0.25).abs() < 1e-6, "{own}");
        // Red and blue: 1.8 in two channels; the second is 0.5 off in a third.
        let apart = [2.0 * 1.8f64.powi(2), 2.0 * 1.8f64.powi(2) + 0.25];
        let shuffled = apart.map(f64::sqrt).iter().sum::<f64>() / 2.0;
        assert!((other - shuffled).abs() < 1e-6, "{other}");
    }
}
