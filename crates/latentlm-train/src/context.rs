//! What both stages of a run share.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use burn::tensor::Device;
use latentlm_data::{LeftOut, Skipped, check_stop};
use latentlm_eval::{EvalError, Work, keep_origin};
use latentlm_pipelines::{
    BegunStage, ChangedKey, Inventory, Manifest, MetricsLog, PipelineError, Recipe, RunFolder,
    TrainingData, changed_keys,
};

use crate::error::{Result, TrainError};
use crate::options::RunOptions;
use crate::progress::{self, Progress, stoppable};
use crate::spread::DataParallel;

/// Run folder, data, device, log and progress.
pub struct Context<R, D> {
    /// The folder of the run.
    pub run: RunFolder<R>,
    /// The recipe.
    pub recipe: R,
    /// Where weights, optimizer and samples live.
    pub device: Device,
    /// Training and held-out data.
    pub data: D,
    /// Options that the run was started with.
    pub options: RunOptions,
    /// Hash of the training data.
    pub fingerprint: String,
    /// Writes the report, where the run has one.
    pub report: Option<Report<R>>,
    /// Writes the report of the run that this one is a part of, if there is one.
    pub whole_report: Option<WholeReport>,
    log: MetricsLog,
    progress: Progress,
    /// Removes the folder if the run fails before it has anything to keep. Fields are dropped in this order:
    /// the files in it are closed then.
    _started: StartedRun<R>,
}

/// Writes the report of a run.
pub type Report<R> = fn(&RunFolder<R>, &R) -> Result<PathBuf, EvalError>;

/// Writes the report of a run around the one that is trained.
pub type WholeReport = Box<dyn Fn() -> Result<PathBuf, EvalError> + Send + Sync>;

/// The latent cache in a run's folder.
pub const CACHE: &str = "latents.safetensors";
/// List of what a run is trained on, in its folder.
pub const DATA: &str = "data.txt";

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
        /// Data that could not be used.
        skipped: Vec<Skipped>,
    },
    /// It was stopped; a checkpoint was saved.
    Stopped,
}

impl RunEnd {
    /// How a run ended that may have been stopped before its first step, or as it was measured: that is no error.
    ///
    /// # Errors
    /// All others.
    pub fn of(ended: Result<Self>) -> Result<Self> {
        match ended {
            Err(TrainError::Stopped) => Ok(Self::Stopped),
            ended => ended,
        }
    }
}

impl<R: Recipe, D: TrainingData> Context<R, D> {
    /// Begins or continues a run. `open_data` is called after the folder is locked: opening data can take minutes,
    /// and a second training in the folder is refused before that.
    ///
    /// # Errors
    /// If another process trains in the folder, it can't be written, the data can't be opened, or the run was
    /// begun with another recipe or on other data. [`TrainError::Stopped`] if a stop came: the run can be continued.
    pub fn open(
        recipe: R,
        options: RunOptions,
        open_data: impl FnOnce(&R) -> Result<D>,
    ) -> Result<Self> {
        let mut started = StartedRun::open(&recipe, &options)?;
        let run = started.run.clone();
        let prepared = stoppable(&options, || prepare(&run, &recipe, &options, open_data));
        let (data, more) = started.unless_stopped(prepared, &recipe)?;
        let mut notes = std::mem::take(&mut started.notes);
        notes.extend(more);
        let mut context = Self {
            fingerprint: data.fingerprint(),
            report: None,
            whole_report: None,
            log: MetricsLog::open(&run.file("metrics.jsonl"))?,
            device: options.device.clone(),
            progress: Progress::new("", 0, 0, &options),
            run,
            recipe,
            data,
            options,
            _started: started,
        };
        let kept = keep_origin(
            context.run.path(),
            Work::Training,
            context.options.devices(),
        );
        notes.extend(untold(kept));
        for note in notes {
            context.note(&note);
        }
        Ok(context)
    }

    /// Brings the report up to date, and that of the run that this one is a part of. A report that can't be written
    /// ends no training.
    pub fn write_report(&mut self) {
        let own = self.report.map(|report| report(&self.run, &self.recipe));
        let whole = self.whole_report.as_ref().map(|report| report());
        for written in [own, whole].into_iter().flatten() {
            if let Err(error) = written {
                self.note(&format!("no report: {error}"));
            }
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
        self.progress = Progress::new(stage, first, total, &self.options);
        Ok(())
    }

    /// Ends the stage's progress.
    pub fn end(&mut self) {
        self.progress.finish();
    }

    /// Writes a line of the log, and shows it.
    ///
    /// # Errors
    /// If the log can't be written.
    pub fn log(&mut self, stage: &str, step: u64, values: &[(&str, f64)]) -> Result<()> {
        self.log.append(stage, step, values)?;
        self.progress.step(step, values);
        Ok(())
    }

    /// Has the records reach the disk: a checkpoint must not be newer than its log, which goes on behind it.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn sync_log(&self) -> Result<()> {
        Ok(self.log.sync()?)
    }

    /// Shows an event.
    pub fn note(&mut self, event: &str) {
        self.progress.note(event);
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

/// The locked folder of a run. If it is dropped before a new run has anything to keep, the files and folders made so
/// far are removed.
pub struct StartedRun<R> {
    /// The folder.
    pub run: RunFolder<R>,
    /// Whether the run was there before.
    resumed: bool,
    /// Notes for the user, one line each.
    notes: Vec<String>,
}

impl<R: Recipe> StartedRun<R> {
    /// Locks the folder of a run that is to be begun or continued. A new run has no recipe in its folder yet.
    ///
    /// # Errors
    /// If the folder can't be read or written, another process trains in it, or the run was begun with another
    /// recipe.
    fn open(recipe: &R, options: &RunOptions) -> Result<Self> {
        let mut notes = Vec::new();
        let run = if options.resume {
            continued(options, recipe, &mut notes)?
        } else {
            RunFolder::claim(&options.path)?
        };
        notes.extend(run.lock_note().map(str::to_owned));
        run.sweep();
        Ok(Self {
            run,
            resumed: options.resume,
            notes,
        })
    }
}

impl<R: Recipe> StartedRun<R> {
    /// What came of the preparations. A run that was stopped in them stays, so that it can be continued.
    fn unless_stopped<T>(&mut self, prepared: Result<T>, recipe: &R) -> Result<T> {
        if matches!(prepared, Err(TrainError::Stopped)) && !self.resumed {
            self.run.set_recipe(recipe)?;
            self.resumed = true;
        }
        prepared
    }
}

/// Opens and checks the data of a run, and compares them with those that it began with. Returns what a user should know,
/// too.
///
/// # Errors
/// If data can't be opened or are others, or a file can't be written.
fn prepare<R: Recipe, D: TrainingData>(
    run: &RunFolder<R>,
    recipe: &R,
    options: &RunOptions,
    open_data: impl FnOnce(&R) -> Result<D>,
) -> Result<(D, Vec<String>)> {
    let shown = options.progress;
    let within = |error: TrainError| error.within::<R>(&options.within);
    let data = progress::reading("opening data", shown, || open_data(recipe)).map_err(within)?;
    check_stop()?;
    let mut notes = Vec::new();
    if !has_learned(run, options) || options.accept_changed_data {
        let checked = progress::reading("checking data", shown, || data.check());
        notes.extend(checked.map_err(|error| within(error.into()))?);
        check_stop()?;
    }
    if !options.resume {
        run.set_recipe(recipe)?;
    }
    let compare = || compare_data(run, &data, options);
    notes.extend(progress::reading("taking hashes of data", shown, compare)?);
    Ok((data, notes))
}

/// Whether a run continues from a checkpoint. One that was stopped or killed before it had one is as new.
pub fn has_learned<R: Recipe>(run: &RunFolder<R>, options: &RunOptions) -> bool {
    options.resume && !run.stages().is_empty()
}

impl<R> Drop for StartedRun<R> {
    fn drop(&mut self) {
        if !self.resumed {
            self.run.remove_if_empty();
        }
    }
}

/// Begins or continues a run of runs.
///
/// # Errors
/// If the folder can't be read or written, another process trains in it, or the run was begun with another
/// recipe.
pub fn open_run<R: Recipe>(recipe: &R, options: &RunOptions) -> Result<StartedRun<R>> {
    let (started, ()) = open_run_with(recipe, options, || Ok(()))?;
    Ok(started)
}

/// [`open_run`] for one that reads data first. `prepare` is called after the folder is locked, as in [`Context::open`],
/// and before the recipe is written: one that fails changes nothing.
///
/// # Errors
/// As [`open_run`], or those of `prepare`.
pub fn open_run_with<R: Recipe, T>(
    recipe: &R,
    options: &RunOptions,
    prepare: impl FnOnce() -> Result<T>,
) -> Result<(StartedRun<R>, T)> {
    let mut started = StartedRun::open(recipe, options)?;
    let prepared = stoppable(options, || {
        let prepared = prepare()?;
        check_stop()?;
        Ok::<_, TrainError>(prepared)
    });
    let prepared = started.unless_stopped(prepared, recipe)?;
    started.run.set_recipe(recipe)?;
    let mut notes = started.notes.clone();
    let kept = keep_origin(&options.path, Work::Training, options.devices());
    notes.extend(untold(kept));
    for note in &notes {
        progress::say(note, options.progress);
    }
    Ok((started, prepared))
}

/// The note for a report that will not say where the run was trained: no reason to end it.
fn untold(kept: Result<(), EvalError>) -> Option<String> {
    let error = kept.err()?;
    Some(format!("the report will not tell of this machine: {error}"))
}

/// The locked folder of a run that continues. What a user should know goes to `notes`.
///
/// # Errors
/// If the folder can't be read, another process trains in it, or the run was begun with another recipe.
fn continued<R: Recipe>(
    options: &RunOptions,
    recipe: &R,
    notes: &mut Vec<String>,
) -> Result<RunFolder<R>> {
    let (run, saved) = RunFolder::resume(&options.path)?;
    let changed = changed_keys(&saved, recipe).map_err(PipelineError::from)?;
    let is_steps = |key: &ChangedKey| key.name.ends_with("_train.steps");
    let chooses = |key: &ChangedKey| R::CHOOSING.contains(&key.name.as_str());
    // Another model or another order of samples would not be a continuation.
    let goes_on = |key: &ChangedKey| is_steps(key) || chooses(key) || has_grown::<R>(key);
    if !changed.iter().all(goes_on) {
        let reason = "was begun with another recipe (its config.toml); resume it with that, or begin \
                      a new run";
        return Err(run.error(reason).into());
    }
    let stages = run.stages();
    for key in changed.iter().filter(|key| is_steps(key)) {
        check_steps(&run, &stages, key)?;
        // The keys of a run within another are keys of the other's recipe.
        let within = if key.name.starts_with(&options.within) {
            ""
        } else {
            options.within.as_str()
        };
        notes.push(format!(
            "continuing with {within}{}={} instead of {}: from the next step on the learning rate is that of the \
             new schedule",
            key.name, key.now, key.before
        ));
    }
    Ok(run)
}

/// Whether a key that may grow did: a number that is larger, but was not 0, which stands for another way, or a list that
/// begins as before and has lost nothing.
fn has_grown<R: Recipe>(key: &ChangedKey) -> bool {
    fn list(text: &str) -> Option<Vec<&str>> {
        let inside = text.trim().strip_prefix('[')?.strip_suffix(']')?;
        Some(inside.split(',').map(str::trim).collect())
    }
    if !R::GROWING.contains(&key.name.as_str()) {
        return false;
    }
    if let (Some(before), Some(now)) = (list(&key.before), list(&key.now)) {
        return before.first() == now.first() && before.iter().all(|own| now.contains(own));
    }
    match (key.before.parse::<f64>(), key.now.parse::<f64>()) {
        (Ok(before), Ok(now)) => before > 0.0 && now > before,
        _ => false,
    }
}

/// Refuses other steps of a codec that a language model has begun to learn, and fewer steps than a run within this one
/// has taken: the runs before that one would have gone on until it refuses them.
fn check_steps<R: Recipe>(
    run: &RunFolder<R>,
    stages: &[BegunStage],
    key: &ChangedKey,
) -> Result<()> {
    let is_codec = |stage: &BegunStage| stage.name.contains("codec");
    let of_codec = key.name.ends_with("codec_train.steps");
    if of_codec && let Some(stage) = stages.iter().find(|stage| !is_codec(stage)) {
        let reason = format!(
            "`{}` can't change any more: the stage `{}` has begun to learn what this codec encodes",
            key.name, stage.name
        );
        return Err(run.error(reason).into());
    }
    let steps = key.now.parse().unwrap_or(u64::MAX);
    let mut within = stages.iter().filter(|stage| stage.run != run.path());
    if let Some(stage) = within.find(|stage| is_codec(stage) == of_codec && stage.step > steps) {
        let reason = format!(
            "has taken {} steps, more than {}={steps}: continue it with as many or more",
            stage.step, key.name
        );
        return Err(PipelineError::Run(stage.run.clone(), reason).into());
    }
    Ok(())
}

/// Compares the data with those that the run began with, by name and content. Writes their list if there is none.
/// Returns what a user should know.
fn compare_data<R: Recipe>(
    run: &RunFolder<R>,
    data: &impl TrainingData,
    options: &RunOptions,
) -> Result<Vec<String>> {
    let (path, samples) = (run.file(DATA), data.samples());
    if !options.resume || !path.exists() {
        Inventory::of_unless_stopped(&samples, None)?.write(&path)?;
        let note = "the run was begun by a version that kept no list of its data: whether they are the \
                    same can't be compared";
        let is_older = has_learned(run, options);
        return Ok(Vec::from_iter(is_older.then(|| note.into())));
    }
    let mut before = Inventory::read(&path)?;
    let mut notes = Vec::new();
    if before.complete(&samples) {
        notes.push(
            "the run was begun by a version that did not read the times of words: whether they are the same can't be \
             compared"
                .to_owned(),
        );
    }
    let now = Inventory::of_unless_stopped(&samples, Some(&before))?;
    let changes = now.changes_since(&before);
    if !changes.is_empty() && !options.accept_changed_data {
        let unusable = unusable_now(&changes.removed, &data.left_out());
        let reason = format!(
            "was trained on other data: {changes}{unusable}; put them back, or continue on what is there with \
             --accept-changed-data"
        );
        return Err(run.error(reason).into());
    }
    if !changes.is_empty() {
        // Latents of the earlier data are no longer right, but their fingerprint has only names and sizes.
        let _ = fs::remove_file(run.file(CACHE));
        notes.push(format!("continuing on changed data: {changes}"));
    }
    if now != before {
        now.write(&path)?;
    }
    Ok(notes)
}

/// Of samples that are gone, the first whose file is there and can't be used any more, and why.
fn unusable_now(gone: &[String], left_out: &[LeftOut]) -> String {
    // Names begin with their split.
    let own = |name: &String| PathBuf::from(name.split_once(": ").map_or(&**name, |(_, own)| own));
    let gone: HashSet<PathBuf> = gone.iter().map(own).collect();
    let is_gone = |file: &&LeftOut| {
        let parts: Vec<_> = file.path.iter().collect();
        (0..parts.len()).any(|first| gone.contains(&parts[first..].iter().collect::<PathBuf>()))
    };
    match left_out.iter().find(is_gone) {
        Some(file) => format!(
            "; {} can't be used now: {}",
            file.path.display(),
            file.reason
        ),
        None => String::new(),
    }
}

#[cfg(test)]
pub(crate) use self::tests::NoData;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use super::*;
    use burn::train::Interrupter;
    use latentlm_data::{Content, DataError, Sample, sha256};
    use latentlm_pipelines::ImageRecipe;

    use crate::options::ProgressMode;

    /// Data of a run that reads none.
    pub(crate) struct NoData;

    impl TrainingData for NoData {
        fn fingerprint(&self) -> String {
            "f".into()
        }

        fn samples(&self) -> Vec<Sample> {
            Vec::new()
        }
    }

    fn options(path: &Path) -> RunOptions {
        RunOptions {
            path: path.into(),
            resume: false,
            accept_changed_data: false,
            device: Device::default(),
            more_devices: Vec::new(),
            progress: ProgressMode::Silent,
            interrupter: Interrupter::new(),
            within: String::new(),
        }
    }

    /// Opens a run, and returns its error if there is one.
    fn open(
        path: &Path,
        resume: bool,
        open_data: impl FnOnce(&ImageRecipe) -> Result<NoData>,
    ) -> Option<String> {
        let options = RunOptions {
            resume,
            ..options(path)
        };
        let opened = Context::open(ImageRecipe::default(), options, open_data);
        opened.err().map(|error| error.to_string())
    }

    #[test]
    fn a_second_training_is_refused_while_the_first_opens_its_data() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let fails = |resume| {
            let failed = open(&path, resume, |_| {
                let second = open(&path, resume, |_| panic!("its data were opened"));
                let told = second.unwrap();
                assert!(told.contains("is training here"), "{told}");
                Err(TrainError::config("no data"))
            });
            assert_eq!(failed.unwrap(), "recipe: no data");
        };
        fails(false);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // A run that goes on stays.
        drop(RunFolder::create(&path, &ImageRecipe::default()).unwrap());
        fails(true);
        assert!(path.join("config.toml").is_file());
        assert_eq!(open(&path, true, |_| Ok(NoData)), None);
    }

    /// The same of a comparison, which trains runs in its folder: what fails changes nothing.
    #[test]
    fn a_comparison_is_locked_while_it_opens_its_data() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/r");
        let begun = ImageRecipe::default();
        let mut longer = begun.clone();
        longer.lm_train.steps += 1;
        let fails = |recipe: &ImageRecipe, resume| {
            let options = RunOptions {
                resume,
                ..options(&path)
            };
            let opened = open_run_with(recipe, &options, || {
                let second = open_run_with(recipe, &options, || -> Result<()> {
                    panic!("its data were opened")
                });
                let told = second.err().unwrap().to_string();
                assert!(told.contains("is training here"), "{told}");
                Err::<(), _>(TrainError::config("no data"))
            });
            assert_eq!(opened.err().unwrap().to_string(), "recipe: no data");
        };
        fails(&begun, false);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        drop(RunFolder::create(&path, &begun).unwrap());
        let config = fs::read(path.join("config.toml")).unwrap();
        fails(&longer, true);
        assert_eq!(fs::read(path.join("config.toml")).unwrap(), config);
        let resumed = RunOptions {
            resume: true,
            ..options(&path)
        };
        let (_run, data) = open_run_with(&longer, &resumed, || Ok(7)).unwrap();
        assert_eq!(data, 7);
        assert_ne!(fs::read(path.join("config.toml")).unwrap(), config);
    }

    /// The data of a comparison's image model: the key is one of the comparison.
    #[test]
    fn keys_in_errors_of_data_are_those_of_the_whole_recipe() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(&dir.path().join("r"));
        options.within = "image.".into();
        let opened = Context::open(ImageRecipe::default(), options, |_| {
            let too_many = DataError::TooManyBroken {
                path: "pictures".into(),
                broken: 1,
                total: 2,
                max_broken: 0.05,
                first: "1.png: is cut short".into(),
            };
            Err::<NoData, _>(too_many.into())
        });
        let error = opened.err().unwrap();
        assert!(
            error.to_string().contains(" (image.data.max_broken); "),
            "{error}"
        );
        assert!(!error.is_usage());
    }

    /// Data that ask to stop in a phase of the start, and count how often they are checked.
    struct Stopping<'a> {
        phase: &'a str,
        interrupter: Interrupter,
        checks: &'a Cell<u32>,
    }

    impl TrainingData for Stopping<'_> {
        fn fingerprint(&self) -> String {
            "f".into()
        }

        fn check(&self) -> latentlm_pipelines::Result<Option<String>> {
            self.checks.set(self.checks.get() + 1);
            if self.phase == "checking" {
                self.interrupter.stop(None);
            }
            Ok(None)
        }

        fn samples(&self) -> Vec<Sample> {
            if self.phase == "hashing" {
                self.interrupter.stop(None);
            }
            Vec::new()
        }
    }

    /// Nothing was learned yet, so that the run that goes on is begun anew, with all checks.
    #[test]
    fn a_stop_while_data_are_opened_ends_the_start_and_the_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        for phase in ["opening", "checking", "hashing"] {
            let (path, checks) = (dir.path().join(phase), Cell::new(0));
            let start = |phase, resume| {
                let options = RunOptions {
                    resume,
                    ..options(&path)
                };
                let interrupter = options.interrupter.clone();
                let opened = Context::open(ImageRecipe::default(), options, |_| {
                    if phase == "opening" {
                        interrupter.stop(None);
                        check_stop()?;
                    }
                    Ok(Stopping {
                        phase,
                        interrupter,
                        checks: &checks,
                    })
                });
                opened.err()
            };
            let ended = start(phase, false);
            let stopped = matches!(ended, Some(TrainError::Stopped));
            assert!(stopped, "{phase}: {ended:?}");
            assert!(path.join("config.toml").is_file(), "{phase}");
            assert!(!path.join(DATA).is_file(), "{phase}");
            let before = checks.get();
            assert!(start("no phase", true).is_none());
            assert_eq!(checks.get(), before + 1, "{phase}");
            assert!(path.join(DATA).is_file());
        }
    }

    /// A stop that came before belongs to the next step.
    #[test]
    fn a_stop_before_the_start_is_heeded_after_a_step() {
        let dir = tempfile::tempdir().unwrap();
        let options = options(&dir.path().join("r"));
        options.interrupter.stop(None);
        let opened = Context::open(ImageRecipe::default(), options, |_| Ok(NoData));
        assert!(opened.is_ok());
        assert!(matches!(
            RunEnd::of(Err(TrainError::Stopped)),
            Ok(RunEnd::Stopped)
        ));
        assert!(RunEnd::of(Err(TrainError::config("wrong"))).is_err());
    }

    /// Data of a single sample that training learns this of.
    struct Timed(&'static str);

    impl TrainingData for Timed {
        fn fingerprint(&self) -> String {
            "f".into()
        }

        fn samples(&self) -> Vec<Sample> {
            vec![Sample {
                name: "a".into(),
                about: self.0.into(),
                content: Content::Hash("00".into()),
            }]
        }
    }

    #[test]
    fn a_run_that_began_without_times_of_words_goes_on_with_a_note() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let run = RunFolder::create(&path, &ImageRecipe::default()).unwrap();
        let about = &sha256(b"text")[..16];
        let list = format!("latentlm data 1 readers 1\n00 0 - {about} \"a\"\n");
        fs::write(run.file(DATA), list).unwrap();
        let resumed = RunOptions {
            resume: true,
            ..options(&path)
        };
        let compared = |learned| compare_data(&run, &Timed(learned), &resumed);
        let notes = compared("text\ntimes").unwrap();
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].contains("did not read the times of words"),
            "{notes:?}"
        );
        // Its list has them now.
        assert!(compared("text\ntimes").unwrap().is_empty());
        let told = compared("text\nother times").unwrap_err().to_string();
        assert!(told.contains("1 changed (a)"), "{told}");
    }

    /// A comparison whose models lie within it. What is refused changes nothing, so that it goes on as before.
    #[test]
    fn a_comparison_takes_other_steps_only_if_all_its_runs_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let mut recipe = ImageRecipe::default();
        recipe.lm_train.steps = 4;
        let resumed = |recipe: &ImageRecipe| {
            let options = RunOptions {
                resume: true,
                ..options(&path)
            };
            let opened = open_run(recipe, &options);
            opened.err().map(|error| error.to_string())
        };
        drop(RunFolder::create(&path, &recipe).unwrap());
        for stage in ["codec/checkpoints/codec", "default-0/checkpoints/lm"] {
            fs::create_dir_all(path.join(stage).join("step-3")).unwrap();
            fs::create_dir_all(path.join(stage).join("step-4")).unwrap();
        }
        let config = fs::read(path.join("config.toml")).unwrap();
        let mut fewer = recipe.clone();
        fewer.lm_train.steps = 3;
        let mut other_codec = recipe.clone();
        other_codec.codec_train.steps += 1;
        for (changed, part) in [
            (
                fewer,
                "default-0: has taken 4 steps, more than lm_train.steps=3",
            ),
            (
                other_codec,
                "`codec_train.steps` can't change any more: the stage `lm`",
            ),
        ] {
            let told = resumed(&changed).unwrap();
            assert!(told.contains(part), "{told}");
            assert_eq!(fs::read(path.join("config.toml")).unwrap(), config);
        }
        recipe.lm_train.steps = 8;
        assert_eq!(resumed(&recipe), None);
        assert_ne!(fs::read(path.join("config.toml")).unwrap(), config);
    }
}
