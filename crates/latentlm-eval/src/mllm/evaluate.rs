//! What a run of text and pictures is worth, in numbers.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use latentlm::SampleOptions;
use latentlm::core::bundle::write_atomically;
use latentlm_data::{Caption, ImageDataset};
use latentlm_pipelines::{Artist, MixedData, MixedRecipe, RunFolder, evenly, image_grid, save_png};
use serde::{Deserialize, Serialize};

use super::captions::{CAPTIONS, SaidCaption, write_captions};
use super::colours::{ColourDistance, Colours};
use super::measure::{CaptionScore, Perplexity, majority};
use super::neighbours::Gallery;
use super::report::write_mixed_report;
use super::sample::Sample;
use crate::error::EvalError;

/// Captions whose pictures are shown.
const SHOWN: usize = 24;
/// Of the nearest pictures, how many are shown.
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
    /// The same of the real pictures asked for, themselves among their neighbours: the most that is
    /// to be had.
    #[serde(default)]
    pub neighbours_of_category_of_real: Option<f64>,
    /// Training captions whose picture is among the ten nearest to the one drawn.
    pub asked_among_nearest: f64,
    /// Of pictures drawn for captions that name a colour, those nearer to real pictures of that
    /// colour than of any other.
    pub colour_agreement: Option<f64>,
    /// The same of the real pictures.
    pub colour_agreement_of_real: Option<f64>,
    /// The same by chance.
    pub colour_agreement_by_chance: Option<f64>,
    /// The same of whoever always draws the colour that is named most.
    pub colour_agreement_by_majority: Option<f64>,
    /// Mean distance of the mean colour of a picture drawn for a training caption to that of the
    /// picture asked for, in RGB of `[-1, 1]`, backgrounds left out.
    pub colour_distance: f64,
    /// The same to the picture that another was drawn for.
    pub colour_distance_shuffled: f64,
    /// The same as `colour_distance` for held-out captions.
    pub colour_distance_held_out: f64,
    /// The same as `colour_distance_shuffled` for held-out captions.
    pub colour_distance_held_out_shuffled: f64,
    /// Drawn pictures a second, this run's device.
    pub pictures_per_second: f64,
    /// Captions a second.
    pub captions_per_second: f64,
}

/// What a model makes of a split's pictures and captions.
struct Attempt {
    asked: Sample,
    /// What it says of the pictures.
    said: Vec<String>,
    /// What it draws for the captions, `[B, C, H, W]`.
    drawn: Tensor<4>,
    /// The nearest of all pictures to each that was drawn.
    nearest: Vec<Vec<usize>>,
}

/// The seconds that captions took, and drawings.
#[derive(Default)]
struct Seconds {
    captioned: f64,
    drawn: f64,
}

impl Attempt {
    fn of(
        asked: Sample,
        artist: &Artist,
        gallery: &Gallery,
        options: &EvaluateMixedOptions,
        seconds: &mut Seconds,
    ) -> Result<Self, EvalError> {
        let started = Instant::now();
        let said = artist.caption(asked.pictures.clone())?;
        seconds.captioned += started.elapsed().as_secs_f64();
        let started = Instant::now();
        let drawn = artist.draw(&asked.texts(), &options.sample, options.seed)?;
        seconds.drawn += started.elapsed().as_secs_f64();
        Ok(Self {
            nearest: gallery.nearest(drawn.clone()),
            asked,
            said,
            drawn,
        })
    }

    fn score(&self) -> CaptionScore {
        CaptionScore::of(&self.said, &self.asked.captions)
    }

    fn of_category(&self, gallery: &Gallery) -> Option<f64> {
        gallery.of_category(&self.nearest, &self.asked.captions)
    }

    fn real_of_category(&self, gallery: &Gallery) -> Option<f64> {
        let nearest = gallery.nearest(self.asked.pictures.clone());
        gallery.of_category(&nearest, &self.asked.captions)
    }

    fn colour_distance(&self) -> ColourDistance {
        ColourDistance::measure(&self.drawn, &self.asked.pictures)
    }
}

/// Measures a run and writes `evaluation.json`, `captions.tsv`, a picture of samples and the report.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, or a file can't be written.
pub fn evaluate_mixed(
    path: &Path,
    options: &EvaluateMixedOptions,
    device: &Device,
) -> Result<MixedEvaluation, EvalError> {
    let (run, recipe) = RunFolder::<MixedRecipe>::open(path)?;
    let artist = Artist::from_run(path, device)?;
    let data = MixedData::open(&recipe)?;
    let gallery = Gallery::open(artist.codec(), &data, device)?;
    let mut seconds = Seconds::default();
    let mut attempt = |pictures: &ImageDataset, captions: &[Caption]| {
        let sample = Sample::of(pictures, captions, options.samples, device)?;
        Attempt::of(sample, &artist, &gallery, options, &mut seconds)
    };
    let train = attempt(&data.pictures.train, &data.train.captions)?;
    let test = attempt(&data.pictures.test, &data.test.captions)?;
    keep(&run, &gallery, [&train, &test])?;

    let corpus = data.test.once(&recipe, artist.tokenizer())?;
    let text = Perplexity::measure(artist.model(), &corpus, data.test.bytes(), device);
    let colours = Colours::measure(&artist, &data, options, device)?;
    let (captions, captions_held_out) = (train.score(), test.score());
    let (distance, distance_held_out) = (train.colour_distance(), test.colour_distance());
    let samples = [&train, &test].map(|attempt| attempt.said.len());
    let count = samples.iter().sum::<usize>() as f64;
    let evaluation = MixedEvaluation {
        samples,
        seed: options.seed,
        guidance_scale: options.sample.guidance_scale,
        solver_steps: options.sample.steps,
        exact_captions: captions.exact,
        exact_captions_held_out: captions_held_out.exact,
        category_named_held_out: captions_held_out.category,
        category_named_by_majority: majority(&data.train.captions, &test.asked.captions),
        text_perplexity: text.text,
        text_bits_per_byte: text.bits_per_byte,
        neighbours_of_category: train.of_category(&gallery),
        neighbours_of_category_held_out: test.of_category(&gallery),
        neighbours_of_category_by_chance: gallery.by_chance(&test.asked.captions),
        neighbours_of_category_of_real: train.real_of_category(&gallery),
        asked_among_nearest: gallery.asked_among(&train.nearest, &train.asked.captions),
        colour_agreement: colours.map(|colours| colours.drawn),
        colour_agreement_of_real: colours.map(|colours| colours.real),
        colour_agreement_by_chance: colours.map(|colours| colours.chance),
        colour_agreement_by_majority: colours.map(|colours| colours.majority),
        colour_distance: distance.asked,
        colour_distance_shuffled: distance.shuffled,
        colour_distance_held_out: distance_held_out.asked,
        colour_distance_held_out_shuffled: distance_held_out.shuffled,
        pictures_per_second: count / seconds.drawn,
        captions_per_second: count / seconds.captioned,
    };
    let json = serde_json::to_vec_pretty(&evaluation).unwrap_or_default();
    write_atomically(&run.file("evaluation.json"), &json)?;
    write_mixed_report(&run, &recipe)?;
    Ok(evaluation)
}

/// Writes what was said, and a picture of what was drawn.
fn keep(
    run: &RunFolder<MixedRecipe>,
    gallery: &Gallery,
    attempts: [&Attempt; 2],
) -> Result<(), EvalError> {
    let captions = attempts.iter().zip(["train", "test"]);
    let captions =
        captions.map(|(own, split)| SaidCaption::all(&own.asked.captions, &own.said, split));
    let captions: Vec<SaidCaption> = captions.flatten().collect();
    write_captions(&run.file(CAPTIONS), &captions)?;
    if let Some(rows) = figure(gallery, attempts) {
        let grid = image_grid(rows, 2 + NEAREST_SHOWN, 2);
        save_png(&grid, &run.file("samples/evaluation.png"))?;
    }
    Ok(())
}

/// Rows of what was asked for, what was drawn, and what is nearest to that, half of each split.
fn figure(gallery: &Gallery, attempts: [&Attempt; 2]) -> Option<Tensor<4>> {
    let mut rows = Vec::new();
    for own in attempts {
        for index in evenly(SHOWN / 2, own.said.len()) {
            rows.push(own.asked.pictures.clone().narrow(0, index, 1));
            rows.push(own.drawn.clone().narrow(0, index, 1));
            let near = own.nearest[index].iter().take(NEAREST_SHOWN);
            rows.extend(near.map(|&near| gallery.picture(near)));
        }
    }
    (!rows.is_empty()).then(|| Tensor::cat(rows, 0))
}
