//! A run's folder: where everything lies, and checkpoints that appear whole or not at all.
//!
//! ```text
//! config.toml                     the recipe, complete
//! checkpoints/<stage>/step-N/     weights, averaged weights, optimizer state, manifest.json
//! checkpoints/<stage>/latest      the name of the newest
//! latents.safetensors             the latent cache
//! metrics.jsonl  samples/  report.html
//! skipped.txt                     what was left out, if anything was
//! ```

use std::fs;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use latentlm::core::bundle::{BundleError, BundleWriter, UNFINISHED, io_error, write_atomically};
use serde::{Deserialize, Serialize};

use crate::error::PipelineError;
use crate::recipe::Recipe;

/// Version of the checkpoint format; a change of it refuses older checkpoints with a clear line.
const FORMAT_VERSION: u32 = 1;
/// What a checkpoint says of itself, among its files.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Checkpoints of a stage that are kept.
const KEPT: usize = 2;

/// What a checkpoint says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "R: Recipe")]
pub struct Manifest<R> {
    /// Version of the format.
    pub format_version: u32,
    /// Version of this project.
    pub crate_version: String,
    /// Version of Burn.
    pub burn_version: String,
    /// `codec` or `lm`.
    pub stage: String,
    /// Optimizer steps taken.
    pub step: u64,
    /// The seed; with the step it is the whole random state.
    pub seed: u64,
    /// Names of the classes; none where there are texts instead.
    #[serde(default)]
    pub classes: Vec<String>,
    /// Hash of the training data.
    pub dataset_fingerprint: String,
    /// Bias and scale of the latents' whitening, once known.
    pub whitening: Option<[f32; 2]>,
    /// The recipe, complete.
    pub recipe: R,
}

impl<R: Recipe> Manifest<R> {
    /// The manifest of a stage at step 0.
    pub fn new(stage: &str, recipe: &R, classes: &[String], fingerprint: &str) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            crate_version: env!("CARGO_PKG_VERSION").into(),
            burn_version: "0.22.1".into(),
            stage: stage.into(),
            step: 0,
            seed: recipe.seed(),
            classes: classes.to_vec(),
            dataset_fingerprint: fingerprint.into(),
            whitening: None,
            recipe: recipe.clone(),
        }
    }

    /// Reads a checkpoint's manifest.
    ///
    /// # Errors
    /// If there is none or it is damaged or of another format.
    pub fn read(folder: &Path) -> Result<Self, PipelineError> {
        let path = folder.join(MANIFEST);
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        Self::from_bytes(&bytes, &path)
    }

    /// Reads the bytes of a manifest; errors call them `name`.
    ///
    /// # Errors
    /// If they are damaged or of another format.
    pub fn from_bytes(bytes: &[u8], name: &Path) -> Result<Self, PipelineError> {
        let broken = |reason: String| PipelineError::Run {
            path: name.to_owned(),
            reason,
        };
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|e| broken(format!("damaged manifest: {e}")))?;
        if manifest.format_version != FORMAT_VERSION {
            return Err(broken(format!(
                "checkpoint format {}, this program reads {FORMAT_VERSION}",
                manifest.format_version
            )));
        }
        Ok(manifest)
    }
}

/// The folder of a run.
#[derive(Debug, Clone)]
pub struct RunFolder<R> {
    path: PathBuf,
    recipe: PhantomData<R>,
}

impl<R: Recipe> RunFolder<R> {
    /// Begins a run in a folder that does not exist or is empty.
    ///
    /// # Errors
    /// If the folder has a run already or can't be written.
    pub fn create(path: &Path, recipe: &R) -> Result<Self, PipelineError> {
        let run = Self::at(path);
        if run.config_path().exists() {
            return Err(
                run.error("exists already; continue it with --resume, or name another with --run")
            );
        }
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        write_atomically(&run.config_path(), recipe.to_toml()?.as_bytes())?;
        Ok(run)
    }

    /// Opens an existing run and its recipe.
    ///
    /// # Errors
    /// If the folder is no run, or one of another modality.
    pub fn open(path: &Path) -> Result<(Self, R), PipelineError> {
        let run = Self::at(path);
        if !run.config_path().is_file() {
            return Err(run.error("is no run: it has no config.toml"));
        }
        let recipe = R::resolve(Some(&run.config_path()), &[])
            .map_err(|error| run.error(format!("is no run of {}: {error}", R::COMMAND)))?;
        Ok((run, recipe))
    }

    fn at(path: &Path) -> Self {
        Self {
            path: path.into(),
            recipe: PhantomData,
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
        PipelineError::Run {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn stage(&self, stage: &str) -> PathBuf {
        self.path.join("checkpoints").join(stage)
    }

    /// The newest checkpoint of a stage.
    ///
    /// # Errors
    /// If its pointer or manifest is damaged.
    pub fn latest(&self, stage: &str) -> Result<Option<(PathBuf, Manifest<R>)>, PipelineError> {
        let pointer = self.stage(stage).join("latest");
        if !pointer.exists() {
            return Ok(None);
        }
        let name = fs::read_to_string(&pointer).map_err(io_error("read", &pointer))?;
        let folder = self.stage(stage).join(name.trim());
        let manifest = Manifest::read(&folder)?;
        Ok(Some((folder, manifest)))
    }

    /// The newest checkpoint of a stage, which must exist.
    ///
    /// # Errors
    /// If there is none.
    pub fn require(&self, stage: &str) -> Result<(PathBuf, Manifest<R>), PipelineError> {
        self.latest(stage)?.ok_or_else(|| {
            self.error(format!(
                "has no checkpoint of the stage `{stage}` yet; continue it with {} --resume",
                R::COMMAND
            ))
        })
    }

    /// Saves a checkpoint: `fill` writes the files, then the folder appears, then `latest` names
    /// it, then older ones go. A kill or a full disk at any moment leaves the last one whole.
    ///
    /// # Errors
    /// If a file can't be written.
    pub fn checkpoint<E: From<BundleError>>(
        &self,
        manifest: &Manifest<R>,
        fill: impl FnOnce(&BundleWriter) -> Result<(), E>,
    ) -> Result<PathBuf, E> {
        let name = format!("step-{}", manifest.step);
        let folder = self.stage(&manifest.stage);
        let bundle = BundleWriter::begin(&folder.join(&name))?;
        fill(&bundle)?;
        let json = serde_json::to_vec_pretty(manifest).unwrap_or_default();
        bundle.write(MANIFEST, &json)?;
        let written = bundle.commit()?;
        write_atomically(&folder.join("latest"), name.as_bytes())?;
        self.remove_old(&folder);
        Ok(written)
    }

    /// Removes all but the newest checkpoints, and what a killed process left half written. What
    /// can't be removed stays: it does no harm.
    fn remove_old(&self, folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        let mut steps: Vec<(u64, PathBuf)> = Vec::new();
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(UNFINISHED) {
                let _ = fs::remove_dir_all(entry.path());
            }
            if let Some(step) = name.strip_prefix("step-").and_then(|n| n.parse().ok()) {
                steps.push((step, entry.path()));
            }
        }
        steps.sort();
        let old = steps.len().saturating_sub(KEPT);
        for (_, path) in steps.drain(..old) {
            let _ = fs::remove_dir_all(path);
        }
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
        let left = run.stage("lm").join(format!("{UNFINISHED}x"));
        fs::create_dir(&left).unwrap();
        run.checkpoint::<PipelineError>(&manifest, |_| Ok(()))
            .unwrap();
        assert!(!left.exists(), "what a kill left is removed");
        let (folder, read) = run.latest("lm").unwrap().unwrap();
        assert_eq!(read, manifest);
        assert!(folder.ends_with("step-15"));
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
        assert_eq!(run.latest("lm").unwrap().unwrap().1.step, 5);
        assert!(!run.stage("lm").join("step-10").exists());
    }

    #[test]
    fn folders_that_are_no_runs_are_refused() {
        let (dir, run, _) = run();
        let again = RunFolder::create(run.path(), &ImageRecipe::default()).unwrap_err();
        assert!(again.to_string().contains("--resume"), "{again}");
        let none = RunFolder::<ImageRecipe>::open(&dir.path().join("none")).unwrap_err();
        assert!(none.to_string().contains("is no run"), "{none}");
        let early = run.require("lm").unwrap_err().to_string();
        assert!(early.contains("no checkpoint of the stage `lm`"), "{early}");
    }
}
