//! The sigma-VAE with several scales of noise against a learned variance (paper §2.3 and its
//! ablation): codec and language model for each.

use std::time::Instant;

use burn::config::Config;
use latentlm::codec_image::NoiseKind;
use latentlm_eval::{ComparedSoFar, EvaluateOptions, ImageEvaluation, line_chart, stack};
use latentlm_pipelines::{ImageRecipe, PipelineError, Recipe, checked_within, declare_recipe};
use latentlm_train::{Result, RunEnd, RunOptions, phases, train_image};
use serde::{Deserialize, Serialize};

use super::begin::begin;
use super::recipe::{codec_of, key_table};
use super::result::{self, Column, end, report, sample_note, write_result};
use super::variants::measure;

/// Most bytes of a run's name with the scale's digits after the point.
const LONGEST_NAME: usize = 40;

/// A comparison of codecs.
#[derive(Config, Debug, PartialEq)]
pub struct SigmaRecipe {
    /// Scales of the noise, `codec.noise_std` of the sigma-VAEs.
    pub noise_stds: Vec<f64>,
    /// Pictures drawn for a measurement.
    pub samples: usize,
    /// Everything but the noise.
    pub image: ImageRecipe,
}

declare_recipe! {
    /// The file `configs/compare/sigma.toml`.
    SigmaRecipe {
        command: "compare sigma",
        keys: "latentlm-compare/sigma" in key_table,
        parts: codec_of("image", "image/mnist"),
        seed: image.seed,
        check: SigmaRecipe::check,
    }
}

impl SigmaRecipe {
    fn check(&self) -> Result<(), PipelineError> {
        for noise_std in self.scales() {
            let checked = self.variant(noise_std).check_together();
            checked_within::<ImageRecipe, _>("image.", checked)?;
        }
        if self.noise_stds.is_empty() || !self.noise_stds.is_sorted_by(|a, b| a < b) {
            let reason = "noise_stds must have one value at least, and rise";
            return Err(PipelineError::config(reason));
        }
        Ok(())
    }

    /// The scale of each codec's noise; `None` for the learned variance.
    fn scales(&self) -> impl Iterator<Item = Option<f64>> {
        self.noise_stds.iter().copied().map(Some).chain([None])
    }

    /// The recipe with a scale of noise.
    fn variant(&self, noise_std: Option<f64>) -> ImageRecipe {
        let mut recipe = self.image.clone();
        recipe.codec.noise = NoiseKind::Learned;
        if let Some(std) = noise_std {
            recipe.codec.noise = NoiseKind::SigmaVae;
            recipe.codec.noise_std = std;
        }
        recipe
    }
}

/// Name of the run with a scale of noise. File systems limit the length of names.
fn name(noise_std: Option<f64>) -> String {
    let Some(std) = noise_std else {
        return "learned".into();
    };
    let plain = format!("sigma-{std}");
    if plain.len() <= LONGEST_NAME {
        plain
    } else {
        format!("sigma-{std:e}")
    }
}

/// The measurements of one codec and its language model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigmaResult {
    /// Name of its run within the comparison's folder.
    pub name: String,
    /// Scale of the noise; `None` if the variance is learned.
    pub noise_std: Option<f64>,
    /// Its measurements.
    pub evaluation: ImageEvaluation,
}

/// Trains codec and language model for every kind of noise, or continues, each an image run within
/// the run's folder, and writes `sigma.json`, `sigma.md` and `sigma.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, or a file can't be written.
pub fn compare_sigma(recipe: SigmaRecipe, options: RunOptions) -> Result<RunEnd> {
    RunEnd::of(compare(recipe, options))
}

fn compare(recipe: SigmaRecipe, options: RunOptions) -> Result<RunEnd> {
    let started = Instant::now();
    let trainings: Vec<ImageRecipe> = recipe.scales().map(|std| recipe.variant(std)).collect();
    let (folder, options) = begin(&recipe, &trainings, options)?;
    let evaluate = EvaluateOptions {
        samples: recipe.samples,
        seed: recipe.seed(),
        // The same for all: they differ in their codecs.
        sample: recipe.image.sample_options(),
        weights: None,
        phase: phases(options.progress),
    };
    let mut results = Vec::new();
    for noise_std in recipe.scales() {
        let name = name(noise_std);
        let part = options.part(&name);
        let path = part.path.clone();
        if train_image(recipe.variant(noise_std), part)? == RunEnd::Stopped {
            return Ok(RunEnd::Stopped);
        }
        results.push(SigmaResult {
            name,
            noise_std,
            evaluation: measure(&path, &evaluate, &options)?,
        });
        if options.interrupter.should_stop() {
            return Ok(RunEnd::Stopped);
        }
        let found = ComparedSoFar {
            table: &table(&results),
            figure: &figure(&results),
            stages: &[],
        };
        report(&folder.run, &recipe, &found, options.progress);
    }
    let (table, figure) = (table(&results), figure(&results));
    write_result(&folder.run, "sigma", &results, table, figure)?;
    Ok(end(&folder.run, "sigma", started))
}

/// A row for each codec, and of how many pictures the distances are.
fn table(results: &[SigmaResult]) -> String {
    let rows = results
        .iter()
        .map(|result| (vec![result.name.clone()], &result.evaluation));
    let mut table = result::table(&["codec"], &columns(), rows);
    if let Some(SigmaResult { evaluation, .. }) = results.first() {
        table += &sample_note(evaluation.samples, evaluation.held_out);
    }
    table
}

/// Numbers of each codec: reconstruction, the same with noise, class agreement, Frechet distance.
fn columns() -> [Column<ImageEvaluation>; 4] {
    let column = Column::<ImageEvaluation>::new;
    [
        column("reconstruction, dB", 2, |e| {
            Some(e.reconstruction.reconstruction_psnr_db)
        }),
        column("with its noise, dB", 2, |e| {
            Some(e.reconstruction.noisy_reconstruction_psnr_db)
        }),
        column("class agreement", 3, |e| Some(e.verdict.class_agreement)),
        column("Frechet distance", 2, |e| Some(e.verdict.frechet_distance)),
    ]
}

fn figure(results: &[SigmaResult]) -> String {
    let [reconstruction, _, _, distance] = columns();
    let distance = chart(results, &distance);
    let reconstruction = chart(results, &reconstruction);
    stack(&[
        ("Frechet distance of generated pictures", distance),
        ("PSNR of reconstructed pictures in dB", reconstruction),
    ])
}

/// A curve over the noise's scale; the learned variance, which has none, is a level line.
fn chart(results: &[SigmaResult], column: &Column<ImageEvaluation>) -> String {
    let scaled = results.iter();
    let scaled = scaled.filter_map(|own| Some((own.noise_std?, &own.evaluation)));
    let curve = column.curve("sigma-VAE", scaled);
    let learned = results.iter().find(|own| own.noise_std.is_none());
    let ends = [curve.points.first(), curve.points.last()].into_iter();
    let level = ends.filter_map(|end| Some((end?.0, &learned?.evaluation)));
    let level = column.curve("learned variance", level);
    line_chart("noise_std", &[level, curve], false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_in_their_noise_alone() {
        let recipe = SigmaRecipe::default();
        let names: Vec<String> = recipe.scales().map(name).collect();
        assert_eq!(names[..2], ["sigma-0.1", "sigma-0.25"]);
        assert_eq!(names[names.len() - 1], "learned");
        let others = [1.0, 0.0, 1e-300].map(|std| name(Some(std)));
        assert_eq!(others, ["sigma-1", "sigma-0", "sigma-1e-300"]);
        for noise_std in recipe.scales() {
            let mut same = recipe.variant(noise_std);
            let learned = same.codec.noise == NoiseKind::Learned;
            assert_eq!(learned, noise_std.is_none());
            same.codec.noise = recipe.image.codec.noise;
            same.codec.noise_std = recipe.image.codec.noise_std;
            assert_eq!(same, recipe.image, "{}", name(noise_std));
        }
    }

    #[test]
    fn scales_must_rise() {
        let recipe = SigmaRecipe {
            noise_stds: vec![0.5, 0.25],
            ..SigmaRecipe::default()
        };
        let message = recipe.validate().unwrap_err().to_string();
        assert!(message.contains("noise_stds"), "{message}");
    }
}
