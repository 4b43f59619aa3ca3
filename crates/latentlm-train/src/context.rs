//! What both stages of a run share.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn::train::Interrupter;
use latentlm_data::Skipped;
use latentlm_pipelines::{Manifest, MetricsLog, Recipe, RunFolder, StageConfig, TrainingData};

use crate::error::TrainError;
use crate::progress::{Progress, ProgressMode};
use crate::spread::DataParallel;

/// Run folder, data, device, log and progress.
pub struct Context<R, D> {
    /// The folder of the run.
    pub run: RunFolder<R>,
    /// What is trained.
    pub recipe: R,
    /// Where weights, optimizer and samples live.
    pub device: Device,
    more_devices: Vec<Device>,
    /// What it is trained on.
    pub data: D,
    /// Stops the run early, with a checkpoint.
    pub interrupter: Interrupter,
    fingerprint: String,
    within: String,
    log: MetricsLog,
    mode: ProgressMode,
    progress: Option<Progress>,
}

/// What a run is started with.
pub struct RunOptions {
    /// The run's folder.
    pub path: PathBuf,
    /// Whether to continue a run.
    pub resume: bool,
    /// Where to compute.
    pub device: Device,
    /// Where else training steps are computed, each device a part of every batch.
    pub more_devices: Vec<Device>,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// Stops the run early, with a checkpoint.
    pub interrupter: Interrupter,
    /// What stands before the keys of this run's recipe in the recipe that a user wrote, e.g.
    /// `image.` where a comparison trains an image model; else empty. Errors name keys by it.
    pub within: String,
}

impl RunOptions {
    /// Where training steps are computed.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        std::iter::once(&self.device).chain(&self.more_devices)
    }

    /// The same for a recipe that is a table of another, e.g. `image.`.
    pub fn within(self, within: &str) -> Self {
        Self {
            within: within.into(),
            ..self
        }
    }

    /// Options of a run within the run: begun, or continued where it has begun.
    pub fn part(&self, name: &str) -> Self {
        let path = self.path.join(name);
        Self {
            resume: path.join("config.toml").is_file(),
            path,
            device: self.device.clone(),
            more_devices: self.more_devices.clone(),
            progress: self.progress,
            interrupter: self.interrupter.clone(),
            within: self.within.clone(),
        }
    }
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
        /// Recordings that could not be used.
        skipped: Vec<Skipped>,
    },
    /// It was stopped; a checkpoint was saved.
    Stopped,
}

/// What is to be done after a step.
pub struct Due {
    pub log: bool,
    pub show: bool,
    pub save: bool,
    pub stop: bool,
}

impl<R: Recipe, D: TrainingData> Context<R, D> {
    /// Begins or continues a run.
    pub fn open(recipe: R, data: D, options: RunOptions) -> Result<Self, TrainError> {
        let (run, recipe) = open_run(&options.path, recipe, options.resume)?;
        let fingerprint = data.fingerprint();
        let log = MetricsLog::open(&run.file("metrics.jsonl"))?;
        Ok(Self {
            run,
            recipe,
            device: options.device,
            more_devices: options.more_devices,
            data,
            interrupter: options.interrupter,
            fingerprint,
            within: options.within,
            log,
            mode: options.progress,
            progress: None,
        })
    }

    /// Where training steps are computed.
    pub fn spread(&self) -> DataParallel {
        let devices = std::iter::once(&self.device).chain(&self.more_devices);
        DataParallel::over(devices.map(|device| device.clone().autodiff()))
    }

    /// A table or key of the recipe as the user wrote it.
    pub fn key(&self, key: &str) -> String {
        format!("{}{key}", self.within)
    }

    /// Hash of the training data.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Begins or continues a stage at a step.
    pub fn begin(&mut self, stage: &'static str, first: u64, total: u64) -> Result<(), TrainError> {
        self.log.truncate_after(stage, first)?;
        let progress = Progress::new(stage, first, total, &self.interrupter, self.mode);
        self.progress = Some(progress);
        Ok(())
    }

    /// What is to be done after a step: the last one and a stop both save.
    pub fn due(&self, config: &StageConfig, step: u64) -> Due {
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
    pub fn end(&mut self) {
        if let Some(progress) = self.progress.take() {
            progress.finish();
        }
    }

    /// Writes a line of the log, and shows it.
    ///
    /// # Errors
    /// If the log can't be written.
    pub fn log(
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

    /// Shows an event.
    pub fn note(&mut self, event: &str) {
        if let Some(progress) = &mut self.progress {
            progress.note(event);
        }
    }

    /// The manifest of a checkpoint of a stage.
    pub fn manifest(&self, stage: &str, step: u64) -> Manifest<R> {
        let classes = self.data.classes();
        let mut manifest = Manifest::new(stage, &self.recipe, classes, &self.fingerprint);
        manifest.step = step;
        manifest
    }
}

/// The folder of a run, begun or to be continued, with its recipe.
pub fn open_run<R: Recipe>(
    path: &Path,
    recipe: R,
    resume: bool,
) -> Result<(RunFolder<R>, R), TrainError> {
    if !resume {
        return Ok((RunFolder::create(path, &recipe)?, recipe));
    }
    let (run, saved) = RunFolder::open(path)?;
    // Another model or another order of samples would not be a continuation.
    if saved != recipe {
        let reason = "was begun with another recipe (its config.toml); resume it with that, or begin \
                      a new run";
        return Err(run.error(reason).into());
    }
    Ok((run, saved))
}
