//! Evaluation of a run of images.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use latentlm::{LatentCodec, RandomStream};
use latentlm_pipelines::{
    ImageData, ImagePipeline, ImageRecipe, RunFolder, draw_latents, host_values, image_grid,
    read_all, read_evenly, save_png,
};
use serde::{Deserialize, Serialize};

use super::classifier::FEATURES;
use super::command_judge::{CommandJudge, CommandVerdict};
use super::distance::{mean_square, psnr, singular, ssim};
use super::judge::{Judge, Verdict, even_labels, labels as real_labels};
use crate::error::Result;
use crate::evaluation::{self, EvaluateOptions, MeasuredWeights, begin_phase};
use crate::report::write_image_report;
use crate::speech::Listener;
use crate::statistics::{mean, median, smallest};

/// Range of pixels, which are in `[-1, 1]`.
const PIXEL_RANGE: f64 = 2.0;

/// Draws of the same pictures that are timed, at most.
const TIMED: usize = 5;
/// Seconds of drawing after which no further draw begins.
const TIMED_S: f64 = 1.0;

/// The measurements. Distances between pictures are root mean squares of pixels in `[-1, 1]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageEvaluation {
    /// Step of the checkpoint.
    pub step: u64,
    /// Number of generated pictures.
    pub samples: usize,
    /// Seed of the generated pictures.
    pub seed: u64,
    /// Guidance scale of the generated pictures.
    pub guidance_scale: f64,
    /// Solver steps per latent.
    pub solver_steps: usize,
    /// Type of the language model's weights.
    #[serde(default)]
    pub weights: MeasuredWeights,
    /// Quality of the codec.
    #[serde(flatten)]
    pub reconstruction: Reconstruction,
    /// Accuracy of the classifier on held-out real pictures.
    pub classifier_accuracy: f64,
    /// What the judge says of the generated pictures.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What another judge says, if one was asked.
    #[serde(flatten)]
    pub other_judge: CommandVerdict,
    /// Frechet distance of as many training pictures to held-out ones.
    pub frechet_distance_of_real: f64,
    /// Mean distance of a generated picture to its nearest training picture.
    pub nearest_training_distance: f64,
    /// Mean distance of a held-out picture to its nearest training picture. If it is much larger than
    /// that of generated ones, the model copies training pictures.
    pub nearest_training_distance_of_real: f64,
    /// Smallest distance of any generated picture to a training picture.
    pub smallest_training_distance: f64,
    /// Mean distance between generated pictures of a class, divided by that between real ones.
    pub diversity: f64,
    /// `diversity` of the worst class.
    pub worst_class_diversity: f64,
    /// Generated pictures per second on the device of this evaluation: the median of several draws, if one takes less than
    /// a second.
    pub samples_per_second: f64,
    /// Number of held-out pictures; 0 if the measurements were read from a file, which lacks it.
    #[serde(skip)]
    pub held_out: usize,
}

impl ImageEvaluation {
    /// Why the Frechet distance is doubtful, in one line; `None` if it is not.
    pub fn warning(&self) -> Option<String> {
        frechet_warning(self.samples, self.held_out)
    }
}

/// A line that says why the Frechet distance of `drawn` and `held_out` pictures is doubtful; `None` if there are
/// enough of both. `held_out` is 0 if their number is not known.
pub fn frechet_warning(drawn: usize, held_out: usize) -> Option<String> {
    let sets = [(drawn, "drawn pictures"), (held_out, "held-out pictures")];
    let known = if held_out > 0 { 2 } else { 1 };
    singular(&sets[..known], FEATURES)
}

/// Measures a run and writes `evaluation.json`, a grid of samples and the report.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, or a file can't be written.
pub fn evaluate_image(
    path: &Path,
    options: &EvaluateOptions,
    device: &Device,
) -> Result<ImageEvaluation> {
    evaluate_image_by(path, options, &Judges::default(), device)
}

/// The judges of an evaluation.
#[derive(Debug, Clone, Copy, Default)]
pub struct Judges<'a> {
    /// Folder of our judge, for evaluations of several runs on the same pictures ([`Judge::kept`]). Without it
    /// every evaluation trains its own, which is the same.
    pub folder: Option<&'a Path>,
    /// Another judge: a command that takes paths of PNG files after its own arguments, and prints a line for
    /// each: path, tab, name of the class. Pictures and answers stay in the folder `evaluation` of the run.
    pub command: Option<&'a Listener>,
}

impl Judges<'_> {
    /// Our judge. `held_out` are all held-out pictures of `data`, `[B, C, H, W]`.
    fn own(&self, data: &ImageData, held_out: Tensor<4>) -> Result<Judge> {
        match self.folder {
            Some(folder) => Judge::kept(folder, data, held_out),
            None => Judge::train(data, held_out),
        }
    }
}

/// [`evaluate_image`], with judges of choice.
///
/// # Errors
/// As [`evaluate_image`]; if the command fails or says nothing of a picture.
pub fn evaluate_image_by(
    path: &Path,
    options: &EvaluateOptions,
    judges: &Judges<'_>,
    device: &Device,
) -> Result<ImageEvaluation> {
    let (run, recipe) = RunFolder::<ImageRecipe>::open(path)?;
    let generator = ImagePipeline::from_run(path, device)?;
    let generator = generator.with_small_weights(options.weights);
    let data = ImageData::open(&recipe)?;
    let (train, test) = (&data.train, &data.test);
    if train.len() < 2 || test.len() < 2 {
        let least = "two training and two held-out pictures are the least to measure with";
        return Err(run.error(least).into());
    }
    let classes = train.classes().len();
    let labels = even_labels(options.samples, classes);

    begin_phase(options.phase, &format!("drawing {} pictures", labels.len()))?;
    let (generated, seconds) = timed(|| generator.draw(&labels, &options.sample, options.seed))?;
    let grid = image_grid(generated.clone(), labels.len() / classes, 1);
    save_png(&grid, &run.file("samples/evaluation.png"))?;

    begin_phase(options.phase, "measuring the codec")?;
    let held_out = read_all(test, device)?;
    let known = read_all(train, device)?;
    let reconstruction = reconstruction(&generator, held_out.clone(), options.seed);
    begin_phase(options.phase, "training the judge on real pictures")?;
    let judge = judges.own(&data, held_out.clone())?;
    let verdict = judge.measure(generated.clone(), &labels);
    let same_many = read_evenly(train, labels.len(), device)?;

    let mut other_judge = CommandVerdict::default();
    if let Some(command) = judges.command {
        begin_phase(options.phase, "showing pictures to the judge's command")?;
        let judge = CommandJudge {
            command,
            folder: run.file("evaluation"),
            classes: train.classes(),
        };
        let agreement = judge.agreement("drawn", &generated, &labels)?;
        let accuracy = judge.agreement("real", &held_out, &real_labels(test))?;
        other_judge.judge_class_agreement = Some(agreement);
        other_judge.judge_accuracy_of_real = Some(accuracy);
    }

    begin_phase(options.phase, "comparing drawn with real pictures")?;
    let nearest = nearest_distances(generated.clone(), known.clone());
    let nearest_real = nearest_distances(held_out.clone(), known);
    let spread = spreads(&generated, &labels, classes);
    let real_spread = spreads(&held_out, &real_labels(test), classes);
    let diversity = diversities(&spread, &real_spread);

    let evaluation = ImageEvaluation {
        step: generator.manifest.step,
        samples: labels.len(),
        seed: options.seed,
        guidance_scale: options.sample.guidance_scale,
        solver_steps: options.sample.steps,
        weights: options.weights.into(),
        reconstruction,
        classifier_accuracy: judge.accuracy,
        verdict,
        other_judge,
        frechet_distance_of_real: judge.frechet_distance(same_many),
        smallest_training_distance: smallest(&nearest),
        nearest_training_distance: mean(nearest).unwrap_or_default(),
        nearest_training_distance_of_real: mean(nearest_real).unwrap_or_default(),
        worst_class_diversity: smallest(&diversity),
        diversity: mean(diversity).unwrap_or_default(),
        samples_per_second: labels.len() as f64 / seconds,
        held_out: test.len(),
    };
    evaluation::write(&run, &evaluation, device)?;
    write_image_report(&run, &recipe)?;
    Ok(evaluation)
}

/// What is drawn, and the seconds that it takes. The first draw of a fast head takes a fraction of a second, much of it for
/// what later ones have ready.
fn timed<T, E>(draw: impl Fn() -> Result<T, E>) -> Result<(T, f64), E> {
    let mut seconds = Vec::with_capacity(TIMED);
    loop {
        let started = Instant::now();
        let drawn = draw()?;
        seconds.push(started.elapsed().as_secs_f64());
        let total: f64 = seconds.iter().sum();
        if total > TIMED_S || seconds.len() == TIMED {
            return Ok((drawn, median(seconds)));
        }
    }
}

/// Spreads of generated pictures, divided by those of real ones; without classes whose real pictures have
/// none.
fn diversities(spreads: &[f64], real: &[f64]) -> Vec<f64> {
    let pairs = spreads.iter().zip(real).filter(|(_, real)| **real > 0.0);
    pairs.map(|(drawn, real)| drawn / real).collect()
}

/// Quality of the codec on held-out pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Reconstruction {
    /// PSNR of held-out pictures through the codec, without noise in the latents.
    pub reconstruction_psnr_db: f64,
    /// Structural similarity (SSIM) of the same.
    pub reconstruction_ssim: f64,
    /// PSNR of held-out pictures through the codec, with the noise of training in the latents.
    pub noisy_reconstruction_psnr_db: f64,
}

/// Encodes and decodes pictures, with and without noise in the latents.
fn reconstruction(generator: &ImagePipeline, pictures: Tensor<4>, seed: u64) -> Reconstruction {
    let [_, _, height, width] = pictures.dims();
    let mut random = RandomStream::for_step(seed, "reconstruction", 0);
    let (mut clean, mut noisy) = (Vec::new(), Vec::new());
    for batch in pictures.clone().split(100, 0) {
        let posterior = generator.codec.encode(batch);
        let decode = |latents| host_values(generator.codec.decode(latents).clamp(-1.0, 1.0));
        clean.extend(decode(posterior.mode()));
        noisy.extend(decode(draw_latents(&posterior, &mut random)));
    }
    let original = host_values(pictures);
    let size = height * width;
    let planes = original.chunks_exact(size).zip(clean.chunks_exact(size));
    let similarities = planes.map(|(a, b)| ssim(a, b, width, PIXEL_RANGE));
    Reconstruction {
        reconstruction_psnr_db: psnr(&original, &clean, PIXEL_RANGE),
        reconstruction_ssim: mean(similarities).unwrap_or_default(),
        noisy_reconstruction_psnr_db: psnr(&original, &noisy, PIXEL_RANGE),
    }
}

/// Pixels of each picture as a row, `[B, C * H * W]`.
fn flat(pictures: Tensor<4>) -> Tensor<2> {
    pictures.clamp(-1.0, 1.0).flatten(1, 3)
}

/// Root mean square distance of each picture to the nearest one of `known`.
fn nearest_distances(pictures: Tensor<4>, known: Tensor<4>) -> Vec<f64> {
    let (a, b) = (flat(pictures), flat(known));
    let pixels = a.dims()[1] as f64;
    let squares = |x: &Tensor<2>| x.clone().square().sum_dim(1);
    let (aa, bb) = (squares(&a), squares(&b).transpose());
    // |a - b|^2 = |a|^2 + |b|^2 - 2ab: one matrix product gives all pairs.
    let distance = aa + bb - a.matmul(b.transpose()).mul_scalar(2.0);
    host_values(distance.min_dim(1))
        .into_iter()
        .map(|d| (f64::from(d).max(0.0) / pixels).sqrt())
        .collect()
}

/// Mean distance between the pictures of each class; 0 for a class with fewer than two pictures.
fn spreads(pictures: &Tensor<4>, labels: &[u32], classes: usize) -> Vec<f64> {
    let size: usize = pictures.dims()[1..].iter().product();
    let values = host_values(flat(pictures.clone()));
    let mut spreads = Vec::with_capacity(classes);
    for class in 0..classes as u32 {
        // Fifty are enough for a mean over 1,225 pairs.
        let own: Vec<&[f32]> = values
            .chunks_exact(size)
            .zip(labels)
            .filter(|(_, label)| **label == class)
            .map(|(picture, _)| picture)
            .take(50)
            .collect();
        let pairs = (0..own.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let distances = pairs.map(|(i, j)| mean_square(own[i], own[j]).sqrt());
        spreads.push(mean(distances).unwrap_or_default());
    }
    spreads
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn pictures() -> Tensor<4> {
        let values = [[[[0.0f32, 0.0]]], [[[0.5, 0.5]]], [[[-1.0, 1.0]]]];
        Tensor::from_floats(values, &Device::default())
    }

    #[test]
    fn nearest_distances_by_hand() {
        let known = pictures().narrow(0, 0, 2);
        let got = nearest_distances(pictures(), known);
        // (-1, 1) is 1 from (0, 0); from (0.5, 0.5) it is sqrt((2.25 + 0.25) / 2).
        for (got, expected) in got.iter().zip([0.0, 0.0, 1.0]) {
            assert!((got - expected).abs() < 1e-5, "{got} {expected}");
        }
    }

    /// What is fast is drawn several times; an error ends it.
    #[test]
    fn fast_draws_are_timed_several_times() {
        let draws = Cell::new(0);
        let drawn = timed(|| {
            draws.set(draws.get() + 1);
            Ok::<_, ()>(draws.get())
        });
        let (last, seconds) = drawn.unwrap();
        assert_eq!((last, draws.get()), (TIMED, TIMED));
        assert!((0.0..TIMED_S).contains(&seconds), "{seconds}");
        assert_eq!(timed(|| Err::<(), _>(7)).unwrap_err(), 7);
    }

    #[test]
    fn spreads_by_hand() {
        let got = spreads(&pictures(), &[0, 0, 1], 3);
        assert!(
            (got[0] - 0.5).abs() < 1e-6 && got[1..] == [0.0, 0.0],
            "{got:?}"
        );
    }
}
