//! The report of a run of pictures of classes.

use std::path::PathBuf;

use latentlm_pipelines::{ImageRecipe, RunFolder};

use crate::error::EvalError;
use crate::report::{Headings, write_stages};

/// Writes the report of a run of pictures of classes from what its folder holds.
///
/// # Errors
/// If the log can't be read or the report can't be written.
pub fn write_image_report(
    run: &RunFolder<ImageRecipe>,
    recipe: &ImageRecipe,
) -> Result<PathBuf, EvalError> {
    let headings = Headings {
        drawn: "Samples, a row a class",
        decoded: "Held-out pictures and their reconstructions",
    };
    write_stages(run, recipe, &headings)
}
