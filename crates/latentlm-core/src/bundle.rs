//! Checkpoint bundles: modules as safetensors files, folders that appear whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::{
    ApplyError, ApplyResult, KeyRemapper, ModuleSnapshot, SafetensorsStore, SafetensorsStoreError,
};

/// What can be wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file or folder can't be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A weights file that is damaged or no safetensors at all.
    #[error("{path} is damaged or no safetensors file: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SafetensorsStoreError,
    },
    /// Weights of another model.
    #[error("{path} does not fit this model: {reason}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The first tensors that are missing, unknown or of another shape.
        reason: String,
    },
}

/// Attaches action and path to an I/O error.
pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io {
        action,
        path,
        source,
    }
}

/// Saves a module's parameters, named by their field paths, into a safetensors file.
///
/// # Errors
/// If the file can't be written.
pub fn save_module<M: Module>(module: &M, path: &Path) -> Result<(), BundleError> {
    let mut store = SafetensorsStore::from_file(path).overwrite(true);
    module
        .save_into(&mut store)
        .map_err(|source| match source {
            SafetensorsStoreError::Io(source) => io_error("write", path)(source),
            other => BundleError::Io {
                action: "write",
                path: path.to_owned(),
                source: io::Error::other(other.to_string()),
            },
        })?;
    sync_file(path)
}

/// Loads a module's parameters from a safetensors file. The file must hold exactly the module's
/// parameters: a missing, unknown or misshapen tensor is named in the error.
///
/// # Errors
/// If the file can't be read or does not fit.
pub fn load_module<M: Module>(module: M, path: &Path) -> Result<M, BundleError> {
    load_renamed(module, path, KeyRemapper::new())
}

/// [`load_module`] of a file in which parameters may have other names: `names` leads from those to the
/// module's own. Errors tell the module's.
///
/// # Errors
/// If the file can't be read or does not fit.
pub fn load_renamed<M: Module>(
    module: M,
    path: &Path,
    names: KeyRemapper,
) -> Result<M, BundleError> {
    File::open(path).map_err(io_error("read", path))?;
    load(module, SafetensorsStore::from_file(path), path, names)
}

/// Loads a module's parameters from the bytes of a safetensors file, as [`load_module`] does from a file.
/// Errors call the bytes `name`.
///
/// # Errors
/// If the bytes are damaged or do not fit.
pub fn load_module_from_bytes<M: Module>(
    module: M,
    bytes: Vec<u8>,
    name: &Path,
) -> Result<M, BundleError> {
    load_renamed_from_bytes(module, bytes, name, KeyRemapper::new())
}

/// [`load_renamed`] from the bytes of a file. Errors call the bytes `name`.
///
/// # Errors
/// If the bytes are damaged or do not fit.
pub fn load_renamed_from_bytes<M: Module>(
    module: M,
    bytes: Vec<u8>,
    name: &Path,
    names: KeyRemapper,
) -> Result<M, BundleError> {
    load(
        module,
        SafetensorsStore::from_bytes(Some(bytes)),
        name,
        names,
    )
}

fn load<M: Module>(
    module: M,
    store: SafetensorsStore,
    path: &Path,
    names: KeyRemapper,
) -> Result<M, BundleError> {
    let mut module = module;
    let mut store = store.remap(names).allow_partial(true).validate(false);
    let result = module
        .load_from(&mut store)
        .map_err(|source| BundleError::Damaged {
            path: path.to_owned(),
            source,
        })?;
    check_applied(&result, path, &[], str::to_owned)?;
    Ok(module)
}

/// Names what went wrong when a file's tensors were put into a module: the first that do not fit,
/// are missing or unknown, called as `name` calls them. Parameters in `own` need not be in the
/// file.
///
/// # Errors
/// If anything went wrong.
pub fn check_applied(
    result: &ApplyResult,
    path: &Path,
    own: &[&str],
    name: impl Fn(&str) -> String,
) -> Result<(), BundleError> {
    let describe = |error: &ApplyError| describe(error, &name);
    let mut problems: Vec<String> = result.errors.iter().map(describe).collect();
    let missing = result.missing.iter().map(|(ours, _)| ours.as_str());
    problems.extend(
        missing
            .filter(|ours| !own.contains(ours))
            .map(|ours| format!("lacks `{}`", name(ours))),
    );
    let unknown = result.unused.iter();
    problems.extend(unknown.map(|ours| format!("has an unknown `{}`", name(ours))));
    if problems.is_empty() {
        return Ok(());
    }
    let rest = problems.len().saturating_sub(3);
    let mut reason = problems[..problems.len().min(3)].join("; ");
    if rest > 0 {
        reason.push_str(&format!("; and {rest} more"));
    }
    Err(BundleError::Mismatch {
        path: path.to_owned(),
        reason,
    })
}

fn describe(error: &ApplyError, name: impl Fn(&str) -> String) -> String {
    match error {
        ApplyError::ShapeMismatch {
            path,
            expected,
            found,
        } => format!(
            "`{}` is {found:?}, the model wants {expected:?}",
            name(path)
        ),
        other => other.to_string(),
    }
}

/// How the names of folders under construction begin.
pub const UNFINISHED: &str = ".writing-";

/// A folder under construction. It lies beside its destination under a temporary name and takes
/// the final one in [`commit`](Self::commit), by one rename: a kill or a full disk at any moment
/// leaves either the whole folder or none. Dropped without a commit, it removes itself.
#[derive(Debug)]
pub struct BundleWriter {
    building: tempfile::TempDir,
    destination: PathBuf,
}

impl BundleWriter {
    /// Begins a folder that will be `destination`; parents are made.
    ///
    /// # Errors
    /// If the parent folder can't be made or written to.
    pub fn begin(destination: &Path) -> Result<Self, BundleError> {
        let parent = destination.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        let building = tempfile::Builder::new()
            .prefix(UNFINISHED)
            .tempdir_in(parent)
            .map_err(io_error("create a folder in", parent))?;
        Ok(Self {
            building,
            destination: destination.to_owned(),
        })
    }

    /// The path of a file of the folder while it is built.
    pub fn path(&self, name: &str) -> PathBuf {
        self.building.path().join(name)
    }

    /// Writes a file of the folder.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path(name);
        fs::write(&path, bytes).map_err(io_error("write", &path))?;
        sync_file(&path)
    }

    /// Gives the folder its name. An older folder of that name is replaced.
    ///
    /// # Errors
    /// If a rename fails; the older folder then stays.
    pub fn commit(self) -> Result<PathBuf, BundleError> {
        let Self {
            building,
            destination,
        } = self;
        if destination.exists() {
            let old = destination.with_extension("replaced");
            let _ = fs::remove_dir_all(&old);
            fs::rename(&destination, &old).map_err(io_error("move away", &destination))?;
            if let Err(source) = fs::rename(building.path(), &destination) {
                let _ = fs::rename(&old, &destination);
                return Err(io_error("create", &destination)(source));
            }
            let _ = fs::remove_dir_all(&old);
        } else {
            fs::rename(building.path(), &destination).map_err(io_error("create", &destination))?;
        }
        // The folder has moved: there is nothing left for the guard to remove.
        let _ = building.keep();
        if let Some(parent) = destination.parent() {
            sync_file(parent)?;
        }
        Ok(destination)
    }
}

/// Replaces a file whole: temporary name, sync, rename.
///
/// # Errors
/// If the folder can't be written to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    let parent = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::create_dir_all(parent).map_err(io_error("create", parent))?;
    let mut file = tempfile::NamedTempFile::new_in(parent).map_err(io_error("write in", parent))?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().sync_all())
        .map_err(io_error("write", path))?;
    file.persist(path)
        .map_err(|e| io_error("write", path)(e.error))?;
    Ok(())
}

fn sync_file(path: &Path) -> Result<(), BundleError> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(io_error("sync", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Param, ParamId};
    use burn::nn::Linear;
    use burn::tensor::Device;

    use crate::RandomStream;

    /// A layer of a seed: Burn's own weights come from a generator that other tests draw from too.
    fn linear(seed: u64, input: usize, output: usize) -> Linear {
        let (mut random, device) = (RandomStream::new(seed), Device::default());
        let weight = random.normal([input, output], &device);
        let bias = random.normal([output], &device);
        Linear {
            weight: Param::initialized(ParamId::new(), weight),
            bias: Some(Param::initialized(ParamId::new(), bias)),
        }
    }

    #[test]
    fn module_reads_back_bit_equal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let saved = linear(1, 3, 5);
        save_module(&saved, &path).unwrap();
        let loaded = load_module(linear(2, 3, 5), &path).unwrap();
        assert_eq!(saved.weight.to_data(), loaded.weight.to_data());
        let bytes = fs::read(&path).unwrap();
        let loaded = load_module_from_bytes(linear(3, 3, 5), bytes, &path).unwrap();
        assert_eq!(saved.weight.to_data(), loaded.weight.to_data());
    }

    #[test]
    fn another_shape_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        save_module(&linear(1, 3, 5), &path).unwrap();
        let message = load_module(linear(1, 4, 5), &path).unwrap_err().to_string();
        assert!(message.contains("`weight`"), "{message}");
        assert!(
            message.contains("[3, 5]") && message.contains("[4, 5]"),
            "{message}"
        );
    }

    #[test]
    fn missing_and_unknown_tensors_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let without = Linear {
            bias: None,
            ..linear(1, 3, 5)
        };
        save_module(&without, &path).unwrap();
        let message = load_module(linear(1, 3, 5), &path).unwrap_err().to_string();
        assert!(message.contains("lacks `bias`"), "{message}");
        save_module(&linear(1, 3, 5), &path).unwrap();
        let message = load_module(without, &path).unwrap_err().to_string();
        assert!(message.contains("unknown `bias`"), "{message}");
    }

    #[test]
    fn a_file_cut_in_half_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        save_module(&linear(1, 30, 50), &path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for keep in [bytes.len() / 2, 40, 3, 0] {
            let part = bytes[..keep].to_vec();
            fs::write(&path, &part).unwrap();
            let of_file = load_module(linear(1, 30, 50), &path);
            let of_bytes = load_module_from_bytes(linear(1, 30, 50), part, &path);
            for error in [of_file.unwrap_err(), of_bytes.unwrap_err()] {
                assert!(
                    matches!(error, BundleError::Damaged { .. }),
                    "{keep}: {error}"
                );
            }
        }
    }

    #[test]
    fn an_abandoned_bundle_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("step-1");
        let writer = BundleWriter::begin(&target).unwrap();
        writer.write("a", b"x").unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn commit_replaces_an_older_folder() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("step-1");
        for text in ["old", "new"] {
            let writer = BundleWriter::begin(&target).unwrap();
            writer.write("a", text.as_bytes()).unwrap();
            writer.commit().unwrap();
        }
        assert_eq!(fs::read(target.join("a")).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
