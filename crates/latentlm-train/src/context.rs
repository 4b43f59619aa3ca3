//! What both stages of a run share.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn::train::Interrupter;

use latentlm_data::speech::Skipped;

use crate::error::TrainError;
use crate::metrics::MetricsLog;
use crate::progress::{Progress, ProgressMode};
use crate::recipe::{Recipe, StageConfig};
use crate::run::{Manifest, RunFolder};
use crate::spread::Spread;

/// What a run is trained on.
pub(crate) trait TrainingData {
    /// Hash of everything that is trained on.
    fn fingerprint(&self) -> String;

    /// Names of the classes, if there are any.
    fn classes(&self) -> &[String] {
        &[]
    }
}

/// Run folder, data, device, log and progress.
pub(crate) struct Context<R, D> {
    pub(crate) run: RunFolder<R>,
    pub(crate) recipe: R,
    pub(crate) device: Device,
    more_devices: Vec<Device>,
    pub(crate) data: D,
    pub(crate) interrupter: Interrupter,
    fingerprint: String,
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
}

impl RunOptions {
    /// Where training steps are computed.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Device> {
        std::iter::once(&self.device).chain(&self.more_devices)
    }

    /// Options of a run within the run: begun, or continued where it has begun.
    pub(crate) fn part(&self, name: &str) -> Self {
        let path = self.path.join(name);
        Self {
            resume: path.join("config.toml").is_file(),
            path,
            device: self.device.clone(),
            more_devices: self.more_devices.clone(),
            progress: self.progress,
            interrupter: self.interrupter.clone(),
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
pub(crate) struct Due {
    pub(crate) log: bool,
    pub(crate) show: bool,
    pub(crate) save: bool,
    pub(crate) stop: bool,
}

impl<R: Recipe, D: TrainingData> Context<R, D> {
    /// Begins or continues a run.
    pub(crate) fn open(recipe: R, data: D, options: RunOptions) -> Result<Self, TrainError> {
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
            log,
            mode: options.progress,
            progress: None,
        })
    }

    /// Where training steps are computed.
    pub(crate) fn spread(&self) -> Spread {
        let devices = std::iter::once(&self.device).chain(&self.more_devices);
        Spread::over(devices.map(|device| device.clone().autodiff()))
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

    pub(crate) fn manifest(&self, stage: &str, step: u64) -> Manifest<R> {
        let classes = self.data.classes();
        let mut manifest = Manifest::new(stage, &self.recipe, classes, &self.fingerprint);
        manifest.step = step;
        manifest
    }
}

/// The folder of a run, begun or to be continued, with its recipe.
pub(crate) fn open_run<R: Recipe>(
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
        return Err(run.error(
            "was begun with another recipe (its config.toml); resume it with that, or begin a new \
             run",
        ));
    }
    Ok((run, saved))
}
