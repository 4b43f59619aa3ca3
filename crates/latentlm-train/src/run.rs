//! A whole run: codec, latents, language model, report. It is the same for all modalities.

use std::path::Path;
use std::time::Instant;

use latentlm_pipelines::{PipelineError, RunFolder, TokenizerConfig, TrainingData};

use crate::context::{Context, Report, RunEnd, has_learned};
use crate::error::Result;
use crate::lm_recipe::LmRecipe;
use crate::memory::{self, Demanding};
use crate::options::RunOptions;
use crate::precision;
use crate::teacher;
use crate::weights;

/// Reads the tokenizer file of a recipe, if it names one. It is needed only after the codec is trained, but a wrong
/// file should be noticed before. A resumed run has its vocabulary in its checkpoint.
///
/// # Errors
/// If the file can't be read or is no tokenizer.
pub fn check_tokenizer(wanted: &TokenizerConfig, options: &RunOptions) -> Result<()> {
    if !options.resume {
        wanted.read()?;
    }
    Ok(())
}

/// The parts of a run that differ from modality to modality.
pub struct Modality<R, D> {
    /// Opens the data that the recipe names.
    pub open: fn(&R) -> Result<D, PipelineError>,
    /// Whether the run has a codec already, its own or one that it took over.
    pub has_codec: fn(&Context<R, D>) -> Result<bool>,
    /// Takes over the codec of another run, such as the one that training begins from, if there is none yet.
    pub adopt: fn(&mut Context<R, D>, &RunFolder<R>) -> Result<()>,
    /// Trains codec and language model. Returns whether both are finished.
    pub train: fn(&mut Context<R, D>) -> Result<bool>,
    /// Writes the report.
    pub report: Report<R>,
    /// The ending of the file of samples.
    pub samples: &'static str,
    /// How many samples the codec is trained on, at most.
    pub train_samples: fn(&D) -> usize,
}

impl<R: LmRecipe + Demanding, D: TrainingData> Modality<R, D> {
    /// Begins or continues a run.
    ///
    /// # Errors
    /// If the folder, recipe or data are wrong, the recipe needs more memory than there is, the loss is not
    /// finite, or a file can't be written.
    pub fn run(self, recipe: R, options: RunOptions) -> Result<RunEnd> {
        self.run_with(recipe, None, options)
    }

    /// [`run`](Self::run), with the codec of the finished run in the folder `codec`, if one is named. A run that has its
    /// codec needs the folder no more.
    ///
    /// # Errors
    /// As [`run`](Self::run); if the folder is needed and no such run.
    pub fn run_with(self, recipe: R, codec: Option<&Path>, options: RunOptions) -> Result<RunEnd> {
        RunEnd::of(self.all(recipe, codec, options))
    }

    /// The same; a stop before the first step is an error.
    fn all(self, recipe: R, codec: Option<&Path>, options: RunOptions) -> Result<RunEnd> {
        let started = Instant::now();
        // Before the folder is made: a run that can't begin leaves nothing behind.
        precision::check(recipe.lm().model.precision, &options)?;
        if let Some(from) = teacher::needed(&recipe, &options)? {
            teacher::finished(&from)?;
        }
        memory::check(&recipe, 1, &options)?;
        let asked = options.clone();
        let mut context = Context::open(recipe, options, |recipe| {
            let data = (self.open)(recipe)?;
            memory::check(recipe, (self.train_samples)(&data), &asked)?;
            Ok(data)
        })?;
        if let Some(codec) = codec
            && !(self.has_codec)(&context)?
        {
            let (from, _) = RunFolder::<R>::open(codec)?;
            (self.adopt)(&mut context, &from)?;
        }
        match teacher::needed(&context.recipe, &context.options)? {
            Some(from) => {
                let found = teacher::finished(&from)?;
                let learned = has_learned(&context.run, &context.options);
                weights::compare_teacher(&mut context, &from, &found, learned)?;
                (self.adopt)(&mut context, &from)?;
            }
            None => teacher::tell_of_unneeded(&mut context)?,
        }
        context.report = Some(self.report);
        // Before training and after it.
        context.data.list_left_out(&context.run)?;
        let finished = (self.train)(&mut context)?;
        // Stages that had nothing to do kept none: a later one might have refused it.
        context.run.set_recipe(&context.recipe)?;
        let skipped = context.data.list_left_out(&context.run)?;
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
