//! How solver steps and guidance change what a finished model draws.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm_eval::{Series, Verdict, even_labels, line_chart, stack};
use latentlm_pipelines::{ImageData, ImagePipeline, ImageRecipe, RunFolder, TrainingData};
use latentlm_train::TrainError;
use serde::{Deserialize, Serialize};

use super::judge::{Judged, judge};
use super::result::{Column, table, write_result};

/// Values to try. One setting is varied at a time; the other keeps the recipe's value.
#[derive(Debug, Clone)]
pub struct CompareSamplingOptions {
    /// Solver steps per latent.
    pub steps: Vec<usize>,
    /// Scales of the guidance.
    pub guidance_scales: Vec<f64>,
    /// Pictures of each measurement.
    pub samples: usize,
    /// Seed of the pictures.
    pub seed: u64,
}

/// One measurement.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SampledPoint {
    /// Solver steps per latent.
    pub steps: usize,
    /// Guidance.
    pub guidance_scale: f64,
    /// Quality.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Pictures drawn per second, codec included.
    pub images_per_second: f64,
}

/// The measurements of both sweeps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Sweeps {
    steps: Vec<SampledPoint>,
    guidance: Vec<SampledPoint>,
}

/// Measures a finished image run with several numbers of solver steps and scales of guidance, and
/// writes `sampling.json`, `sampling.md` and `sampling.svg` into its folder. Returns the table's path.
///
/// # Errors
/// If the run has no finished checkpoint, its data can't be read, an option is invalid, or a file
/// can't be written.
pub fn compare_sampling(
    path: &Path,
    options: &CompareSamplingOptions,
    device: &Device,
) -> Result<PathBuf, TrainError> {
    let (run, recipe) = RunFolder::<ImageRecipe>::open(path)?;
    let generator = ImagePipeline::from_run(path, device)?;
    let data = ImageData::open(&recipe)?;
    if data.test.len() < 2 || options.samples < 2 {
        let least = "two pictures, held out and drawn, are the least to measure with";
        return Err(run.error(least).into());
    }
    let judge = judge(&data, device)?;
    let labels = even_labels(options.samples, data.classes().len());
    let measure = |sample: SampleOptions| -> Result<SampledPoint, TrainError> {
        let judged = Judged::measure(&judge, &labels, device, || {
            Ok(generator.draw(&labels, &sample, options.seed)?)
        })?;
        Ok(SampledPoint {
            steps: sample.steps,
            guidance_scale: sample.guidance_scale,
            verdict: judged.verdict,
            images_per_second: judged.images_per_second,
        })
    };
    let own = recipe.sample_options();
    let steps = options
        .steps
        .iter()
        .map(|&steps| measure(SampleOptions { steps, ..own }));
    let guidance = options.guidance_scales.iter().map(|&guidance_scale| {
        measure(SampleOptions {
            guidance_scale,
            ..own
        })
    });
    let sweeps = Sweeps {
        steps: steps.collect::<Result<_, _>>()?,
        guidance: guidance.collect::<Result<_, _>>()?,
    };
    write_result(&run, "sampling", &sweeps, sweeps.table(), sweeps.figure())?;
    Ok(run.file("sampling.md"))
}

impl Sweeps {
    fn table(&self) -> String {
        let column = Column::<SampledPoint>::new;
        let columns = [
            column("class agreement", 3, |p| Some(p.verdict.class_agreement)),
            column("Frechet distance", 2, |p| Some(p.verdict.frechet_distance)),
            column("images a second", 1, |p| Some(p.images_per_second)),
        ];
        let rows = self.steps.iter().chain(&self.guidance).map(|point| {
            let labels = [point.steps.to_string(), point.guidance_scale.to_string()];
            (labels.to_vec(), point)
        });
        table(&["solver steps", "guidance"], &columns, rows)
    }

    fn figure(&self) -> String {
        let steps = chart("steps", &self.steps, |point| point.steps as f64);
        let guidance = chart("guidance", &self.guidance, |point| point.guidance_scale);
        stack(&[
            ("solver steps a latent", steps),
            ("scale of the guidance", guidance),
        ])
    }
}

/// Frechet distance against the varied setting.
fn chart(label: &str, points: &[SampledPoint], varied: fn(&SampledPoint) -> f64) -> String {
    let series = Series {
        name: "Frechet distance",
        points: points
            .iter()
            .map(|point| (varied(point), point.verdict.frechet_distance))
            .collect(),
    };
    line_chart(label, &[series], false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_measurement_has_a_row() {
        let point = |steps, guidance_scale| SampledPoint {
            steps,
            guidance_scale,
            verdict: Verdict {
                class_agreement: 0.5,
                worst_class_agreement: 0.25,
                frechet_distance: 12.0,
            },
            images_per_second: 30.0,
        };
        let sweeps = Sweeps {
            steps: vec![point(5, 2.0), point(20, 2.0)],
            guidance: vec![point(20, 1.5)],
        };
        let table = sweeps.table();
        assert_eq!(table.lines().count(), 5);
        assert!(
            table.contains("| 20 | 1.5 | 0.500 | 12.00 | 30.0 |"),
            "{table}"
        );
        assert!(sweeps.figure().contains("scale of the guidance"));
    }
}
