//! Checkpoint bundles: modules in safetensors files, and folders that appear either whole or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::{
    ApplyError, ApplyResult, KeyRemapper, ModuleSnapshot, SafetensorsStore, SafetensorsStoreError,
};

use crate::bounds::{HeaderError, check_header, check_header_of};
use crate::disk::{self, Change};
use crate::finite::is_finite;

/// Errors of checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file or folder can't be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The action that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A weights file is damaged, or is not a safetensors file.
    #[error("{path} is damaged or no safetensors file: {source}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SafetensorsStoreError,
    },
    /// A weights file whose header asks for too much memory.
    #[error("cannot read {path}: its header {source}")]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// A weights file that is smaller than the model that is to be loaded from it.
    #[error(
        "{path} does not fit this model: it has {bytes} bytes, the model of its {described_by} needs {needed}"
    )]
    TooSmall {
        /// The file, or the folder of its shards.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// The file that describes the model.
        described_by: &'static str,
        /// The least bytes that the model's weights take in a file.
        needed: u64,
    },
    /// Weights that are infinite or NaN.
    #[error("{path} has weights that are not finite")]
    NotFinite {
        /// The file.
        path: PathBuf,
    },
    /// A weights file belongs to another model.
    #[error("{path} does not fit this model: {reason}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The first tensors that are missing, unknown or of the wrong shape.
        reason: String,
    },
}

/// Fewest bytes that a parameter takes in a file: bfloat16 or float16.
const LEAST_BYTES: u64 = 2;

/// Refuses a weights file of `bytes` bytes if it is too small for a model of `parameters` parameters. Called before
/// the model takes memory: sizes in a damaged description may ask for any amount. `described_by` names the
/// description, such as `manifest`.
///
/// # Errors
/// If the file has fewer than 2 bytes for each parameter.
pub fn check_size(
    path: &Path,
    bytes: u64,
    parameters: usize,
    described_by: &'static str,
) -> Result<(), BundleError> {
    let needed = (parameters as u64).saturating_mul(LEAST_BYTES);
    if needed <= bytes {
        return Ok(());
    }
    Err(BundleError::TooSmall {
        path: path.to_owned(),
        bytes,
        described_by,
        needed,
    })
}

/// A function that turns an I/O error into one that names action and path.
pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Io {
        action,
        path,
        source,
    }
}

/// Saves the parameters of a module into a safetensors file. Their names are the paths of their fields.
/// Equal weights make equal bytes.
///
/// # Errors
/// If a weight is not finite, or the file can't be written.
pub fn save_module<M: Module>(module: &M, path: &Path) -> Result<(), BundleError> {
    // Bad weights must not replace good ones.
    if !is_finite(module) {
        return Err(BundleError::NotFinite { path: path.into() });
    }
    let fail = |source| io_error("write", path)(source);
    // The store makes files that only their owner can read. This file gets the mode that follows from the
    // user's umask.
    let mode = File::create(path)
        .and_then(|file| file.metadata())
        .map_err(fail)?
        .permissions();
    // Header entries come in random order; one is left, so that files are reproducible.
    let mut store = SafetensorsStore::from_file(path)
        .overwrite(true)
        .clear_metadata()
        .metadata("format", "safetensors");
    module
        .save_into(&mut store)
        .map_err(|source| match source {
            SafetensorsStoreError::Io(source) => fail(source),
            other => fail(io::Error::other(other.to_string())),
        })?;
    fs::set_permissions(path, mode).map_err(fail)?;
    disk::note(|| Change::Write(path.into()));
    disk::sync_file(path).map_err(fail)
}

/// Loads the parameters of a module from a safetensors file, which must hold exactly these. The error names
/// tensors that are missing, unknown or of the wrong shape.
///
/// # Errors
/// If the file can't be read, does not fit or has weights that are not finite.
pub fn load_module<M: Module>(module: M, path: &Path) -> Result<M, BundleError> {
    load_renamed(module, path, KeyRemapper::new())
}

/// [`load_module`] for a file with other names of parameters. `names` maps them to the module's names, which
/// errors use.
///
/// # Errors
/// If the file can't be read or does not fit.
pub fn load_renamed<M: Module>(
    module: M,
    path: &Path,
    names: KeyRemapper,
) -> Result<M, BundleError> {
    File::open(path).map_err(io_error("read", path))?;
    check_header_of(path).map_err(header_error(path))?;
    load(module, SafetensorsStore::from_file(path), path, names)
}

/// [`load_module`] from the bytes of a file. Errors name them `name`.
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

/// [`load_renamed`] from the bytes of a file. Errors name them `name`.
///
/// # Errors
/// If the bytes are damaged or do not fit.
pub fn load_renamed_from_bytes<M: Module>(
    module: M,
    bytes: Vec<u8>,
    name: &Path,
    names: KeyRemapper,
) -> Result<M, BundleError> {
    check_header(&bytes).map_err(header_error(name))?;
    load(
        module,
        SafetensorsStore::from_bytes(Some(bytes)),
        name,
        names,
    )
}

/// A function that turns an error of a header into one that names the file.
fn header_error(path: &Path) -> impl FnOnce(HeaderError) -> BundleError {
    let path = path.to_owned();
    move |source| BundleError::Header { path, source }
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
    if !is_finite(&module) {
        return Err(BundleError::NotFinite { path: path.into() });
    }
    Ok(module)
}

/// Checks that all tensors of a file went into a module. The error names the first tensors that are missing,
/// unknown or do not fit; `name` turns the module's names into those of the message. Parameters in `own` need
/// not be in the file.
///
/// # Errors
/// If a tensor is missing, unknown or does not fit.
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

/// The message for a tensor that does not fit.
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

/// A folder that is being written. It lies beside its destination under a temporary name, and
/// [`commit`](Self::commit) renames it. So a kill, a full disk or a power cut at any moment leaves either the
/// whole folder or none. If it is dropped without a commit, it is removed.
#[derive(Debug)]
pub struct BundleWriter {
    building: tempfile::TempDir,
    destination: PathBuf,
    /// Tells other processes that this one lives, if it [began alone](Self::begin_alone).
    lock: Option<disk::FolderLock>,
}

impl BundleWriter {
    /// Creates a folder that will become `destination`. Creates parent folders if they are missing.
    ///
    /// # Errors
    /// If the parent folder can't be created or written to.
    pub fn begin(destination: &Path) -> Result<Self, BundleError> {
        let parent = disk::folder_of(destination);
        disk::create_folders(parent).map_err(io_error("create", parent))?;
        let building =
            disk::temporary_folder(parent).map_err(io_error("create a folder in", parent))?;
        Ok(Self {
            building,
            destination: destination.to_owned(),
            lock: None,
        })
    }

    /// [`begin`](Self::begin) for a folder that belongs to no run, whose lock would keep other processes out. Removes
    /// what killed processes left of folders of this name, and puts back an older folder that one of them had moved
    /// away. Folders that a running process is writing stay.
    ///
    /// # Errors
    /// If the parent folder can't be created or written to.
    pub fn begin_alone(destination: &Path) -> Result<Self, BundleError> {
        let parent = disk::folder_of(destination);
        disk::create_folders(parent).map_err(io_error("create", parent))?;
        let name = destination.file_name().unwrap_or_default();
        let name = name.to_string_lossy();
        if !disk::sweep_killed(parent, &name) {
            let old = moved_away(destination);
            if destination.exists() {
                disk::remove_folder(&old);
            } else if old.exists() {
                disk::rename(&old, destination).map_err(io_error("put back", destination))?;
            }
        }
        let (building, lock) =
            disk::locked_folder(parent, &name).map_err(io_error("create a folder in", parent))?;
        Ok(Self {
            building,
            destination: destination.to_owned(),
            lock,
        })
    }

    /// The unfinished folder.
    pub fn folder(&self) -> &Path {
        self.building.path()
    }

    /// The path of a file in the unfinished folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.building.path().join(name)
    }

    /// Writes a file into the folder.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        let path = self.path(name);
        disk::write_file(&path, bytes).map_err(io_error("write", &path))
    }

    /// Syncs a file that other code wrote into the folder.
    ///
    /// # Errors
    /// If it can't be read or synced.
    pub fn wrote(&self, name: &str) -> Result<(), BundleError> {
        let path = self.path(name);
        disk::note(|| Change::Write(path.clone()));
        disk::sync_file(&path).map_err(io_error("write", &path))
    }

    /// Renames the folder to its destination. Replaces an older folder of that name.
    ///
    /// # Errors
    /// If renaming fails. The older folder then stays.
    pub fn commit(self) -> Result<PathBuf, BundleError> {
        let Self {
            building,
            destination,
            lock: _lock,
        } = self;
        let create = || io_error("create", &destination);
        disk::sync_folder(building.path()).map_err(create())?;
        if destination.exists() {
            // If a kill comes before the removal, a later cleanup removes files of this name.
            let old = moved_away(&destination);
            disk::remove_folder(&old);
            disk::rename(&destination, &old).map_err(io_error("move away", &destination))?;
            if let Err(source) = disk::rename(building.path(), &destination) {
                let _ = disk::rename(&old, &destination);
                return Err(create()(source));
            }
            disk::remove_folder(&old);
        } else {
            disk::rename(building.path(), &destination).map_err(create())?;
        }
        // The temporary name is gone, and nothing is left to be removed.
        let _ = building.keep();
        Ok(destination)
    }
}

/// The place of an older folder while the new one takes its name.
fn moved_away(destination: &Path) -> PathBuf {
    let name = destination.file_name().unwrap_or_default();
    let name = format!("{}replaced-{}", disk::UNFINISHED, name.to_string_lossy());
    destination.with_file_name(name)
}

/// Writes a file so that it appears whole or not at all: under a temporary name, synced, then renamed. Replaces an
/// older file. A pipe or device is written into ([`disk::is_stream`]).
///
/// # Errors
/// If the folder or the stream can't be written to.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), BundleError> {
    disk::replace_file(path, bytes).map_err(io_error("write", path))
}

/// Renames by a table of pairs, from the first name to the second. Names are prefixes of whole dotted
/// segments; `{}` stands for an index. Pairs are applied in order.
pub fn remapper<'a>(rules: impl Iterator<Item = (&'a str, &'a str)>) -> KeyRemapper {
    rules.fold(KeyRemapper::new(), |names, (from, to)| {
        let indices = from.matches("{}").count();
        let pattern = from.replace('.', r"\.").replace("{}", r"(\d+)");
        let mut replacement = to.to_owned();
        for index in 1..=indices {
            replacement = replacement.replacen("{}", &format!("${{{index}}}"), 1);
        }
        let end = format!("${{{}}}", indices + 1);
        names
            .add_pattern(format!(r"^{pattern}(\.|$)"), replacement + &end)
            .expect("a pattern of escaped dots and indices is valid")
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use burn::module::{Param, ParamId};
    use burn::nn::Linear;
    use burn::tensor::Device;

    use crate::RandomStream;
    use crate::bounds::MOST_HEADER_VALUES;

    /// A layer with weights of a seed. Burn's own weights come from a generator that all tests share.
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

    /// From its file and from memory.
    #[test]
    fn a_header_of_too_many_values_is_refused_before_it_is_parsed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.safetensors");
        let header = b",".repeat(MOST_HEADER_VALUES + 1);
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [length.as_slice(), &header].concat();
        fs::write(&path, &bytes).unwrap();
        let expected = format!("cannot read {}: its header has 2000001 v", path.display());
        for loaded in [
            load_module(linear(1, 3, 5), &path),
            load_module_from_bytes(linear(1, 3, 5), bytes, &path),
        ] {
            let message = loaded.unwrap_err().to_string();
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn equal_weights_make_equal_files_for_everyone() {
        let dir = tempfile::tempdir().unwrap();
        let saved = ["a", "b", "c"].map(|name| {
            let path = dir.path().join(name);
            save_module(&linear(1, 3, 5), &path).unwrap();
            fs::read(path).unwrap()
        });
        assert_eq!(saved[0], saved[1]);
        assert_eq!(saved[1], saved[2]);
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions();
        fs::write(dir.path().join("plain"), b"x").unwrap();
        assert_eq!(mode("a"), mode("plain"));
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

    /// Two bytes per parameter fit; one byte less does not, and no number of parameters overflows.
    #[test]
    fn a_model_larger_than_its_file_is_refused() {
        let check = |bytes, parameters| {
            check_size(Path::new("m.safetensors"), bytes, parameters, "manifest")
        };
        check(10, 5).unwrap();
        check(u64::MAX, usize::MAX).unwrap();
        let message = check(9, 5).unwrap_err().to_string();
        let expected = "m.safetensors does not fit this model: it has 9 bytes, the model of its manifest needs 10";
        assert_eq!(message, expected);
        check(1 << 40, usize::MAX).unwrap_err();
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

    #[cfg(unix)]
    #[test]
    fn what_a_killed_command_left_of_its_folder_is_removed_or_put_back() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("model");
        let write = |text: &str| {
            let writer = BundleWriter::begin_alone(&target).unwrap();
            writer.write("a", text.as_bytes()).unwrap();
            writer
        };
        let text = || fs::read_to_string(target.join("a")).unwrap();
        let count = || fs::read_dir(dir.path()).unwrap().count();
        let killed = |writer: BundleWriter| {
            let BundleWriter { building, lock, .. } = writer;
            drop(lock);
            building.keep()
        };
        let half = killed(write("half"));
        let living = write("living");
        write("old").commit().unwrap();
        assert!(!half.exists() && living.path("a").exists());
        living.commit().unwrap();
        assert_eq!((text(), count()), ("living".to_owned(), 1));

        // Between the two renames of a commit.
        killed(write("new"));
        fs::rename(&target, moved_away(&target)).unwrap();
        let next = BundleWriter::begin_alone(&target).unwrap();
        assert_eq!((text(), count()), ("living".to_owned(), 2));
        drop(next);
        // Before the old folder is removed.
        fs::create_dir(moved_away(&target)).unwrap();
        drop(BundleWriter::begin_alone(&target).unwrap());
        assert_eq!((text(), count()), ("living".to_owned(), 1));
    }

    #[test]
    fn a_replaced_folder_goes_to_a_name_that_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("step-1");
        let commit = || BundleWriter::begin(&target).unwrap().commit().unwrap();
        commit();
        let names = Rc::new(RefCell::new(Vec::new()));
        let sink = names.clone();
        let recorder = move |change: Change| {
            if let Change::Rename(_, to) = change {
                let name = to.file_name().unwrap().to_string_lossy().into_owned();
                sink.borrow_mut().push(name);
            }
        };
        disk::record(recorder, commit);
        assert_eq!(names.take(), [".writing-replaced-step-1", "step-1"]);
    }
}
