//! The sigma-VAE with several scales of noise against a learned variance (paper §2.3 and its
//! ablation): codec and language model for each.

use std::sync::LazyLock;
use std::time::Instant;

use burn::config::Config;
use latentlm::codec_image::NoiseKind;
use latentlm_eval::{EvaluateOptions, ImageEvaluation, Series, evaluate_image, line_chart, stack};
use latentlm_keys::Keys;
use latentlm_pipelines::{ImageRecipe, PipelineError, Recipe, recipe_keys};
use latentlm_train::{RunEnd, RunOptions, TrainError, open_run, train_image};
use serde::{Deserialize, Serialize};

use super::recipe::{ImageTable, key_table};
use super::result::{markdown, write_result};

/// Name of the variant with a learned variance.
const LEARNED: &str = "learned";

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

static KEYS: LazyLock<Keys> = LazyLock::new(|| recipe_keys("latentlm-compare/sigma", key_table));

impl Default for SigmaRecipe {
    /// The file `configs/compare/sigma.toml`.
    fn default() -> Self {
        KEYS.preset(&ImageTable::preset())
    }
}

impl Recipe for SigmaRecipe {
    const COMMAND: &'static str = "compare sigma";

    fn keys() -> &'static Keys {
        &KEYS
    }

    fn seed(&self) -> u64 {
        self.image.seed
    }

    fn check_together(&self) -> Result<(), PipelineError> {
        for variant in self.variants() {
            variant.recipe.check_together()?;
        }
        if !self.noise_stds.is_sorted_by(|a, b| a < b) {
            return Err(PipelineError::config("noise_stds must rise"));
        }
        Ok(())
    }
}

/// One codec and the name of its run.
struct Variant {
    name: String,
    noise_std: Option<f64>,
    recipe: ImageRecipe,
}

impl SigmaRecipe {
    fn variants(&self) -> Vec<Variant> {
        let variant = |name: String, noise_std: Option<f64>| {
            let mut recipe = self.image.clone();
            recipe.codec.noise = match noise_std {
                Some(std) => {
                    recipe.codec.noise_std = std;
                    NoiseKind::SigmaVae
                }
                None => NoiseKind::Learned,
            };
            Variant {
                name,
                noise_std,
                recipe,
            }
        };
        let stds = self.noise_stds.iter();
        stds.map(|&std| variant(format!("sigma-{std}"), Some(std)))
            .chain([variant(LEARNED.into(), None)])
            .collect()
    }
}

/// What one codec led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SigmaResult {
    /// Name of its run within the comparison's folder.
    pub name: String,
    /// Scale of the noise; none where the variance is learned.
    pub noise_std: Option<f64>,
    /// Its measurements.
    pub evaluation: ImageEvaluation,
}

/// Trains codec and language model for every kind of noise, or continues, each an image run within
/// the run's folder, and writes `sigma.json`, `sigma.md` and `sigma.svg`.
///
/// # Errors
/// If the folder, recipe or data are wrong, a loss is not finite, or a file can't be written.
pub fn compare_sigma(recipe: SigmaRecipe, options: RunOptions) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    let options = options.within("image.");
    let (run, recipe) = open_run(&options.path, recipe, options.resume)?;
    let mut results = Vec::new();
    for variant in recipe.variants() {
        let part = options.part(&variant.name);
        let path = part.path.clone();
        let evaluate = EvaluateOptions {
            samples: recipe.samples,
            seed: recipe.seed(),
            sample: variant.recipe.sample_options(),
        };
        if train_image(variant.recipe, part)? == RunEnd::Stopped {
            return Ok(RunEnd::Stopped);
        }
        results.push(SigmaResult {
            name: variant.name,
            noise_std: variant.noise_std,
            evaluation: evaluate_image(&path, &evaluate, &options.device)?,
        });
    }
    let files = write_result(&run, "sigma", &results, (table(&results), figure(&results)))?;
    Ok(files.end(started))
}

fn table(results: &[SigmaResult]) -> String {
    let rows = results.iter().map(|result| {
        let evaluation = &result.evaluation;
        vec![
            result.name.clone(),
            format!("{:.2}", evaluation.reconstruction_psnr_db),
            format!("{:.2}", evaluation.noisy_reconstruction_psnr_db),
            format!("{:.3}", evaluation.class_agreement),
            format!("{:.2}", evaluation.frechet_distance),
        ]
    });
    let head = [
        "codec",
        "reconstruction, dB",
        "with its noise, dB",
        "class agreement",
        "Frechet distance",
    ];
    markdown(&head, &rows.collect::<Vec<_>>())
}

/// Curves over the noise's scale; the learned variance, which has none, is a level line.
fn figure(results: &[SigmaResult]) -> String {
    let chart = |value: fn(&ImageEvaluation) -> f64| {
        let points: Vec<(f64, f64)> = results
            .iter()
            .filter_map(|result| Some((result.noise_std?, value(&result.evaluation))))
            .collect();
        let ends = points.first().into_iter().chain(points.last());
        let ends: Vec<f64> = ends.map(|point| point.0).collect();
        let learned = results.iter().filter(|result| result.noise_std.is_none());
        let level = learned.flat_map(|result| {
            let level = value(&result.evaluation);
            ends.iter().map(move |&x| (x, level))
        });
        let series = [
            Series {
                name: "learned variance",
                points: level.collect(),
            },
            Series {
                name: "sigma-VAE",
                points,
            },
        ];
        line_chart("noise_std", &series, false)
    };
    stack(&[
        (
            "Frechet distance of generated pictures",
            chart(|evaluation| evaluation.frechet_distance),
        ),
        (
            "PSNR of reconstructed pictures in dB",
            chart(|evaluation| evaluation.reconstruction_psnr_db),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_differ_in_their_noise_alone() {
        let recipe = SigmaRecipe::default();
        let variants = recipe.variants();
        let names: Vec<&str> = variants.iter().map(|v| v.name.as_str()).collect();
        assert_eq!(names[..2], ["sigma-0.1", "sigma-0.25"]);
        assert_eq!(names.last(), Some(&LEARNED));
        for variant in &variants {
            let mut same = variant.recipe.clone();
            same.codec.noise = recipe.image.codec.noise;
            same.codec.noise_std = recipe.image.codec.noise_std;
            assert_eq!(same, recipe.image, "{}", variant.name);
        }
        let last = &variants[variants.len() - 1];
        assert_eq!(last.recipe.codec.noise, NoiseKind::Learned);
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
