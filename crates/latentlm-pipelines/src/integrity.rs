//! Whether a checkpoint is unchanged: its manifest has a checksum of every file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use latentlm::core::disk;
use latentlm_data::{file_sha256, sha256};
use serde::{Deserialize, Serialize};

/// What a checkpoint says of itself, among its files.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The file in a stage's folder that names its newest checkpoint.
pub(crate) const LATEST: &str = "latest";
/// Most bytes of such a name.
const LONGEST_NAME: u64 = 1 << 10;

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

/// Size and hash of a file.
pub(crate) fn sum(path: &Path) -> io::Result<FileSum> {
    Ok(FileSum {
        bytes: fs::metadata(path)?.len(),
        sha256: file_sha256(path)?,
    })
}

/// Size and hash of a file's bytes in memory.
pub(crate) fn sum_of(bytes: &[u8]) -> FileSum {
    FileSum {
        bytes: bytes.len() as u64,
        sha256: sha256(bytes),
    }
}

/// The note for a checkpoint of a version that kept no checksums.
pub(crate) fn unchecked(checkpoint: &str) -> String {
    format!("{checkpoint} has no checksums: whether it is whole can't be checked")
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

/// The damage of a checkpoint's folder that has a pipe or a device in it: reading that would wait forever, or never end.
pub(crate) fn special_file(folder: &Path) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    let is_special = |path: &Path| {
        let found = fs::metadata(path);
        found.is_ok_and(|found| !found.is_file() && !found.is_dir())
    };
    let found = paths.iter().find(|path| is_special(path))?;
    let name = found.file_name().unwrap_or_default().to_string_lossy();
    Some(format!("{name} is no regular file"))
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

/// The name of the checkpoint that a stage goes on from, as its folder says.
pub(crate) fn named_newest(stage: &Path) -> io::Result<String> {
    let file = disk::open_regular(&stage.join(LATEST))?;
    let name = disk::text_within(file, LONGEST_NAME)?;
    Ok(name.trim().to_owned())
}

/// The step in the name of a checkpoint's folder.
pub(crate) fn step_of(folder: &Path) -> Option<u64> {
    let name = folder.file_name()?.to_str()?;
    name.strip_prefix("step-")?.parse().ok()
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
    fn a_manifest_belongs_to_its_folder() {
        let folder = Path::new("runs/x/checkpoints/lm/step-20");
        assert_eq!(misplaced(folder, "lm", 20), None);
        assert!(misplaced(folder, "lm", 10).unwrap().contains("step 10"));
        assert!(misplaced(folder, "codec", 20).is_some());
    }
}
