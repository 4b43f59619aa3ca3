//! A whole image run: codec, latents, language model, report.

use std::path::Path;
use std::time::Instant;

use latentlm_data::{ImageDataset, Split};

use super::recipe::ImageRecipe;
use super::{stage_codec, stage_lm};
use crate::context::{self, RunEnd, RunOptions, TrainingData};
use crate::error::TrainError;
use crate::precision;
use crate::report;

/// Training and held-out pictures.
pub(crate) struct ImageData {
    pub(crate) train: ImageDataset,
    pub(crate) test: ImageDataset,
}

impl ImageData {
    pub(crate) fn open(recipe: &ImageRecipe) -> Result<Self, TrainError> {
        let path = Path::new(&recipe.data.path);
        let open = |split| ImageDataset::open(path, recipe.image_spec(), split);
        Ok(Self {
            train: open(Split::Train)?,
            test: open(Split::Test)?,
        })
    }
}

impl TrainingData for ImageData {
    fn fingerprint(&self) -> String {
        self.train.fingerprint()
    }

    fn classes(&self) -> &[String] {
        self.train.classes()
    }
}

/// A run of images.
pub(crate) type Context = context::Context<ImageRecipe, ImageData>;

/// Trains a recipe, or continues a run.
///
/// # Errors
/// If the folder, recipe or data are wrong, the loss is not finite, or a file can't be written.
pub fn train_image(recipe: ImageRecipe, options: RunOptions) -> Result<RunEnd, TrainError> {
    let started = Instant::now();
    // Before the folder is made: a run that can't begin leaves nothing behind.
    precision::check(recipe.lm.precision, options.devices())?;
    let data = ImageData::open(&recipe)?;
    let mut context = Context::open(recipe, data, options)?;
    let finished = stage_codec::train(&mut context)? && stage_lm::train(&mut context)?;
    let report = report::write_image_report(&context.run, &context.recipe)?;
    if !finished {
        return Ok(RunEnd::Stopped);
    }
    let last = context.recipe.lm_train.steps;
    Ok(RunEnd::Finished {
        samples: context.run.file(&format!("samples/lm-step-{last}.png")),
        report,
        seconds: started.elapsed().as_secs_f64(),
        skipped: Vec::new(),
    })
}
