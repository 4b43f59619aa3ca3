//! A whole run of text and pictures: codec, latents, language model, report.

use std::time::Instant;

use latentlm_eval::write_mllm_report;
use latentlm_pipelines::{MllmData, MllmRecipe};

use super::task;
use crate::context;
use crate::context::{RunEnd, RunOptions};
use crate::error::TrainError;
use crate::{image, precision};

/// A run of text and pictures.
pub type Context = context::Context<MllmRecipe, MllmData>;

/// The folder of the image run that the codec is trained in.
pub const CODEC: &str = "codec";

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_mllm(recipe: MllmRecipe, options: RunOptions) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    precision::check(recipe.lm.precision, &options)?;
    let data = MllmData::open(&recipe)?;
    let codec_options = options.part(CODEC);
    let mut context = Context::open(recipe, data, options)?;
    context.data.pictures.list_left_out(&context.run)?;
    let encoded = image::encode(context.recipe.image(), codec_options)?;
    let finished = match encoded {
        Some(encoded) => task::train(&mut context, encoded)?,
        None => false,
    };
    let left_out = context.data.pictures.list_left_out(&context.run)?;
    let report = write_mllm_report(&context.run, &context.recipe)?;
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
