//! How solver steps and guidance change what a finished model draws.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm_eval::{Judge, Series, Verdict, even_labels, line_chart, stack};
use latentlm_pipelines::{ImageData, ImagePipeline, ImageRecipe, RunFolder, read_all};
use latentlm_train::TrainError;
use serde::{Deserialize, Serialize};

use super::result::{markdown, write_result};

/// What is varied, one at a time; the other stays as the recipe has it.
#[derive(Debug, Clone)]
pub struct CompareSamplingOptions {
    /// Solver steps a latent.
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
    /// Solver steps a latent.
    pub steps: usize,
    /// Guidance.
    pub guidance_scale: f64,
    /// Quality.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Pictures drawn a second, codec included.
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
/// If the run has no finished checkpoint, its data can't be read, an option can't be, or a file can't
/// be written.
pub fn compare_sampling(
    path: &Path,
    options: &CompareSamplingOptions,
    device: &Device,
) -> Result<PathBuf, TrainError> {
    let (run, recipe) = RunFolder::<ImageRecipe>::open(path)?;
    let generator = ImagePipeline::from_run(path, device)?;
    let ImageData { train, test } = ImageData::open(&recipe)?;
    if test.len() < 2 || options.samples < 2 {
        let least = "two pictures, held out and drawn, are the least to measure with";
        return Err(run.error(least).into());
    }
    let classes = train.classes().len();
    let known: Vec<u32> = (0..test.len()).map(|index| test.label(index)).collect();
    let judge = Judge::train(&train, read_all(&test, test.len(), device)?, &known)?;
    let labels = even_labels(options.samples, classes);
    let measure = |sample: SampleOptions| -> Result<SampledPoint, TrainError> {
        let started = Instant::now();
        let pictures = generator.draw(&labels, &sample, options.seed)?;
        // A device that fails here fails again at the next read.
        let _ = device.sync();
        let seconds = started.elapsed().as_secs_f64();
        Ok(SampledPoint {
            steps: sample.steps,
            guidance_scale: sample.guidance_scale,
            verdict: judge.measure(pictures, &labels),
            images_per_second: labels.len() as f64 / seconds,
        })
    };
    let own = recipe.sample_options();
    let steps = options
        .steps
        .iter()
        .map(|&steps| SampleOptions { steps, ..own });
    let scales = options.guidance_scales.iter();
    let guidance = scales.map(|&guidance_scale| SampleOptions {
        guidance_scale,
        ..own
    });
    let sweeps = Sweeps {
        steps: steps.map(measure).collect::<Result<_, _>>()?,
        guidance: guidance.map(measure).collect::<Result<_, _>>()?,
    };
    let pictures = (sweeps.table(), sweeps.figure());
    Ok(write_result(&run, "sampling", &sweeps, pictures)?.table)
}

impl Sweeps {
    fn table(&self) -> String {
        let rows = self.steps.iter().chain(&self.guidance).map(|point| {
            vec![
                point.steps.to_string(),
                point.guidance_scale.to_string(),
                format!("{:.3}", point.verdict.class_agreement),
                format!("{:.2}", point.verdict.frechet_distance),
                format!("{:.1}", point.images_per_second),
            ]
        });
        let head = [
            "solver steps",
            "guidance",
            "class agreement",
            "Frechet distance",
            "images a second",
        ];
        markdown(&head, &rows.collect::<Vec<_>>())
    }

    fn figure(&self) -> String {
        let chart = |label: &str, points: &[SampledPoint], x: fn(&SampledPoint) -> f64| {
            let series = Series {
                name: "Frechet distance",
                points: points
                    .iter()
                    .map(|point| (x(point), point.verdict.frechet_distance))
                    .collect(),
            };
            line_chart(label, &[series], false)
        };
        stack(&[
            (
                "solver steps a latent",
                chart("steps", &self.steps, |point| point.steps as f64),
            ),
            (
                "scale of the guidance",
                chart("guidance", &self.guidance, |point| point.guidance_scale),
            ),
        ])
    }
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
