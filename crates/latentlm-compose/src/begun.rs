//! Datasets that take long to make. A call that was interrupted is continued by the next one with the same options; with
//! others it is refused, because files of both would be mixed.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use latentlm_core::disk;
use latentlm_data::DataError;
use latentlm_media::write_whole;
use serde_json::Value;

use crate::error::{io_error, malformed};

/// The options of a dataset that is not complete yet, in its folder.
const BEGUN: &str = ".begun.json";

/// A dataset that is being made.
#[derive(Debug)]
pub(crate) struct Begun {
    path: PathBuf,
    /// The folder of its pieces.
    pieces: PathBuf,
    /// Folders that this call made.
    made: Vec<PathBuf>,
}

impl Begun {
    /// Begins a dataset with pieces in a folder of that name within `folder`, or continues one. `options` is what the
    /// pieces depend on. Where there are no pieces yet, those of an earlier call do not matter.
    ///
    /// # Errors
    /// If there are pieces of a call with other options, or of nobody knows which, or the folder can't be written.
    pub(crate) fn open(folder: &Path, pieces: &str, options: &Value) -> Result<Self, DataError> {
        let (path, pieces) = (folder.join(BEGUN), folder.join(pieces));
        let made = disk::create_folders(&pieces).map_err(io_error("create", &pieces))?;
        // What an interrupted call left half written.
        disk::sweep(&pieces);
        let options = format!("{options}\n");
        let begun = Self { path, pieces, made };
        match fs::read_to_string(&begun.path) {
            Ok(found) if found == options => {}
            Ok(_) if !begun.is_empty() => {
                let reason = "has a part of what a call with other options was to make: repeat that call to complete it, \
                              or name another folder";
                return Err(malformed(folder, reason));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io_error("read", &begun.path)(error));
            }
            Err(_) if !begun.is_empty() => {
                let reason = "has files already: name an empty or a new folder";
                return Err(malformed(&begun.pieces, reason));
            }
            Ok(_) | Err(_) => write_whole(&begun.path, options.as_bytes())?,
        }
        Ok(begun)
    }

    /// Ends the work. A dataset that is complete is marked as begun no more; of one without a piece nothing stays.
    pub(crate) fn end<T>(self, made: Result<T, DataError>) -> Result<T, DataError> {
        // If the mark stays, it does no harm: the dataset's table holds off further calls.
        if made.is_ok() {
            let _ = fs::remove_file(&self.path);
        } else if self.is_empty() {
            let _ = fs::remove_file(&self.path);
            disk::remove_empty_folders(&self.made);
        }
        made
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.pieces).is_ok_and(|mut pieces| pieces.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_begun_goes_on_with_its_options_alone() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/b");
        let failed = || Err::<(), _>(malformed(&folder, "failed"));
        let open = |seed: u64| Begun::open(&folder, "wavs", &json!({ "seed": seed }));
        open(1).unwrap().end(failed()).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let begun = open(1).unwrap();
        fs::write(folder.join("wavs/0.wav"), "whole").unwrap();
        fs::write(folder.join("wavs/.writing-1.wav"), "half").unwrap();
        begun.end(failed()).unwrap_err();
        let told = open(2).unwrap_err().to_string();
        assert!(told.contains("other options"), "{told}");
        assert!(!told.contains('\n'), "{told}");
        open(1).unwrap();
        assert_eq!(fs::read_dir(folder.join("wavs")).unwrap().count(), 1);
        // Somebody who removes the pieces does not see the hidden file beside them.
        fs::remove_dir_all(folder.join("wavs")).unwrap();
        let begun = open(2).unwrap();
        fs::write(folder.join("wavs/0.wav"), "whole").unwrap();
        assert!(open(1).is_err());
        begun.end(Ok(())).unwrap();
        assert!(!folder.join(BEGUN).exists());
        let told = open(1).unwrap_err().to_string();
        assert!(told.contains("wavs: has files already"), "{told}");
    }
}
