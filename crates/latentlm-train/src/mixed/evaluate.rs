//! What a run of text and pictures is worth, in numbers.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use latentlm::SampleOptions;
use latentlm::core::bundle::write_atomically;
use latentlm_data::{Caption, ImageDataset};
use serde::{Deserialize, Serialize};

use super::artist::Artist;
use super::data::MixedData;
use super::measure::{CaptionScore, Perplexity, majority};
use super::neighbours::{Gallery, colour_agreement};
use super::recipe::MixedRecipe;
use crate::error::TrainError;
use crate::image::{image_grid, read_all, save_png};
use crate::report;
use crate::run::RunFolder;

/// Captions whose pictures are shown.
const SHOWN: usize = 24;
/// Nearest pictures that are looked at.
const NEAREST: usize = 10;
/// Of those, how many are shown.
const NEAREST_SHOWN: usize = 4;

/// How a run is measured.
#[derive(Debug, Clone)]
pub struct EvaluateMixedOptions {
    /// Pictures captioned and drawn, of each split.
    pub samples: usize,
    /// Seed of the drawn pictures.
    pub seed: u64,
    /// How they are drawn.
    pub sample: SampleOptions,
}

/// The measurements. A share that nothing could be measured of is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MixedEvaluation {
    /// Pictures captioned and drawn of the training split, and of the held-out one.
    pub samples: [usize; 2],
    /// Seed of the drawn pictures.
    pub seed: u64,
    /// Guidance they were drawn with.
    pub guidance_scale: f64,
    /// Solver steps a latent.
    pub solver_steps: usize,
    /// Training pictures whose caption is right to the letter.
    pub exact_captions: f64,
    /// The same of held-out pictures.
    pub exact_captions_held_out: f64,
    /// Held-out pictures whose category is named.
    pub category_named_held_out: Option<f64>,
    /// The same by whoever always names the largest category.
    pub category_named_by_majority: Option<f64>,
    /// Perplexity of a held-out text's token.
    pub text_perplexity: Option<f64>,
    /// Bits of a held-out text's byte.
    pub text_bits_per_byte: Option<f64>,
    /// Of the ten nearest of all pictures to one drawn for a training caption, those of the asked
    /// category.
    pub neighbours_of_category: Option<f64>,
    /// The same for held-out captions.
    pub neighbours_of_category_held_out: Option<f64>,
    /// The same by chance.
    pub neighbours_of_category_by_chance: Option<f64>,
    /// Training captions whose picture is among the ten nearest to the one drawn.
    pub asked_among_nearest: f64,
    /// Of pictures drawn for captions that name a colour, those nearer to real pictures of that
    /// colour than of any other.
    pub colour_agreement: Option<f64>,
    /// The same of the real pictures.
    pub colour_agreement_of_real: Option<f64>,
    /// The same by chance.
    pub colour_agreement_by_chance: Option<f64>,
    /// Drawn pictures a second, this run's device.
    pub pictures_per_second: f64,
    /// Captions a second.
    pub captions_per_second: f64,
}

/// Pictures of a split and what is said of them.
struct Sample {
    pictures: Tensor<4>,
    captions: Vec<Caption>,
}

impl Sample {
    /// Spread evenly over the split.
    fn of(
        data: &ImageDataset,
        captions: &[Caption],
        count: usize,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let count = count.min(data.len());
        let picked: Vec<usize> = (0..count).map(|i| i * data.len() / count).collect();
        let pictures = crate::image::HostBatch::read(data, &picked, &[])?;
        Ok(Self {
            pictures: pictures.tensor(device),
            captions: picked.iter().map(|&i| captions[i].clone()).collect(),
        })
    }

    fn texts(&self) -> Vec<String> {
        let texts = self.captions.iter().map(|caption| caption.text.clone());
        texts.collect()
    }
}

/// Measures a run and writes `evaluation.json`, a picture of samples and the report.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, or a file can't be written.
pub fn evaluate_mixed(
    path: &Path,
    options: &EvaluateMixedOptions,
    device: &Device,
) -> Result<MixedEvaluation, TrainError> {
    let (run, recipe) = RunFolder::<MixedRecipe>::open(path)?;
    let artist = Artist::from_run(path, device)?;
    let data = MixedData::open(&recipe)?;
    let sample = |pictures: &ImageDataset, captions: &[Caption]| {
        Sample::of(pictures, captions, options.samples, device)
    };
    let train = sample(&data.pictures.train, &data.train.captions)?;
    let test = sample(&data.pictures.test, &data.test.captions)?;

    let started = Instant::now();
    let said = artist.caption(train.pictures.clone())?;
    let said_held_out = artist.caption(test.pictures.clone())?;
    let captioned = (said.len() + said_held_out.len()) as f64 / started.elapsed().as_secs_f64();
    let score = CaptionScore::of(&said, &train.captions);
    let held_out = CaptionScore::of(&said_held_out, &test.captions);

    let started = Instant::now();
    let draw = |sample: &Sample| artist.draw(&sample.texts(), &options.sample, options.seed);
    let (drawn, drawn_held_out) = (draw(&train)?, draw(&test)?);
    let pictures = drawn.dims()[0] + drawn_held_out.dims()[0];
    let seconds = started.elapsed().as_secs_f64();

    let gallery = gallery(&artist, &data, device)?;
    let near = gallery.nearest(artist.codec(), drawn.clone(), NEAREST);
    let near_held_out = gallery.nearest(artist.codec(), drawn_held_out.clone(), NEAREST);
    let nearest = [&near, &near_held_out];
    figure(
        &gallery,
        [&train, &test],
        [&drawn, &drawn_held_out],
        nearest,
    )
    .map(|grid| save_png(&image_grid(grid, 2 + NEAREST_SHOWN, 2), &run.file(FIGURE)))
    .transpose()?;
    let colours = colours(&artist, &data, options, device)?;

    let corpus = data.test.corpus(&recipe, artist.tokenizer())?;
    let text = Perplexity::measure(artist.model(), &corpus, data.test.bytes(), device);
    let evaluation = MixedEvaluation {
        samples: [train.captions.len(), test.captions.len()],
        seed: options.seed,
        guidance_scale: options.sample.guidance_scale,
        solver_steps: options.sample.steps,
        exact_captions: score.exact,
        exact_captions_held_out: held_out.exact,
        category_named_held_out: held_out.category,
        category_named_by_majority: majority(&data.train.captions, &test.captions),
        text_perplexity: text.text,
        text_bits_per_byte: text.bits_per_byte,
        neighbours_of_category: gallery.of_category(&near, &train.captions),
        neighbours_of_category_held_out: gallery.of_category(&near_held_out, &test.captions),
        neighbours_of_category_by_chance: gallery.by_chance(&test.captions),
        asked_among_nearest: gallery.asked_among(&near, &train.captions),
        colour_agreement: colours.map(|colours| colours.drawn),
        colour_agreement_of_real: colours.map(|colours| colours.real),
        colour_agreement_by_chance: colours.map(|colours| colours.chance),
        pictures_per_second: pictures as f64 / seconds,
        captions_per_second: captioned,
    };
    let json = serde_json::to_vec_pretty(&evaluation).unwrap_or_default();
    write_atomically(&run.file("evaluation.json"), &json)?;
    report::write_mixed_report(&run, &recipe)?;
    Ok(evaluation)
}

const FIGURE: &str = "samples/evaluation.png";

/// All pictures of both splits.
fn gallery(artist: &Artist, data: &MixedData, device: &Device) -> Result<Gallery, TrainError> {
    let (train, test) = (&data.pictures.train, &data.pictures.test);
    let pictures = [
        read_all(train, train.len(), device)?,
        read_all(test, test.len(), device)?,
    ];
    let captions = [&data.train.captions[..], &data.test.captions[..]].concat();
    Ok(Gallery::new(
        artist.codec(),
        Tensor::cat(pictures.to_vec(), 0),
        captions,
    ))
}

/// Rows of what was asked for, what was drawn, and what is nearest to that, half of each split.
fn figure(
    gallery: &Gallery,
    samples: [&Sample; 2],
    drawn: [&Tensor<4>; 2],
    nearest: [&Vec<Vec<usize>>; 2],
) -> Option<Tensor<4>> {
    let mut rows = Vec::new();
    for split in 0..2 {
        let count = samples[split].captions.len();
        let shown = (SHOWN / 2).min(count);
        for row in 0..shown {
            let index = row * count / shown;
            rows.push(samples[split].pictures.clone().narrow(0, index, 1));
            rows.push(drawn[split].clone().narrow(0, index, 1));
            let near = nearest[split][index].iter().take(NEAREST_SHOWN);
            rows.extend(near.map(|&near| gallery.picture(near)));
        }
    }
    (!rows.is_empty()).then(|| Tensor::cat(rows, 0))
}

/// Whether pictures have the colours that their captions name.
#[derive(Clone, Copy)]
struct Colours {
    drawn: f64,
    real: f64,
    chance: f64,
}

/// `None` where captions name fewer than two colours.
fn colours(
    artist: &Artist,
    data: &MixedData,
    options: &EvaluateMixedOptions,
    device: &Device,
) -> Result<Option<Colours>, TrainError> {
    let (pictures, captions) = (&data.pictures.train, &data.train.captions);
    let Some(named) = super::neighbours::named_colours(captions) else {
        return Ok(None);
    };
    let picked: Vec<usize> = named.iter().map(|(index, _)| *index).collect();
    let real = crate::image::HostBatch::read(pictures, &picked, &[])?.tensor(device);
    let texts: Vec<String> = picked.iter().map(|&i| captions[i].text.clone()).collect();
    let drawn = artist.draw(&texts, &options.sample, options.seed)?;
    let names: Vec<usize> = named.iter().map(|(_, colour)| *colour).collect();
    let kinds: std::collections::BTreeSet<usize> = names.iter().copied().collect();
    Ok(Some(Colours {
        drawn: colour_agreement(&drawn, &real, &names),
        real: colour_agreement(&real, &real, &names),
        chance: 1.0 / kinds.len() as f64,
    }))
}
