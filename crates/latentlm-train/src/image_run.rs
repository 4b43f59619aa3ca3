//! A whole image run: codec, latents, language model, report.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::Device;
use burn::train::Interrupter;

use crate::context::{Context, open_data};
use crate::error::TrainError;
use crate::progress::ProgressMode;
use crate::recipe::ImageRecipe;
use crate::report;
use crate::run::RunFolder;
use crate::{stage_codec, stage_lm};

/// What a run is started with.
pub struct RunOptions {
    /// The run's folder.
    pub path: PathBuf,
    /// Whether to continue a run.
    pub resume: bool,
    /// Where to compute.
    pub device: Device,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// Stops the run early, with a checkpoint.
    pub interrupter: Interrupter,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum RunEnd {
    /// Both stages are finished.
    Finished {
        /// The last grid of samples.
        samples: PathBuf,
        /// The report.
        report: PathBuf,
        /// Seconds this call took.
        seconds: f64,
    },
    /// It was stopped; a checkpoint was saved.
    Stopped,
}

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_image(recipe: ImageRecipe, options: RunOptions) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    let data = open_data(&recipe)?;
    let (run, recipe) = open_run(&options.path, recipe, options.resume)?;
    let mut context = Context::new(
        run,
        recipe,
        data,
        options.device,
        options.interrupter,
        options.progress,
    )?;
    let finished = stage_codec::train(&mut context)? && stage_lm::train(&mut context)?;
    let report = report::write_run_report(&context.run, &context.recipe)?;
    if !finished {
        return Ok(RunEnd::Stopped);
    }
    let last = context.recipe.lm_train.steps;
    Ok(RunEnd::Finished {
        samples: context.run.file(&format!("samples/lm-step-{last}.png")),
        report,
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn open_run(
    path: &Path,
    recipe: ImageRecipe,
    resume: bool,
) -> Result<(RunFolder, ImageRecipe), TrainError> {
    if !resume {
        return Ok((RunFolder::create(path, &recipe)?, recipe));
    }
    let (run, saved) = RunFolder::open(path)?;
    // Another model or another order of samples would not be a continuation.
    if saved != recipe {
        return Err(run.error(
            "was begun with another recipe (its config.toml); resume it with that, or begin a new \
             run",
        ));
    }
    Ok((run, saved))
}
