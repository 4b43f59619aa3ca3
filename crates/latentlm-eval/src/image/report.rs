//! The report of a run of images.

use std::path::PathBuf;

use latentlm_pipelines::{ImageRecipe, MetricsLog, RunFolder};

use crate::error::EvalError;
use crate::report;

/// Writes the report of a run of images from what its folder holds.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_image_report(
    run: &RunFolder<ImageRecipe>,
    recipe: &ImageRecipe,
) -> Result<PathBuf, EvalError> {
    let lines = MetricsLog::read(&run.file("metrics.jsonl"))?;
    let mut page = report::begin(run);
    page.heading("Samples, a row a class");
    report::samples(&mut page, run, "lm-step-");
    report::curves(&mut page, &lines, "lm", "Language model");
    report::curves(&mut page, &lines, "codec", "Codec");
    page.heading("Held-out pictures and their reconstructions");
    report::samples(&mut page, run, "codec-step-");
    report::skipped_data(&mut page, run)?;
    report::end(page, run, recipe)
}
