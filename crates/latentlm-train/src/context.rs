//! What both stages of a run share.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn::train::Interrupter;
use latentlm_data::Skipped;
use latentlm_pipelines::{Manifest, MetricsLog, Recipe, RunFolder, TrainingData};

use crate::error::Result;
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
    /// What it is trained on.
    pub data: D,
    /// What the run was started with.
    pub options: RunOptions,
    /// Hash of the training data.
    pub fingerprint: String,
    log: MetricsLog,
    progress: Option<Progress>,
}

/// What a run is started with.
#[derive(Clone)]
pub struct RunOptions {
    /// The run's folder.
    pub path: PathBuf,
    /// Whether to continue a run.
    pub resume: bool,
    /// Where to compute.
    pub device: Device,
    /// Further devices for training steps: each gets a part of every batch.
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

    /// Options of a run in a folder of this run. If it has begun, it is continued.
    pub fn part(&self, name: &str) -> Self {
        let path = self.path.join(name);
        Self {
            resume: path.join("config.toml").is_file(),
            path,
            ..self.clone()
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
        /// What of the data could not be used.
        skipped: Vec<Skipped>,
    },
    /// It was stopped; a checkpoint was saved.
    Stopped,
}

impl<R: Recipe, D: TrainingData> Context<R, D> {
    /// Begins or continues a run.
    ///
    /// # Errors
    /// If the folder can't be written, or the run was begun with another recipe.
    pub fn open(recipe: R, data: D, options: RunOptions) -> Result<Self> {
        let (run, recipe) = open_run(&options.path, recipe, options.resume)?;
        Ok(Self {
            fingerprint: data.fingerprint(),
            log: MetricsLog::open(&run.file("metrics.jsonl"))?,
            device: options.device.clone(),
            progress: None,
            run,
            recipe,
            data,
            options,
        })
    }

    /// Where training steps are computed.
    pub fn spread(&self) -> DataParallel {
        let devices = self.options.devices();
        DataParallel::over(devices.map(|device| device.clone().autodiff()))
    }

    /// Begins or continues the log and the progress of a stage after step `first`.
    pub fn begin(&mut self, stage: &'static str, first: u64, total: u64) -> Result<()> {
        self.log.truncate_after(stage, first)?;
        let (interrupter, mode) = (&self.options.interrupter, self.options.progress);
        self.progress = Some(Progress::new(stage, first, total, interrupter, mode));
        Ok(())
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
    pub fn log(&mut self, stage: &str, step: u64, values: &[(&str, f64)]) -> Result<()> {
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

    /// The manifest of a stage after a step.
    pub fn manifest(&self, stage: &str, step: u64) -> Manifest<R> {
        let classes = self.data.classes();
        let manifest = Manifest::new(stage, &self.recipe, classes, &self.fingerprint);
        Manifest { step, ..manifest }
    }

    /// The file of the samples of a stage after a step.
    pub fn sample_file(&self, stage: &str, step: u64, ending: &str) -> PathBuf {
        let name = format!("samples/{stage}-step-{step}.{ending}");
        self.run.file(&name)
    }
}

/// The folder of a run, begun or to be continued, with its recipe.
///
/// # Errors
/// If the folder can't be read or written, or the run was begun with another recipe.
pub fn open_run<R: Recipe>(path: &Path, recipe: R, resume: bool) -> Result<(RunFolder<R>, R)> {
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
