//! A whole speech run: codec, latents, language model, report.

use std::path::Path;
use std::time::Instant;

use latentlm_data::TextTokenizer;
use latentlm_eval::write_speech_report;
use latentlm_pipelines::{SpeechData, SpeechRecipe};

use super::{stage_codec, task};
use crate::context;
use crate::context::{RunEnd, RunOptions};
use crate::error::TrainError;
use crate::precision;

/// A run of speech.
pub type Context = context::Context<SpeechRecipe, SpeechData>;

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_speech(recipe: SpeechRecipe, options: RunOptions) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    precision::check(recipe.lm.precision, &options)?;
    // A run that goes on has its vocabulary in its checkpoint, or misses the file when it gets there.
    if !(recipe.text.path.is_empty() || options.resume) {
        TextTokenizer::read(Path::new(&recipe.text.path))?;
    }
    let data = SpeechData::open(&recipe)?;
    let mut context = Context::open(recipe, data, options)?;
    let coded = stage_codec::train(&mut context)?;
    context.data.list_skipped(&context.run)?;
    let finished = coded && task::train(&mut context)?;
    let report = write_speech_report(&context.run, &context.recipe)?;
    if !finished {
        return Ok(RunEnd::Stopped);
    }
    let last = context.recipe.lm_train.steps;
    Ok(RunEnd::Finished {
        samples: context.run.file(&format!("samples/lm-step-{last}.wav")),
        report,
        seconds: started.elapsed().as_secs_f64(),
        skipped: context.data.skipped.into_vec(),
    })
}
