//! Finds the IDX files of MNIST and similar datasets. They are read by [`latentlm_media::read_idx`].

use std::path::{Path, PathBuf};

use crate::split::Split;

/// Paths of a split's pictures and labels, if at least one of the files exists. If the other is missing,
/// reading it fails with a clear error.
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
    fn names_with_dots_are_the_same_files() {
        let dir = tempfile::tempdir().unwrap();
        let images = touch(dir.path(), "train-images.idx3-ubyte");
        let labels = touch(dir.path(), "train-labels.idx1-ubyte.gz");
        assert_eq!(find(dir.path(), Split::Train), Some((images, labels)));
        assert_eq!(find(dir.path(), Split::Test), None);
    }
}
