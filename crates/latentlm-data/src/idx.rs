//! Finds and reads the IDX files of MNIST and similar datasets.

use std::path::{Path, PathBuf};

use latentlm_media::{IdxImages, read_idx};

use crate::error::DataError;
use crate::split::Split;

/// Reads a split's pictures and labels, as [`read_idx`]. An error about a missing file says what to do.
pub(crate) fn read(images: &Path, labels: &Path, limit: u64) -> Result<IdxImages, DataError> {
    for (missing, other, remedy) in [
        (
            labels,
            images,
            "put the labels there, or turn the pictures into files in one folder a class",
        ),
        (images, labels, "put the pictures there"),
    ] {
        if !missing.exists() {
            let reason = format!("does not exist, and {} does: {remedy}", other.display());
            return Err(DataError::malformed(missing, reason));
        }
    }
    Ok(read_idx(images, labels, limit)?)
}

/// Paths of a split's pictures and labels, if at least one of the files exists.
pub(crate) fn find(folder: &Path, split: Split) -> Option<(PathBuf, PathBuf)> {
    let prefixes: &[&str] = match split {
        Split::Train => &["train"],
        Split::Test => &["test", "t10k"],
    };
    prefixes.iter().find_map(|prefix| {
        let file = |what: &str| {
            let named = |dot: char, ending: &str| {
                let name = format!("{prefix}-{what}-ubyte{ending}");
                // Some programs unpack the archives as `train-images.idx3-ubyte`.
                folder.join(name.replacen("-idx", &format!("{dot}idx"), 1))
            };
            let plain = named('-', "");
            let others = [named('-', ".gz"), plain.clone(), named('.', ".gz")];
            let mut names = others.into_iter().chain([named('.', "")]);
            names.find(|path| path.is_file()).unwrap_or(plain)
        };
        let (images, labels) = (file("images-idx3"), file("labels-idx1"));
        (images.is_file() || labels.is_file()).then_some((images, labels))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(dir: &Path, name: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, name).unwrap();
        path
    }

    #[test]
    fn plain_and_gzipped_files_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let plain = touch(dir.path(), "t10k-images-idx3-ubyte");
        let gz = touch(dir.path(), "t10k-labels-idx1-ubyte.gz");
        assert_eq!(find(dir.path(), Split::Test), Some((plain, gz)));
    }

    #[test]
    fn a_missing_file_is_named_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let images = touch(dir.path(), "train-images-idx3-ubyte");
        let (_, labels) = find(dir.path(), Split::Train).unwrap();
        let expected = format!(
            "{}: does not exist, and {} does: put the labels there, or turn the pictures into files in one folder \
             a class",
            labels.display(),
            images.display()
        );
        let message = |images: &Path, labels: &Path| {
            let read = read(images, labels, 100);
            read.unwrap_err().to_string()
        };
        assert_eq!(message(&images, &labels), expected);
        let told = message(&labels, &images);
        assert!(told.ends_with(" does: put the pictures there"), "{told}");
    }

    #[test]
    fn names_with_dots_are_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let images = touch(dir.path(), "train-images.idx3-ubyte");
        let labels = touch(dir.path(), "train-labels.idx1-ubyte.gz");
        assert_eq!(find(dir.path(), Split::Train), Some((images, labels)));
        assert_eq!(find(dir.path(), Split::Test), None);
    }
}
