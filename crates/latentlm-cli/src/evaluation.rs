//! What the commands `eval-*` do alike: they open a run, measure it and print.

use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::Device;
use latentlm::SampleOptions;
use latentlm_args::{Drawing, WeightNumbers, run_path, say};
use latentlm_eval::{EvalError, EvaluateOptions, Measure, measures};
use latentlm_pipelines::{Recipe, RunFolder};

use crate::device::device;
use crate::{notes, phase, sampling};

/// A run that is evaluated.
pub struct Evaluation<R> {
    /// What is measured, and how samples are drawn.
    pub options: EvaluateOptions,
    run: RunFolder<R>,
    path: PathBuf,
    device: Device,
}

impl<R: Recipe> Evaluation<R> {
    /// Opens the run of a name, to be measured with `weights`. `recipe_options` gives the sampling options of its recipe,
    /// which `drawing` changes.
    ///
    /// # Errors
    /// If there is no such device or no whole checkpoint, or the device can't draw as asked.
    pub fn open(
        name: &str,
        drawing: &Drawing,
        weights: Option<WeightNumbers>,
        samples: u64,
        recipe_options: fn(&R) -> SampleOptions,
    ) -> Result<Self> {
        let device = device(&drawing.device)?;
        let weights = sampling::small_weights(weights, &drawing.device)?;
        let path = run_path(name);
        let (run, recipe) = RunFolder::<R>::open(&path)?;
        notes::show_of(&run)?;
        let options = EvaluateOptions {
            samples: samples as usize,
            seed: drawing.seed(),
            sample: sampling::options(drawing, recipe_options(&recipe))?,
            weights,
            phase: phase::begin,
        };
        Ok(Self {
            options,
            run,
            path,
            device,
        })
    }

    /// Measures the run, and shows the phases as it goes.
    ///
    /// # Errors
    /// If `evaluate` fails.
    pub fn measure<M>(
        &self,
        evaluate: impl FnOnce(&Path, &EvaluateOptions, &Device) -> Result<M, EvalError>,
    ) -> Result<M> {
        phase::show();
        phase::begin("reading the run and its data");
        let measured = evaluate(&self.path, &self.options, &self.device)?;
        phase::begin("");
        Ok(measured)
    }

    /// Prints the measurements, which are given as JSON: a table and where files of the run lie, or the JSON alone.
    pub fn print(&self, measured: &str, as_json: bool, files: &[(&str, &str)]) {
        if as_json {
            say!("{measured}");
            return;
        }
        for line in table(&measures(measured)) {
            say!("{line}");
        }
        for (name, file) in files {
            say!("{name} {}", self.run.file(file).display());
        }
    }
}

/// Lines of a table: name, value and unit of each measure.
fn table(measures: &[Measure]) -> Vec<String> {
    let head = Measure {
        name: "measure".into(),
        value: "value".into(),
        unit: "unit".into(),
        meaning: "",
    };
    let rows: Vec<&Measure> = std::iter::once(&head).chain(measures).collect();
    let names = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    let values = rows.iter().map(|row| row.value.len()).max().unwrap_or(0);
    let line = |row: &&Measure| {
        let Measure {
            name, value, unit, ..
        } = row;
        let line = format!("{name:names$}  {value:>values$}  {unit}");
        line.trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_below_each_other() {
        let json = r#"{"samples": 500, "frechet_distance": 36.75, "diversity": 0.78}"#;
        let expected = [
            "measure           value  unit",
            "samples             500",
            "frechet distance  36.75  of 500 samples",
            "diversity          0.78",
        ];
        assert_eq!(table(&measures(json)), expected);
    }
}
