//! What both stages of a run share.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn::train::Interrupter;
use latentlm_data::{Inventory, Skipped};
use latentlm_eval::EvalError;
use latentlm_pipelines::{
    Manifest, MetricsLog, PipelineError, Recipe, RunFolder, TrainingData, changed_keys,
};

use crate::error::Result;
use crate::progress::{self, Progress, ProgressMode};
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
    /// Writes the report, where the run has one.
    pub report: Option<Report<R>>,
    log: MetricsLog,
    progress: Option<Progress>,
    /// Removes the folder if the run fails before it has anything to keep. Fields are dropped in this order:
    /// the files in it are closed then.
    _failed_start: FailedStart<R>,
}

/// Writes the report of a run.
pub type Report<R> = fn(&RunFolder<R>, &R) -> Result<PathBuf, EvalError>;

/// The latent cache in a run's folder.
pub const CACHE: &str = "latents.safetensors";
/// List of what a run is trained on, in its folder.
const DATA: &str = "data.txt";

/// What a run is started with.
#[derive(Clone)]
pub struct RunOptions {
    /// The run's folder.
    pub path: PathBuf,
    /// Whether to continue a run.
    pub resume: bool,
    /// Whether a run may continue on data that changed since it began.
    pub accept_changed_data: bool,
    /// Where to compute.
    pub device: Device,
    /// Further devices for training steps: each gets a shard of every batch.
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
    /// If another process trains in the folder, it can't be written, or the run was begun with another
    /// recipe or on other data.
    pub fn open(recipe: R, data: D, options: RunOptions) -> Result<Self> {
        let existed = options.path.is_dir();
        let mut notes = Vec::new();
        let run = open_folder(&options.path, &recipe, options.resume, &mut notes)?;
        let failed_start = FailedStart {
            run: run.clone(),
            existed,
            resumed: options.resume,
        };
        run.sweep();
        notes.extend(compare_data(&run, &data, &options)?);
        let mut context = Self {
            fingerprint: data.fingerprint(),
            report: None,
            log: MetricsLog::open(&run.file("metrics.jsonl"))?,
            device: options.device.clone(),
            progress: None,
            run,
            recipe,
            data,
            options,
            _failed_start: failed_start,
        };
        for note in notes {
            context.note(&note);
        }
        Ok(context)
    }

    /// Whether a stage that has taken `step` steps can take the recipe's.
    ///
    /// # Errors
    /// If it has taken more.
    pub fn check_steps(&self, table: &str, step: u64, total: u64) -> Result<()> {
        if step > total {
            let reason = format!(
                "has taken {step} steps, more than {table}.steps={total}: continue it with as many or more"
            );
            return Err(self.run.error(reason).into());
        }
        Ok(())
    }

    /// Keeps the recipe in the folder, when it is known that the run continues with it: it may have more steps.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn keep_recipe(&self) -> Result<()> {
        Ok(self.run.set_recipe(&self.recipe)?)
    }

    /// Brings the report up to date. A report that can't be written ends no training.
    pub fn write_report(&mut self) {
        let Some(report) = self.report else { return };
        if let Err(error) = report(&self.run, &self.recipe) {
            self.note(&format!("no report: {error}"));
        }
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
        match &mut self.progress {
            Some(progress) => progress.note(event),
            None => progress::say(event, self.options.progress),
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

/// The folder of a run of runs, begun or to be continued, and locked.
///
/// # Errors
/// If the folder can't be read or written, another process trains in it, or the run was begun with another
/// recipe.
pub fn open_run<R: Recipe>(recipe: &R, options: &RunOptions) -> Result<RunFolder<R>> {
    let mut notes = Vec::new();
    let run = open_folder(&options.path, recipe, options.resume, &mut notes)?;
    run.set_recipe(recipe)?;
    for note in notes {
        progress::say(&note, options.progress);
    }
    Ok(run)
}

/// The folder of a run, begun or to be continued, and locked. What a user should know goes to `notes`.
///
/// # Errors
/// If the folder can't be read or written, another process trains in it, or the run was begun with another
/// recipe.
fn open_folder<R: Recipe>(
    path: &Path,
    recipe: &R,
    resume: bool,
    notes: &mut Vec<String>,
) -> Result<RunFolder<R>> {
    if !resume {
        return Ok(RunFolder::create(path, recipe)?);
    }
    let (run, saved) = RunFolder::resume(path)?;
    let changed = changed_keys(&saved, recipe).map_err(PipelineError::from)?;
    // Another model or another order of samples would not be a continuation.
    if changed
        .iter()
        .any(|key| !key.name.ends_with("_train.steps"))
    {
        let reason = "was begun with another recipe (its config.toml); resume it with that, or begin \
                      a new run";
        return Err(run.error(reason).into());
    }
    for key in &changed {
        let stages = run.stages();
        if key.name.ends_with("codec_train.steps")
            && let Some(stage) = stages.iter().find(|stage| !stage.contains("codec"))
        {
            let reason = format!(
                "`{}` can't change any more: the stage `{stage}` has begun to learn what this codec \
                 encodes",
                key.name
            );
            return Err(run.error(reason).into());
        }
        notes.push(format!(
            "continuing with {}={} instead of {}: from the next step on the learning rate is that of the \
             new schedule",
            key.name, key.now, key.before
        ));
    }
    Ok(run)
}

/// Compares data with what the run was begun with, by name and content, and lists them where there is no list.
/// Returns what a user should know.
fn compare_data<R: Recipe>(
    run: &RunFolder<R>,
    data: &impl TrainingData,
    options: &RunOptions,
) -> Result<Option<String>> {
    let path = run.file(DATA);
    if !options.resume || !path.exists() {
        Inventory::of(&data.samples(), None).write(&path)?;
        let note = "the run was begun by a version that kept no list of its data: whether they are the \
                    same can't be compared";
        return Ok(options.resume.then(|| note.into()));
    }
    let before = Inventory::read(&path)?;
    let now = Inventory::of(&data.samples(), Some(&before));
    let changes = now.changes_since(&before);
    if !changes.is_empty() && !options.accept_changed_data {
        let reason = format!(
            "was trained on other data: {changes}; put them back, or continue on what is there with \
             --accept-changed-data"
        );
        return Err(run.error(reason).into());
    }
    if !changes.is_empty() {
        // Latents of what was there before: their fingerprint sees names and sizes only.
        let _ = fs::remove_file(run.file(CACHE));
    }
    if now != before {
        now.write(&path)?;
    }
    Ok((!changes.is_empty()).then(|| format!("continuing on changed data: {changes}")))
}

/// Removes the folder of a run that ends before it has anything worth keeping.
struct FailedStart<R> {
    /// Locked until this is dropped.
    run: RunFolder<R>,
    /// Whether the folder was there before this process.
    existed: bool,
    /// Whether the run was.
    resumed: bool,
}

impl<R> Drop for FailedStart<R> {
    fn drop(&mut self) {
        if !self.resumed {
            self.run.remove_if_empty(self.existed);
        }
    }
}
