//! One training at a time in a folder: a second one would delete the first one's files.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use latentlm::core::bundle::io_error;

use crate::error::PipelineError;

/// The locked file. It contains the id of the process that holds the lock.
pub(crate) const LOCK: &str = ".lock";

/// While this value lives, only this process may train in the run's folder. The system releases the lock when
/// the process ends in any way, so a kill leaves nothing to remove.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Locks an existing folder. On file systems without locks it does nothing.
    ///
    /// # Errors
    /// If another process trains in the folder, or the file can't be written.
    pub fn take(run: &Path) -> Result<Self, PipelineError> {
        let path = run.join(LOCK);
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(io_error("write", &path))?;
        match file.try_lock() {
            Ok(()) => {
                let process = std::process::id().to_string();
                file.set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| file.write_all(process.as_bytes()))
                    .map_err(io_error("write", &path))?;
            }
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                // Other systems do not allow reading a locked file.
                let _ = file.read_to_string(&mut process);
                return Err(PipelineError::Run {
                    path: run.into(),
                    reason: format!(
                        "another process{} is training here: wait for it, or name another folder \
                         with --run",
                        named(process.trim())
                    ),
                });
            }
            Err(TryLockError::Error(_)) => {}
        }
        Ok(Self { _file: file })
    }
}

fn named(process: &str) -> String {
    if process.bytes().all(|byte| byte.is_ascii_digit()) && !process.is_empty() {
        format!(" ({process})")
    } else {
        String::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_training_is_refused_while_the_first_runs() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunLock::take(dir.path()).unwrap();
        let told = RunLock::take(dir.path()).unwrap_err().to_string();
        let process = format!("another process ({}) is training here", std::process::id());
        assert!(told.contains(&process), "{told}");
        drop(first);
        RunLock::take(dir.path()).unwrap();
    }

    #[test]
    fn what_a_killed_process_left_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(LOCK), "4711").unwrap();
        RunLock::take(dir.path()).unwrap();
    }
}
