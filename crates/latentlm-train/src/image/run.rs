//! A whole image run: codec, latents, language model, report.

use std::time::Instant;

use latentlm_eval::write_image_report;
use latentlm_pipelines::{ImageData, ImageRecipe};

use super::{stage_codec, task};
use crate::context;
use crate::context::{RunEnd, RunOptions};
use crate::error::TrainError;
use crate::precision;

/// A run of images.
pub type Context = context::Context<ImageRecipe, ImageData>;

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_image(recipe: ImageRecipe, options: RunOptions) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    precision::check(recipe.lm.precision, &options)?;
    let data = ImageData::open(&recipe)?;
    let mut context = Context::open(recipe, data, options)?;
    context.data.list_left_out(&context.run)?;
    let finished = stage_codec::train(&mut context)? && task::train(&mut context)?;
    let left_out = context.data.list_left_out(&context.run)?;
    let report = write_image_report(&context.run, &context.recipe)?;
    if !finished {
        return Ok(RunEnd::Stopped);
    }
    let last = context.recipe.lm_train.steps;
    Ok(RunEnd::Finished {
        samples: context.run.file(&format!("samples/lm-step-{last}.png")),
        report,
        seconds: started.elapsed().as_secs_f64(),
        skipped: left_out.into_vec(),
    })
}
