//! What both stages of a run share.

use burn::tensor::Device;
use burn::train::Interrupter;
use latentlm_data::{ImageDataset, Split};
use std::path::Path;

use crate::error::TrainError;
use crate::metrics::MetricsLog;
use crate::progress::{Progress, ProgressMode};
use crate::recipe::{ImageRecipe, StageConfig};
use crate::run::{Manifest, RunFolder};

/// Run folder, data, device, log and progress.
pub(crate) struct Context {
    pub(crate) run: RunFolder,
    pub(crate) recipe: ImageRecipe,
    pub(crate) device: Device,
    pub(crate) train: ImageDataset,
    pub(crate) test: ImageDataset,
    pub(crate) interrupter: Interrupter,
    fingerprint: String,
    log: MetricsLog,
    mode: ProgressMode,
    progress: Option<Progress>,
}

/// What is to be done after a step.
pub(crate) struct Due {
    pub(crate) log: bool,
    pub(crate) show: bool,
    pub(crate) save: bool,
    pub(crate) stop: bool,
}

impl Context {
    pub(crate) fn new(
        run: RunFolder,
        recipe: ImageRecipe,
        (train, test): (ImageDataset, ImageDataset),
        device: Device,
        interrupter: Interrupter,
        mode: ProgressMode,
    ) -> Result<Self, TrainError> {
        let fingerprint = train.fingerprint();
        let log = MetricsLog::open(&run.file("metrics.jsonl"))?;
        Ok(Self {
            run,
            recipe,
            device,
            train,
            test,
            interrupter,
            fingerprint,
            log,
            mode,
            progress: None,
        })
    }

    /// Hash of the training data.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Begins or continues a stage at a step.
    pub(crate) fn begin(
        &mut self,
        stage: &'static str,
        first: u64,
        total: u64,
    ) -> Result<(), TrainError> {
        self.log.truncate_after(stage, first)?;
        let progress = Progress::new(stage, first, total, &self.interrupter, self.mode);
        self.progress = Some(progress);
        Ok(())
    }

    /// What is to be done after a step: the last one and a stop both save.
    pub(crate) fn due(&self, config: &StageConfig, step: u64) -> Due {
        let last = step == config.steps;
        let stop = self.interrupter.should_stop();
        Due {
            log: last || step.is_multiple_of(config.log_every),
            show: last || step.is_multiple_of(config.sample_every),
            save: last || stop || step.is_multiple_of(config.checkpoint_every),
            stop,
        }
    }

    /// Ends the stage's progress.
    pub(crate) fn end(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
    }

    pub(crate) fn log(
        &mut self,
        stage: &str,
        step: u64,
        values: &[(&str, f64)],
    ) -> Result<(), TrainError> {
        self.log.append(stage, step, values)?;
        if let Some(progress) = &mut self.progress {
            progress.step(step, values);
        }
        Ok(())
    }

    pub(crate) fn note(&mut self, event: &str) {
        if let Some(progress) = &mut self.progress {
            progress.note(event);
        }
    }

    pub(crate) fn manifest(&self, stage: &str, step: u64) -> Manifest {
        let classes = self.train.classes();
        let mut manifest = Manifest::new(stage, &self.recipe, classes, &self.fingerprint);
        manifest.step = step;
        manifest
    }
}

/// The training and held-out pictures of a recipe.
pub(crate) fn open_data(recipe: &ImageRecipe) -> Result<(ImageDataset, ImageDataset), TrainError> {
    let path = Path::new(&recipe.data.path);
    let open = |split| ImageDataset::open(path, recipe.image_spec(), split);
    Ok((open(Split::Train)?, open(Split::Test)?))
}
