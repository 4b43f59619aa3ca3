//! Checks that a checkpoint is unchanged: its manifest has a checksum of every file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use latentlm::core::bundle::io_error;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::PipelineError;
use crate::manifest::wrong;

/// What a checkpoint says of itself, among its files.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Size and hash of a file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSum {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 in hexadecimal, as `sha256sum` prints it.
    pub sha256: String,
}

/// Files by name, with size and hash.
pub type FileSums = BTreeMap<String, FileSum>;

/// Which files of a checkpoint are compared with their checksums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All files, to resume training.
    Everything,
    /// Only files for sampling: without the optimizers' state, which is half of all bytes.
    Weights,
}

impl Wanted {
    fn includes(self, name: &str) -> bool {
        self == Self::Everything || !name.ends_with(OPTIMIZER)
    }
}

/// Ending of the names of files with optimizer state.
pub const OPTIMIZER: &str = "-optimizer.bpk";

/// A checkpoint, and its damage if it has any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedCheckpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// Bytes that were compared with checksums; none for a checkpoint of a version that kept no checksums.
    pub checked_bytes: Option<u64>,
    /// Description of the damage, if there is any.
    pub damage: Option<String>,
}

/// The part of a manifest that does not depend on the recipe.
#[derive(Deserialize)]
struct Said {
    format_version: u32,
    stage: String,
    step: u64,
    #[serde(default)]
    files: FileSums,
    #[serde(default)]
    checksum: String,
}

/// Sizes and hashes of all files of a folder.
///
/// # Errors
/// If one can't be read.
pub(crate) fn sums(folder: &Path) -> io::Result<FileSums> {
    let mut sums = FileSums::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        sums.insert(name.into_owned(), sum(&path)?);
    }
    Ok(sums)
}

fn sum(path: &Path) -> io::Result<FileSum> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        bytes += count as u64;
        hash.update(&buffer[..count]);
    }
    let sha256 = hex(&hash.finalize());
    Ok(FileSum { bytes, sha256 })
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect()
}

/// The first file of a folder that does not match its checksum, and the difference.
pub(crate) fn damage(folder: &Path, files: &FileSums, wanted: Wanted) -> Option<String> {
    for (name, said) in files.iter().filter(|(name, _)| wanted.includes(name)) {
        let path = folder.join(name);
        let wrong = match fs::metadata(&path) {
            Err(error) => format!("cannot be read: {error}"),
            // A truncated file is recognized without reading it.
            Ok(found) if found.len() != said.bytes => {
                format!("has {} bytes instead of {}", found.len(), said.bytes)
            }
            Ok(_) => match sum(&path) {
                Err(error) => format!("cannot be read: {error}"),
                Ok(found) if found != *said => "is damaged: its checksum differs".into(),
                Ok(_) => continue,
            },
        };
        return Some(format!("{name} {wrong}"));
    }
    None
}

/// The error message if the folder of a checkpoint does not have its manifest's stage and step.
pub(crate) fn misplaced(folder: &Path, stage: &str, step: u64) -> Option<String> {
    let own = folder.file_name().unwrap_or_default().to_string_lossy();
    let above = folder.parent().and_then(Path::file_name);
    let above = above.unwrap_or_default().to_string_lossy();
    if own == format!("step-{step}") && above == stage {
        return None;
    }
    Some(format!(
        "{MANIFEST} is that of step {step} of the stage `{stage}`"
    ))
}

/// All checkpoints of a run, of any kind, by stage and step, compared with their checksums.
///
/// # Errors
/// If the folder is no run or can't be read.
pub fn check_run(run: &Path) -> Result<Vec<CheckedCheckpoint>, PipelineError> {
    if !run.join("config.toml").is_file() {
        return Err(PipelineError::Run {
            path: run.into(),
            reason: "is no run: it has no config.toml".into(),
        });
    }
    let checkpoints = run.join("checkpoints");
    let mut checked = Vec::new();
    for stage in folders(&checkpoints)? {
        let mut steps: Vec<(u64, PathBuf)> = folders(&stage)?
            .into_iter()
            .filter_map(|folder| Some((step_of(&folder)?, folder)))
            .collect();
        steps.sort();
        checked.extend(steps.iter().map(|(_, folder)| check(folder)));
    }
    Ok(checked)
}

/// The step in the name of a checkpoint's folder.
pub(crate) fn step_of(folder: &Path) -> Option<u64> {
    let name = folder.file_name()?.to_str()?;
    name.strip_prefix("step-")?.parse().ok()
}

fn check(folder: &Path) -> CheckedCheckpoint {
    let said = fs::read(folder.join(MANIFEST))
        .map_err(|error| format!("{MANIFEST} cannot be read: {error}"))
        .and_then(|bytes| {
            let said = serde_json::from_slice::<Said>(&bytes)
                .map_err(|error| format!("{MANIFEST} is damaged: {error}"))?;
            match wrong(&bytes, &said.checksum, said.format_version) {
                Some(reason) => Err(reason),
                None => Ok(said),
            }
        });
    let (checked_bytes, damage) = match said {
        Err(damage) => (None, Some(damage)),
        Ok(said) => {
            let bytes = said.files.values().map(|file| file.bytes).sum();
            let damage = misplaced(folder, &said.stage, said.step)
                .or_else(|| damage(folder, &said.files, Wanted::Everything));
            ((!said.files.is_empty()).then_some(bytes), damage)
        }
    };
    CheckedCheckpoint {
        folder: folder.into(),
        checked_bytes,
        damage,
    }
}

/// Folders in a folder, by name; empty if it does not exist.
fn folders(path: &Path) -> Result<Vec<PathBuf>, PipelineError> {
    if !path.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(io_error("read", path))? {
        let entry = entry.map_err(io_error("read", path))?.path();
        if entry.is_dir() {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of `abc` is the example of FIPS 180-4.
    #[test]
    fn the_sum_is_the_standards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, b"abc").unwrap();
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sum = sum(&path).unwrap();
        assert_eq!((sum.bytes, sum.sha256.as_str()), (3, expected));
    }

    #[test]
    fn each_kind_of_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join(name);
        for name in ["model.safetensors", "model-optimizer.bpk"] {
            fs::write(file(name), vec![7; 3000]).unwrap();
        }
        let sums = sums(dir.path()).unwrap();
        let damage = |wanted| damage(dir.path(), &sums, wanted);
        assert_eq!(damage(Wanted::Everything), None);
        let mut bytes = vec![7; 3000];
        bytes[2999] = 6;
        fs::write(file("model-optimizer.bpk"), &bytes).unwrap();
        assert_eq!(damage(Wanted::Weights), None);
        let told = damage(Wanted::Everything).unwrap();
        assert!(told.starts_with("model-optimizer.bpk is damaged"), "{told}");
        fs::write(file("model.safetensors"), &bytes[1..]).unwrap();
        let told = damage(Wanted::Weights).unwrap();
        assert_eq!(told, "model.safetensors has 2999 bytes instead of 3000");
        fs::remove_file(file("model.safetensors")).unwrap();
        let told = damage(Wanted::Weights).unwrap();
        assert!(told.contains("cannot be read"), "{told}");
    }

    #[test]
    fn a_manifest_that_was_changed_is_damage() {
        use crate::{ImageRecipe, Manifest, RunFolder};

        let dir = tempfile::tempdir().unwrap();
        let recipe = ImageRecipe::default();
        let path = dir.path().join("r");
        let run = RunFolder::create(&path, &recipe).unwrap();
        let mut manifest = Manifest::new("lm", &recipe, &[], "f");
        manifest.step = 5;
        let fill = |bundle: &latentlm::core::bundle::BundleWriter| Ok(bundle.write("x", b"y")?);
        run.checkpoint::<PipelineError>(&manifest, fill).unwrap();
        let found = || check_run(&path).unwrap().remove(0).damage;
        assert_eq!(found(), None);
        let file = path.join("checkpoints/lm/step-5").join(MANIFEST);
        let whole = fs::read_to_string(&file).unwrap();
        let seed = format!("\"seed\": {}", manifest.seed);
        let other_seed = format!("\"seed\": {}", manifest.seed + 1);
        let changed = whole.replacen(&seed, &other_seed, 1);
        assert_ne!(changed, whole);
        fs::write(&file, changed).unwrap();
        let damage = "damaged manifest: its checksum differs";
        assert_eq!(found().as_deref(), Some(damage));
        // Another version wrote it, with a checksum that is right, or with none.
        let later = whole.replacen("\"format_version\": 1", "\"format_version\": 9", 1);
        assert_ne!(later, whole);
        let checksum = |text: &str| crate::manifest::own_checksum(text.as_bytes());
        for now in [checksum(&later), String::new()] {
            fs::write(&file, later.replacen(&checksum(&whole), &now, 1)).unwrap();
            let told = "checkpoint format 9, this program reads 1";
            assert_eq!(found().as_deref(), Some(told));
        }
    }

    #[test]
    fn a_manifest_belongs_to_its_folder() {
        let folder = Path::new("runs/x/checkpoints/lm/step-20");
        assert_eq!(misplaced(folder, "lm", 20), None);
        assert!(misplaced(folder, "lm", 10).unwrap().contains("step 10"));
        assert!(misplaced(folder, "codec", 20).is_some());
    }
}
