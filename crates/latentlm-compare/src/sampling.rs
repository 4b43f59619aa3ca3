//! How solver steps and guidance change what a finished model draws.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm::core::FallingSteps;
use latentlm_eval::{Judge, Verdict, even_labels, line_chart, stack};
use latentlm_pipelines::{
    ImageData, ImagePipeline, ImageRecipe, RunFolder, TrainingData, read_all,
};
use latentlm_train::Result;
use serde::{Deserialize, Serialize};

use super::result::{Column, sample_note, table, write_result};

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
    /// Called with the next phase, such as `drawing 500 pictures`; [`unshown`](latentlm_eval::unshown) ignores it.
    pub phase: fn(&str),
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
) -> Result<PathBuf> {
    let (run, recipe) = RunFolder::<ImageRecipe>::open(path)?;
    let generator = ImagePipeline::from_run(path, device)?;
    let data = ImageData::open(&recipe)?;
    if data.test.len() < 2 || options.samples < 2 {
        let least = "two pictures, held out and drawn, are the least to measure with";
        return Err(run.error(least).into());
    }
    (options.phase)("training the judge on real pictures");
    let judge = Judge::train(&data, read_all(&data.test, device)?)?;
    let labels = even_labels(options.samples, data.classes().len());
    let measure = |sample: SampleOptions| -> Result<SampledPoint> {
        (options.phase)(&format!(
            "drawing {} pictures in {} steps, guidance {}",
            labels.len(),
            sample.steps,
            sample.guidance_scale
        ));
        let started = Instant::now();
        let pictures = generator.draw(&labels, &sample, options.seed)?;
        // A device that fails here fails again at the next read.
        let _ = device.sync();
        Ok(SampledPoint {
            steps: sample.steps,
            guidance_scale: sample.guidance_scale,
            images_per_second: labels.len() as f64 / started.elapsed().as_secs_f64(),
            verdict: judge.measure(pictures, &labels),
        })
    };
    // Falling steps would not be the steps that a point says.
    let own = SampleOptions {
        falling: FallingSteps::default(),
        ..recipe.sample_options()
    };
    let mut sweeps = Sweeps::default();
    for &steps in &options.steps {
        sweeps.steps.push(measure(SampleOptions { steps, ..own })?);
    }
    for &scale in &options.guidance_scales {
        let mut sample = own;
        sample.guidance_scale = scale;
        sweeps.guidance.push(measure(sample)?);
    }
    let table = sweeps.table() + &sample_note(labels.len(), data.test.len());
    write_result(&run, "sampling", &sweeps, table, sweeps.figure())?;
    Ok(run.file("sampling.md"))
}

impl Sweeps {
    fn table(&self) -> String {
        let rows = self.steps.iter().chain(&self.guidance).map(|point| {
            let labels = [point.steps.to_string(), point.guidance_scale.to_string()];
            (labels.to_vec(), point)
        });
        table(&["solver steps", "guidance"], &columns(), rows)
    }

    /// The Frechet distance against each of the settings.
    fn figure(&self) -> String {
        let [_, distance, _] = columns();
        let steps = self.steps.iter().map(|point| (point.steps as f64, point));
        let guidance = self.guidance.iter();
        let guidance = guidance.map(|point| (point.guidance_scale, point));
        let steps = distance.curve(distance.name, steps);
        let guidance = distance.curve(distance.name, guidance);
        stack(&[
            (
                "solver steps a latent",
                line_chart("steps", &[steps], false),
            ),
            (
                "scale of the guidance",
                line_chart("guidance", &[guidance], false),
            ),
        ])
    }
}

fn columns() -> [Column<SampledPoint>; 3] {
    let column = Column::<SampledPoint>::new;
    [
        column("class agreement", 3, |p| Some(p.verdict.class_agreement)),
        column("Frechet distance", 2, |p| Some(p.verdict.frechet_distance)),
        column("images a second", 1, |p| Some(p.images_per_second)),
    ]
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
