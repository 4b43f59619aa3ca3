//! How comparisons of variants of an image recipe begin.

use latentlm_pipelines::{ImageData, ImageRecipe, PipelineError, Recipe};
use latentlm_train::{Result, RunOptions, StartedRun, TrainError, check_memory, open_run_with};

/// Begins or continues the run of a comparison that trains variants of an image recipe, the table `image` of its own.
/// Returns the locked folder, and the options for the runs within it.
///
/// # Errors
/// If one of the trainings takes more memory than the machine has, or the folder or recipe are wrong.
pub(crate) fn begin<R: Recipe>(
    recipe: &R,
    trainings: &[ImageRecipe],
    options: RunOptions,
) -> Result<(StartedRun<R>, RunOptions)> {
    let options = options.within("image.");
    let check = |samples: usize| -> Result<()> {
        let mut trainings = trainings.iter();
        trainings.try_for_each(|own| check_memory(own, samples, &options))
    };
    check(1)?;
    let (folder, ()) = open_run_with(recipe, &options, || {
        // A batch has as many samples as there are, at most. They are counted only if that matters.
        if let Some(first) = trainings.first()
            && check(usize::MAX).is_err()
        {
            let within = |error: PipelineError| {
                TrainError::from(error).within::<ImageRecipe>(&options.within)
            };
            let data = ImageData::open(first).map_err(within)?;
            check(data.train.len())?;
        }
        Ok(())
    })?;
    Ok((folder, options))
}
