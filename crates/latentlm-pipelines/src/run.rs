//! A run's folder: where everything lies, and checkpoints that appear whole or not at all.
//!
//! ```text
//! config.toml                     the recipe, complete
//! checkpoints/<stage>/step-N/     weights, averaged weights, optimizer state, manifest.json
//! checkpoints/<stage>/latest      the name of the newest
//! latents.safetensors             the latent cache
//! metrics.jsonl  samples/  report.html
//! data.txt  weights.txt           what it is trained on, and weights that it takes from elsewhere, with hashes
//! skipped.txt                     what was left out, if anything was
//! origins.jsonl                   where and by which version it was trained and evaluated
//! .lock                           held by the process that trains here
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::marker::PhantomData;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use latentlm::core::bundle::{BundleError, BundleWriter, io_error, write_atomically};
use latentlm::core::disk;
use latentlm_keys::RunKind;

use crate::error::{PipelineError, Result};
use crate::integrity::{
    LATEST, MANIFEST, Wanted, damage, misplaced, named_newest, special_file, step_of, sums,
    unchecked,
};
use crate::lock::{LOCK, RunLock};
use crate::manifest::{Manifest, own_checksum};
use crate::recipe::Recipe;

/// Checkpoints of a stage that are kept.
const KEPT: usize = 2;
/// Files that a run has before its first log record.
const BEGINNING: [&str; 5] = [
    "config.toml",
    "data.txt",
    "weights.txt",
    "skipped.txt",
    "origins.jsonl",
];
/// The folder that runs lie in unless a user names another.
const RUNS: &str = "runs";

/// A whole checkpoint of a run.
#[derive(Debug, Clone)]
pub struct Found<R> {
    /// Its folder.
    pub folder: PathBuf,
    /// Its manifest.
    pub manifest: Manifest<R>,
    /// Notes for the user, one line each: newer checkpoints that are damaged, or missing checksums.
    pub notes: Vec<String>,
}

/// A stage of a run that has checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BegunStage {
    /// The folder of the run.
    pub run: PathBuf,
    /// The stage's name.
    pub name: String,
    /// The step of its newest checkpoint, whole or not; 0 if there is none yet.
    pub step: u64,
}

/// The folder of a run. A run that trains holds its lock until the last copy of this value is dropped.
#[derive(Debug, Clone)]
pub struct RunFolder<R> {
    path: PathBuf,
    recipe: PhantomData<R>,
    lock: Option<Arc<RunLock>>,
    /// Folders that this process made for it: its own, and missing ones above.
    made: Vec<PathBuf>,
}

impl<R: Recipe> RunFolder<R> {
    /// Begins a run in a folder that does not exist or is empty, and locks it.
    ///
    /// # Errors
    /// If the folder has a run or other files already, is where runs lie, another process is beginning a run
    /// there, or it can't be written.
    pub fn create(path: &Path, recipe: &R) -> Result<Self> {
        let run = Self::claim(path)?;
        run.set_recipe(recipe)?;
        Ok(run)
    }

    /// Takes a folder that does not exist or is empty for a run, and locks it. The run begins with
    /// [`set_recipe`](Self::set_recipe). Until then another process neither trains nor resumes here.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn claim(path: &Path) -> Result<Self> {
        Self::claim_with(path, RunLock::take)
    }

    fn claim_with(path: &Path, lock: impl Fn(&Path) -> Result<RunLock>) -> Result<Self> {
        let mut run = Self::at(path);
        run.check_free()?;
        if let Err(error) = run.make_and_lock(&lock) {
            if path.exists() {
                return Err(error);
            }
            // Another training that could not start removed the folder before it was locked.
            run.make_and_lock(&lock)?;
        }
        // Another process may have begun one since.
        run.check_free()?;
        Ok(run)
    }

    /// Makes the folder and locks it. If it can't be locked, nothing that was made stays.
    fn make_and_lock(&mut self, lock: impl Fn(&Path) -> Result<RunLock>) -> Result<()> {
        self.made = disk::create_folders(&self.path).map_err(io_error("create", &self.path))?;
        match lock(&self.path) {
            Ok(lock) => {
                self.lock = Some(Arc::new(lock));
                Ok(())
            }
            Err(error) => {
                disk::remove_empty_folders(&self.made);
                Err(error)
            }
        }
    }

    /// Tells that a second training in the folder is not held off, where the file system has no locks.
    pub fn lock_note(&self) -> Option<&str> {
        self.lock.as_ref()?.note.as_deref()
    }

    /// Opens an existing run to train on, and locks it.
    ///
    /// # Errors
    /// If the folder is no run, is one of another modality, or another process trains in it.
    pub fn resume(path: &Path) -> Result<(Self, R)> {
        let (mut run, recipe) = Self::open(path)?;
        run.lock = Some(Arc::new(RunLock::take(path)?));
        Ok((run, recipe))
    }

    /// Writes the recipe that the run continues with, if it differs from the one in the folder.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn set_recipe(&self, recipe: &R) -> Result<()> {
        if Self::open(&self.path).is_ok_and(|(_, saved)| saved == *recipe) {
            return Ok(());
        }
        let toml = recipe.to_toml()?;
        Ok(write_atomically(&self.config_path(), toml.as_bytes())?)
    }

    /// The stages that have checkpoints, those of the runs in its folder too, such as the models of a comparison.
    pub fn stages(&self) -> Vec<BegunStage> {
        let mut runs = vec![self.path.clone()];
        let mut inside = paths_in(&self.path).unwrap_or_default();
        inside.sort();
        runs.extend(inside);
        let mut stages = Vec::new();
        for run in runs {
            let mut folders = paths_in(&run.join("checkpoints")).unwrap_or_default();
            folders.sort();
            for folder in folders {
                let steps = steps_in(&folder).unwrap_or_default();
                stages.push(BegunStage {
                    run: run.clone(),
                    name: name_of(&folder),
                    step: steps.keys().next_back().copied().unwrap_or(0),
                });
            }
        }
        stages
    }

    /// Whether a run may begin here.
    ///
    /// # Errors
    /// If not.
    pub fn check_free(&self) -> Result<()> {
        if self.path.as_os_str().is_empty() {
            return Err(PipelineError::config(
                "--run needs a name, such as runs/mnist",
            ));
        }
        let own = normalized(&self.path);
        let paths = paths_in(&self.path).unwrap_or_default();
        let names = paths.iter().map(|path| name_of(path));
        let reason = if self.config_path().exists() {
            "exists already; continue it with --resume, or name another with --run".into()
        } else if own == normalized(Path::new(".")) {
            format!("is the current folder: name a folder of its own, such as {RUNS}/mnist")
        } else if own == normalized(Path::new(RUNS)) {
            format!("is where runs lie: name a folder in it, such as {RUNS}/mnist")
        } else if self.path.exists() && !self.path.is_dir() {
            "is a file: name a folder with --run".into()
        } else if let Some(name) = names.filter(|name| !is_leftover(name)).min() {
            format!("has other files in it (`{name}`): name an empty or a new folder with --run")
        } else {
            return Ok(());
        };
        Err(self.error(reason))
    }

    /// Opens an existing run and its recipe.
    ///
    /// # Errors
    /// If the folder is no run, or one of another modality.
    pub fn open(path: &Path) -> Result<(Self, R)> {
        let run = Self::at(path);
        if !run.config_path().is_file() {
            return Err(run.error("is no run: it has no config.toml"));
        }
        let other = |reason: String| run.error(format!("is no run of {}: {reason}", R::COMMAND));
        // Recipes of two kinds may share all keys that one of them has.
        if let Some(kind) = RunKind::of(&run.config_path())
            && kind.trained_by != R::COMMAND
            && RunKind::is_trained_by(R::COMMAND)
        {
            return Err(other(kind.to_string()));
        }
        let recipe =
            R::resolve(Some(&run.config_path()), &[]).map_err(|error| other(error.to_string()))?;
        Ok((run, recipe))
    }

    fn at(path: &Path) -> Self {
        Self {
            path: path.into(),
            recipe: PhantomData,
            lock: None,
            made: Vec::new(),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A file or folder of the run.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn config_path(&self) -> PathBuf {
        self.file("config.toml")
    }

    /// An error about this run.
    pub fn error(&self, reason: impl Into<String>) -> PipelineError {
        PipelineError::Run(self.path.clone(), reason.into())
    }

    fn stage(&self, stage: &str) -> PathBuf {
        self.path.join("checkpoints").join(stage)
    }

    /// The newest checkpoint of a stage that is whole: files are compared with their checksums, and if the
    /// newest is damaged, an older one is taken.
    ///
    /// # Errors
    /// If there are checkpoints, and all are damaged.
    pub fn latest(&self, stage: &str, wanted: Wanted) -> Result<Option<Found<R>>> {
        let mut notes = Vec::new();
        let mut first = None;
        for folder in self.newest_first(stage)? {
            match self.check(&folder, stage, wanted) {
                Ok(manifest) => {
                    if !notes.is_empty() {
                        notes.push(format!("using {} instead", folder.display()));
                    }
                    if manifest.files.is_empty() {
                        notes.push(unchecked(&folder.display().to_string()));
                    }
                    return Ok(Some(Found {
                        folder,
                        manifest,
                        notes,
                    }));
                }
                Err(error) => {
                    notes.push(error.to_string());
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// Folders of a stage's checkpoints: the one that `latest` names, then all others.
    fn newest_first(&self, stage: &str) -> Result<Vec<PathBuf>> {
        let stage = self.stage(stage);
        if !stage.is_dir() {
            return Ok(Vec::new());
        }
        let steps = steps_in(&stage).map_err(io_error("read", &stage))?;
        let mut folders: Vec<PathBuf> = steps.into_values().rev().collect();
        // A checkpoint that is newer than the pointer was written by a process that was killed before
        // it moved the pointer: the stage has not gone on from there.
        if let Ok(name) = named_newest(&stage)
            && let Some(place) = folders.iter().position(|path| path.ends_with(&name))
        {
            let named = folders.remove(place);
            folders.insert(0, named);
        }
        Ok(folders)
    }

    fn check(&self, folder: &Path, stage: &str, wanted: Wanted) -> Result<Manifest<R>> {
        if let Some(reason) = special_file(folder) {
            return Err(PipelineError::Run(folder.to_owned(), reason));
        }
        let manifest = Manifest::read(folder)?;
        let damage = misplaced(folder, &manifest.stage, manifest.step)
            .or_else(|| damage(folder, &manifest.files, wanted));
        match damage {
            None if manifest.stage == stage => Ok(manifest),
            None => Err(self.error(format!("the stage `{stage}` has no such checkpoint"))),
            Some(reason) => Err(PipelineError::Run(folder.to_owned(), reason)),
        }
    }

    /// [`latest`](Self::latest) of a stage that must have one.
    ///
    /// # Errors
    /// If there is none, or all are damaged.
    pub fn require(&self, stage: &str, wanted: Wanted) -> Result<Found<R>> {
        self.latest(stage, wanted)?.ok_or_else(|| {
            self.error(format!(
                "has no checkpoint of the stage `{stage}` yet; continue it with {} --resume",
                R::COMMAND
            ))
        })
    }

    /// Saves a checkpoint: `fill` writes the files, then the folder appears, then `latest` names it, then older ones
    /// are removed. A kill, a full disk or a power cut at any moment leaves the last one whole. If the manifest does
    /// not read back as it was written, the checkpoint does not count.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn checkpoint<E: From<BundleError> + From<PipelineError>>(
        &self,
        manifest: &Manifest<R>,
        fill: impl FnOnce(&BundleWriter) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let name = format!("step-{}", manifest.step);
        let folder = self.stage(&manifest.stage);
        let bundle = BundleWriter::begin(&folder.join(&name))?;
        fill(&bundle)?;
        let manifest = Manifest {
            files: sums(bundle.folder()).map_err(io_error("read", bundle.folder()))?,
            ..manifest.clone()
        };
        bundle.write(MANIFEST, &self.readable(&manifest)?)?;
        let written = bundle.commit()?;
        write_atomically(&folder.join(LATEST), name.as_bytes())?;
        remove_old(&folder, manifest.step);
        Ok(written)
    }

    /// A manifest's bytes, checked to give the same manifest when they are read.
    fn readable(&self, manifest: &Manifest<R>) -> Result<Vec<u8>> {
        let unwritable = |error| self.error(format!("its manifest can't be written: {error}"));
        let mut manifest = manifest.clone();
        manifest.checksum = String::new();
        let json = serde_json::to_vec_pretty(&manifest).map_err(unwritable)?;
        manifest.checksum = own_checksum(&json);
        let json = serde_json::to_vec_pretty(&manifest).map_err(unwritable)?;
        let again = Manifest::from_bytes(&json, &self.path.join(MANIFEST))?;
        if again != manifest {
            let reason = "its manifest would not be read as it was written: a value of the recipe \
                          is no plain number";
            return Err(self.error(reason));
        }
        Ok(json)
    }

    /// Removes the unfinished files of killed processes. Only the holder of the run's lock may call it.
    pub fn sweep(&self) {
        disk::sweep(&self.path);
        disk::sweep(&self.file("samples"));
        disk::sweep(&self.file("evaluation"));
        for stage in paths_in(&self.path.join("checkpoints")).unwrap_or_default() {
            disk::sweep(&stage);
        }
    }
}

impl<R> RunFolder<R> {
    /// Removes the initial files of a run that has neither a log record nor a checkpoint, and the folders that
    /// this process made for it.
    pub fn remove_if_empty(&self) {
        let Ok(mut paths) = paths_in(&self.path) else {
            return;
        };
        if !paths.iter().all(|path| is_beginning(path)) {
            return;
        }
        // The lock last: until then no other process begins here.
        paths.sort_by_key(|path| path.ends_with(LOCK));
        for path in &paths {
            let _ = if path.is_dir() {
                fs::remove_dir(path)
            } else {
                fs::remove_file(path)
            };
        }
        disk::remove_empty_folders(&self.made);
    }
}

/// The files and folders in a folder, in any order.
pub(crate) fn paths_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.flatten();
    Ok(entries.map(|entry| entry.path()).collect())
}

/// The checkpoints in a stage's folder with their steps, oldest first.
pub(crate) fn steps_in(folder: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let paths = paths_in(folder)?.into_iter();
    let steps = paths.filter_map(|path| Some((step_of(&path)?, path)));
    Ok(steps.collect())
}

/// The last part of a path.
fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The absolute path of a folder, without `.` and `..`. Links are followed as far as the folder exists.
fn normalized(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    let mut plain = PathBuf::new();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    match (plain.parent().map(Path::canonicalize), plain.file_name()) {
        (Some(Ok(above)), Some(name)) => above.join(name),
        _ => plain,
    }
}

/// Whether a file or folder is one of a run's initial files.
fn is_beginning(path: &Path) -> bool {
    let name = name_of(path);
    if is_leftover(&name) || BEGINNING.contains(&&*name) {
        return true;
    }
    match fs::metadata(path) {
        Ok(entry) if entry.is_dir() => {
            fs::read_dir(path).is_ok_and(|mut inside| inside.next().is_none())
        }
        Ok(entry) => name == "metrics.jsonl" && entry.len() == 0,
        Err(_) => false,
    }
}

/// Whether a file may lie in the folder of a new run: a lock, or an unfinished file.
fn is_leftover(name: &str) -> bool {
    name == LOCK || name.starts_with(disk::UNFINISHED)
}

/// Removes all but the newest checkpoints up to a step, and the unfinished files of killed processes. Later
/// checkpoints are removed too: they were damaged, and training continued from an older one. Files that can't
/// be removed stay and do no harm.
fn remove_old(folder: &Path, newest: u64) {
    disk::sweep(folder);
    let mut steps = steps_in(folder).unwrap_or_default();
    let later = steps.split_off(&(newest + 1));
    let old = steps.len().saturating_sub(KEPT);
    for path in steps.values().take(old).chain(later.values()) {
        disk::remove_folder(path);
    }
}

/// File of a module's weights.
pub fn weights_file(name: &str) -> String {
    format!("{name}.safetensors")
}

/// File of a module's averaged weights.
pub fn ema_file(name: &str) -> String {
    format!("{name}-ema.safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::ImageRecipe;

    type Opened = (
        tempfile::TempDir,
        RunFolder<ImageRecipe>,
        Manifest<ImageRecipe>,
    );

    fn run() -> Opened {
        let dir = tempfile::tempdir().unwrap();
        let recipe = ImageRecipe::default();
        let run = RunFolder::create(&dir.path().join("r"), &recipe).unwrap();
        let manifest = Manifest::new("lm", &recipe, &["a".into()], "f");
        (dir, run, manifest)
    }

    #[test]
    fn the_newest_checkpoints_are_kept() {
        let (_dir, run, mut manifest) = run();
        for step in [5, 10, 15] {
            manifest.step = step;
            run.checkpoint::<PipelineError>(&manifest, |bundle| Ok(bundle.write("x", b"y")?))
                .unwrap();
        }
        let left = run.stage("lm").join(format!("{}x", disk::UNFINISHED));
        fs::create_dir(&left).unwrap();
        run.checkpoint::<PipelineError>(&manifest, |_| Ok(()))
            .unwrap();
        assert!(!left.exists(), "what a kill left is removed");
        let found = run.latest("lm", Wanted::Everything).unwrap().unwrap();
        assert_eq!(found.manifest.step, 15);
        assert!(found.folder.ends_with("step-15"));
        assert!(!run.stage("lm").join("step-5").exists());
        assert!(run.stage("lm").join("step-10").exists());
    }

    #[test]
    fn a_failed_checkpoint_leaves_the_last_one() {
        let (_dir, run, mut manifest) = run();
        manifest.step = 5;
        run.checkpoint::<PipelineError>(&manifest, |_| Ok(()))
            .unwrap();
        manifest.step = 10;
        let failed = run.checkpoint::<PipelineError>(&manifest, |bundle| {
            bundle.write("half", b"...")?;
            Err(run.error("disk full"))
        });
        assert!(failed.is_err());
        let found = run.latest("lm", Wanted::Everything).unwrap().unwrap();
        assert_eq!(found.manifest.step, 5);
        assert!(!run.stage("lm").join("step-10").exists());
    }

    #[test]
    fn folders_that_are_no_runs_are_refused() {
        let (dir, run, _) = run();
        let again = RunFolder::create(run.path(), &ImageRecipe::default()).unwrap_err();
        assert!(again.to_string().contains("--resume"), "{again}");
        let none = RunFolder::<ImageRecipe>::open(&dir.path().join("none")).unwrap_err();
        assert!(none.to_string().contains("is no run"), "{none}");
        let voice = dir.path().join("voice");
        fs::create_dir(&voice).unwrap();
        fs::write(voice.join("config.toml"), "[data]\nloudness_dbfs = -23.0").unwrap();
        let other = RunFolder::<ImageRecipe>::open(&voice).unwrap_err();
        let told = "is no run of train-image: it is one of train-tts, for `speak`";
        assert!(other.to_string().contains(told), "{other}");
        let early = run.require("lm", Wanted::Weights).unwrap_err().to_string();
        assert!(early.contains("no checkpoint of the stage `lm`"), "{early}");
    }

    #[test]
    fn a_run_begins_in_a_folder_of_its_own_alone() {
        let dir = tempfile::tempdir().unwrap();
        let begin = |path: &Path| RunFolder::create(path, &ImageRecipe::default());
        let told = |path: &Path| begin(path).unwrap_err().to_string();
        assert!(told(Path::new("")).contains("--run needs a name"));
        assert!(told(Path::new("runs")).contains("is where runs lie"));
        assert!(told(Path::new("./runs/")).contains("is where runs lie"));
        let here = std::env::current_dir().unwrap();
        assert!(told(&here.join("runs")).contains("is where runs lie"));
        assert!(told(Path::new("runs/../runs")).contains("is where runs lie"));
        for current in [
            Path::new("./"),
            Path::new("."),
            Path::new("runs/.."),
            here.as_path(),
        ] {
            let line = told(current);
            assert!(line.contains("is the current folder"), "{line}");
        }
        let used = dir.path().join("used");
        fs::create_dir(&used).unwrap();
        fs::write(used.join("letter.txt"), b"x").unwrap();
        let other = told(&used);
        assert!(
            other.contains("other files in it (`letter.txt`)"),
            "{other}"
        );
        assert!(told(&used.join("letter.txt")).contains("is a file"));
        let left = dir.path().join("left");
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), b"1").unwrap();
        begin(&left).unwrap();
        begin(&dir.path().join("a/b")).unwrap();
    }

    /// A folder is taken before its recipe is known to be trainable.
    #[test]
    fn a_claimed_folder_is_held_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (there, path) = (dir.path().join("there"), dir.path().join("there/a/b"));
        fs::create_dir(&there).unwrap();
        let claim = || RunFolder::<ImageRecipe>::claim(&path);
        let first = claim().unwrap();
        assert_eq!(first.lock_note(), None);
        let second = claim().unwrap_err().to_string();
        assert!(second.contains("is training here"), "{second}");
        first.remove_if_empty();
        assert_eq!(fs::read_dir(&there).unwrap().count(), 0);
        // What was there stays.
        fs::create_dir_all(&path).unwrap();
        let again = claim().unwrap();
        again.set_recipe(&ImageRecipe::default()).unwrap();
        again.remove_if_empty();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    }

    /// As a start that fails does to one that begins at the same moment.
    #[test]
    fn a_folder_that_is_removed_before_it_is_locked_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let tries = std::cell::Cell::new(0);
        let removed_until = |last: u32| {
            let tries = &tries;
            tries.set(0);
            let lock = move |folder: &Path| {
                tries.set(tries.get() + 1);
                if tries.get() <= last {
                    fs::remove_dir(folder).unwrap();
                }
                RunLock::take(folder)
            };
            RunFolder::<ImageRecipe>::claim_with(&path, lock)
        };
        let run = removed_until(1).unwrap();
        assert_eq!(tries.get(), 2);
        assert!(path.join(LOCK).is_file());
        // It is locked, and what the second try made is the run's to remove.
        let told = RunFolder::<ImageRecipe>::claim(&path).unwrap_err();
        assert!(told.to_string().contains("is training here"), "{told}");
        run.remove_if_empty();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        // What goes wrong again is told.
        let told = removed_until(2).unwrap_err().to_string();
        assert!(told.contains(LOCK), "{told}");
        assert_eq!(tries.get(), 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    fn save(run: &RunFolder<ImageRecipe>, manifest: &mut Manifest<ImageRecipe>, step: u64) {
        manifest.step = step;
        let fill = |bundle: &BundleWriter| Ok(bundle.write("x", &[step as u8; 9])?);
        run.checkpoint::<PipelineError>(manifest, fill).unwrap();
    }

    #[test]
    fn a_damaged_checkpoint_is_passed_over_and_told() {
        let (_dir, run, mut manifest) = run();
        save(&run, &mut manifest, 5);
        save(&run, &mut manifest, 10);
        let newest = || run.latest("lm", Wanted::Everything).unwrap().unwrap();
        assert_eq!((newest().manifest.step, newest().notes.len()), (10, 0));
        let path = newest().folder.join("x");
        fs::write(&path, [10, 10, 10, 10, 11, 10, 10, 10, 10]).unwrap();
        let found = newest();
        assert_eq!(found.manifest.step, 5);
        let told = found.notes.join("\n");
        assert!(told.contains("step-10: x is damaged"), "{told}");
        assert!(told.contains("step-5 instead"), "{told}");
        // A manifest with another step than its folder's name.
        fs::remove_dir_all(run.stage("lm").join("step-10")).unwrap();
        fs::rename(
            run.stage("lm").join("step-5"),
            run.stage("lm").join("step-7"),
        )
        .unwrap();
        let told = run.latest("lm", Wanted::Everything).unwrap_err();
        assert!(told.to_string().contains("step 5 of the stage"), "{told}");
    }

    #[test]
    fn a_lost_pointer_loses_no_checkpoint() {
        let (_dir, run, mut manifest) = run();
        save(&run, &mut manifest, 5);
        save(&run, &mut manifest, 10);
        fs::remove_file(run.stage("lm").join("latest")).unwrap();
        let found = run.require("lm", Wanted::Everything).unwrap();
        assert_eq!(found.manifest.step, 10);
    }

    #[test]
    fn a_value_that_is_not_read_again_makes_no_checkpoint() {
        let (_dir, run, mut manifest) = run();
        save(&run, &mut manifest, 5);
        manifest.recipe.lm_train.clip_norm = f64::INFINITY;
        manifest.step = 10;
        let failed = run.checkpoint::<PipelineError>(&manifest, |_| Ok(()));
        assert!(failed.is_err());
        let found = run.require("lm", Wanted::Everything).unwrap();
        assert_eq!(found.manifest.step, 5);
    }

    /// Two checkpoints that exist, and a third that is being saved when the power goes: at every moment
    /// one of the last two is found whole.
    #[test]
    fn a_power_cut_at_any_moment_leaves_a_whole_checkpoint() {
        use latentlm::core::conformance::power_cut;

        let (dir, run, mut manifest) = run();
        save(&run, &mut manifest, 5);
        save(&run, &mut manifest, 10);
        let (_, recording) =
            power_cut::record(dir.path(), || save(&run, &mut manifest.clone(), 15));
        let remains = recording.remains();
        let mut steps = Vec::new();
        for left in &remains {
            let dir = tempfile::tempdir().unwrap();
            left.restore(dir.path());
            let (run, _) = RunFolder::<ImageRecipe>::open(&dir.path().join("r")).unwrap();
            let found = run.require("lm", Wanted::Everything).unwrap();
            assert!(found.notes.is_empty(), "{:?}", found.notes);
            steps.push(found.manifest.step);
        }
        assert!(
            steps.iter().all(|step| [10, 15].contains(step)),
            "{steps:?}"
        );
        assert_eq!((steps[0], steps[steps.len() - 1]), (10, 15));
    }

    /// After a power cut while a run begins, it is there with its recipe, or not at all.
    #[test]
    fn a_power_cut_leaves_no_half_begun_run() {
        use latentlm::core::conformance::power_cut;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs/new");
        let recipe = ImageRecipe::default();
        let (_, recording) =
            power_cut::record(dir.path(), || RunFolder::create(&path, &recipe).unwrap());
        for left in recording.remains() {
            let dir = tempfile::tempdir().unwrap();
            left.restore(dir.path());
            let path = dir.path().join("runs/new");
            match RunFolder::<ImageRecipe>::open(&path) {
                Ok((_, read)) => assert_eq!(read, recipe),
                Err(_) => drop(RunFolder::create(&path, &recipe).unwrap()),
            }
        }
    }
}
