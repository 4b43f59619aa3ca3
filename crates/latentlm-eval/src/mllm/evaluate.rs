//! Evaluation of a run of text and pictures.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use latentlm_data::Mix;
use latentlm_pipelines::{
    MllmData, MllmPipeline, MllmRecipe, MllmSplit, RunFolder, evenly, image_grid, save_png,
};
use serde::{Deserialize, Serialize};

use super::captions::{CAPTIONS, caption_pairs, write_captions};
use super::colours::{Colours, colour_distances};
use super::measure::{categories_named, exact_captions, majority, text_surprise};
use super::neighbours::{Gallery, by_chance};
use super::report::write_mllm_report;
use super::sample::Sample;
use crate::error::Result;
use crate::evaluation::{self, EvaluateOptions, MeasuredWeights, begin_phase};
use crate::statistics::mean;

/// Number of captions in the picture of samples.
const SHOWN: usize = 24;
/// Number of nearest neighbours in the picture of samples.
const NEAREST_SHOWN: usize = 4;

/// The measurements. Those of captions, neighbours and colours are fractions. A number that can't be
/// measured on the data is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MllmEvaluation {
    /// Number of pictures captioned and drawn, of the training split and of the held-out split.
    pub samples: [usize; 2],
    /// Seed of the drawn pictures.
    pub seed: u64,
    /// Guidance scale of the drawn pictures.
    pub guidance_scale: f64,
    /// Solver steps per latent.
    pub solver_steps: usize,
    /// Type of the language model's weights.
    #[serde(default)]
    pub weights: MeasuredWeights,
    /// Training pictures whose caption is exactly right.
    pub exact_captions: f64,
    /// Held-out pictures whose caption is exactly right.
    pub exact_captions_held_out: f64,
    /// Held-out pictures whose caption names the right category.
    pub category_named_held_out: Option<f64>,
    /// `category_named_held_out` of a caption that always names the largest category.
    pub category_named_by_majority: Option<f64>,
    /// Perplexity of held-out text.
    pub text_perplexity: Option<f64>,
    /// Cross entropy of a byte of held-out text in bits.
    pub text_bits_per_byte: Option<f64>,
    /// Neighbours with the category of the caption, among the ten real pictures nearest to a
    /// picture drawn for a training caption.
    pub neighbours_of_category: Option<f64>,
    /// `neighbours_of_category` for held-out captions.
    pub neighbours_of_category_held_out: Option<f64>,
    /// `neighbours_of_category` with random neighbours.
    pub neighbours_of_category_by_chance: Option<f64>,
    /// `neighbours_of_category` of real pictures instead of drawn ones. A real picture is its own
    /// nearest neighbour, so this is about the largest value that can be reached.
    #[serde(default)]
    pub neighbours_of_category_of_real: Option<f64>,
    /// Training captions whose real picture is among the ten nearest to the drawn one.
    pub asked_among_nearest: f64,
    /// How often pictures have the colour that their caption names.
    #[serde(flatten)]
    pub colours: Colours,
    /// Mean distance between the mean colours of a picture drawn for a training caption and of the
    /// real picture, in RGB of `[-1, 1]`, without backgrounds.
    pub colour_distance: f64,
    /// `colour_distance` to the real picture of another caption.
    pub colour_distance_shuffled: f64,
    /// `colour_distance` for held-out captions.
    pub colour_distance_held_out: f64,
    /// `colour_distance_shuffled` for held-out captions.
    pub colour_distance_held_out_shuffled: f64,
    /// Drawn pictures per second on the device of this evaluation.
    pub pictures_per_second: f64,
    /// Generated captions per second on the device of this evaluation.
    pub captions_per_second: f64,
}

/// Captions and pictures that the model generated for a sample of a split.
struct Attempt {
    /// Real pictures and captions.
    asked: Sample,
    /// Captions generated for the pictures.
    said: Vec<String>,
    /// Pictures drawn for the captions, `[B, C, H, W]`.
    drawn: Tensor<4>,
    /// Nearest real pictures of each drawn picture.
    nearest: Vec<Vec<usize>>,
    /// Time spent on captions.
    captioned_s: f64,
    /// Time spent on pictures.
    drawn_s: f64,
}

impl Attempt {
    /// Captions pictures of a split and draws pictures for their captions.
    fn of(
        split: &MllmSplit,
        pipeline: &MllmPipeline,
        gallery: &Gallery,
        options: &EvaluateOptions,
    ) -> Result<Self> {
        let phase = format!("captioning and drawing {} pictures", options.samples);
        begin_phase(options.phase, &phase)?;
        let asked = Sample::of(split, options.samples, &pipeline.device)?;
        let started = Instant::now();
        let said = pipeline.caption(asked.pictures.clone())?;
        let captioned_s = started.elapsed().as_secs_f64();
        let started = Instant::now();
        let drawn = pipeline.draw(&asked.texts(), &options.sample, options.seed)?;
        Ok(Self {
            captioned_s,
            drawn_s: started.elapsed().as_secs_f64(),
            nearest: gallery.nearest(drawn.clone()),
            asked,
            said,
            drawn,
        })
    }

    /// Fraction of captions that are exactly right; 0 if there are none.
    fn exact_captions(&self) -> f64 {
        exact_captions(&self.said, &self.asked.captions).unwrap_or_default()
    }
}

/// Measures a run and writes `evaluation.json`, `captions.tsv`, a picture of samples and the report.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, or a file can't be written.
pub fn evaluate_mllm(
    path: &Path,
    options: &EvaluateOptions,
    device: &Device,
) -> Result<MllmEvaluation> {
    let (run, recipe) = RunFolder::<MllmRecipe>::open(path)?;
    let pipeline = MllmPipeline::from_run(path, device)?;
    let pipeline = pipeline.with_small_weights(options.weights);
    let data = MllmData::open(&recipe)?;
    begin_phase(options.phase, "encoding the real pictures")?;
    let gallery = Gallery::open(&pipeline.codec, &data, device)?;
    let train = Attempt::of(&data.train, &pipeline, &gallery, options)?;
    let test = Attempt::of(&data.test, &pipeline, &gallery, options)?;
    write_samples(&run, &gallery, [&train, &test])?;

    begin_phase(options.phase, "measuring text")?;
    let tokenizer = &pipeline.vocabulary.tokenizer;
    let corpus = data.test.documents(&recipe, tokenizer, Mix::ONCE)?;
    let nats = text_surprise(&pipeline.model, &corpus, device);
    let bits = nats.iter().sum::<f64>() / std::f64::consts::LN_2;
    begin_phase(options.phase, "measuring colours")?;
    let colours = Colours::measure(&pipeline, &data, options)?;
    let of_category =
        |nearest: &[Vec<usize>], asked: &Sample| gallery.of_category(nearest, &asked.captions);
    let nearest_of_real = gallery.nearest(train.asked.pictures.clone());
    let [distances, distances_held_out] =
        [&train, &test].map(|own| colour_distances(&own.drawn, &own.asked.pictures));
    let samples = [&train, &test].map(|attempt| attempt.said.len());
    let count = samples.iter().sum::<usize>() as f64;
    let evaluation = MllmEvaluation {
        samples,
        seed: options.seed,
        guidance_scale: options.sample.guidance_scale,
        solver_steps: options.sample.steps,
        weights: options.weights.into(),
        exact_captions: train.exact_captions(),
        exact_captions_held_out: test.exact_captions(),
        category_named_held_out: categories_named(&test.said, &test.asked.captions),
        category_named_by_majority: majority(&data.train.captions, &test.asked.captions),
        text_bits_per_byte: (!nats.is_empty()).then(|| bits / data.test.bytes() as f64),
        text_perplexity: mean(nats).map(f64::exp),
        neighbours_of_category: of_category(&train.nearest, &train.asked),
        neighbours_of_category_held_out: of_category(&test.nearest, &test.asked),
        neighbours_of_category_by_chance: by_chance(&gallery.captions, &test.asked.captions),
        neighbours_of_category_of_real: of_category(&nearest_of_real, &train.asked),
        asked_among_nearest: gallery.asked_among(&train.nearest, &train.asked.captions),
        colours,
        colour_distance: distances[0],
        colour_distance_shuffled: distances[1],
        colour_distance_held_out: distances_held_out[0],
        colour_distance_held_out_shuffled: distances_held_out[1],
        pictures_per_second: count / (train.drawn_s + test.drawn_s),
        captions_per_second: count / (train.captioned_s + test.captioned_s),
    };
    evaluation::write(&run, &evaluation, device)?;
    write_mllm_report(&run, &recipe)?;
    Ok(evaluation)
}

/// Writes the generated captions, and a picture of drawn samples: rows of a real picture, the picture drawn for its
/// caption, and the real pictures nearest to that. Half of the rows are from each split.
fn write_samples(
    run: &RunFolder<MllmRecipe>,
    gallery: &Gallery,
    attempts: [&Attempt; 2],
) -> Result<()> {
    let (mut captions, mut rows) = (Vec::new(), Vec::new());
    for (attempt, split) in attempts.iter().zip(["train", "test"]) {
        captions.push((split, caption_pairs(&attempt.asked.captions, &attempt.said)));
        for index in evenly(SHOWN / 2, attempt.said.len()) {
            rows.push(attempt.asked.pictures.clone().narrow(0, index, 1));
            rows.push(attempt.drawn.clone().narrow(0, index, 1));
            let nearest = attempt.nearest[index].iter().take(NEAREST_SHOWN);
            rows.extend(nearest.map(|&near| gallery.picture(near)));
        }
    }
    write_captions(&run.file(CAPTIONS), &captions)?;
    if !rows.is_empty() {
        let grid = image_grid(Tensor::cat(rows, 0), 2 + NEAREST_SHOWN, 2);
        save_png(&grid, &run.file("samples/evaluation.png"))?;
    }
    Ok(())
}
