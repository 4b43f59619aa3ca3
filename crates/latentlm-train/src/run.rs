//! A whole run: codec, latents, language model, report. It is the same for all modalities.

use std::time::Instant;

use latentlm_pipelines::{PipelineError, SkippedList, TrainingData};

use crate::context::{Context, Report, RunEnd, RunOptions};
use crate::error::Result;
use crate::lm_stage::LmRecipe;
use crate::memory::{self, Demanding};
use crate::precision;

/// What differs from modality to modality in a run.
pub struct Modality<R, D> {
    /// Opens the data that the recipe names.
    pub open: fn(&R) -> Result<D, PipelineError>,
    /// Trains codec and language model. Returns whether both are finished.
    pub train: fn(&mut Context<R, D>) -> Result<bool>,
    /// Lists in the run's folder what of the data could not be used.
    pub skipped: fn(&mut Context<R, D>) -> Result<SkippedList, PipelineError>,
    /// Writes the report.
    pub report: Report<R>,
    /// The ending of the file of samples.
    pub samples: &'static str,
}

impl<R: LmRecipe + Demanding, D: TrainingData> Modality<R, D> {
    /// Begins or continues a run.
    ///
    /// # Errors
    /// If the folder, recipe or data are wrong, the recipe needs more memory than there is, the loss is not
    /// finite, or a file can't be written.
    pub fn run(self, recipe: R, options: RunOptions) -> Result<RunEnd> {
        let started = Instant::now();
        // Before the folder is made: a run that can't begin leaves nothing behind.
        precision::check(recipe.lm().model.precision, &options)?;
        memory::check(&recipe, &options)?;
        let data = (self.open)(&recipe)?;
        let mut context = Context::open(recipe, data, options)?;
        context.report = Some(self.report);
        let finished = (self.train)(&mut context)?;
        // Stages that had nothing to do kept none: a later one might have refused it.
        context.keep_recipe()?;
        let skipped = (self.skipped)(&mut context)?;
        let report = (self.report)(&context.run, &context.recipe)?;
        if !finished {
            return Ok(RunEnd::Stopped);
        }
        let last = context.recipe.lm().train.steps;
        Ok(RunEnd::Finished {
            samples: context.sample_file("lm", last, self.samples),
            report,
            seconds: started.elapsed().as_secs_f64(),
            skipped: skipped.into_vec(),
        })
    }
}
