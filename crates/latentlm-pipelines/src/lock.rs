//! One training at a time in a folder: a second one would delete the first one's files.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use latentlm::core::bundle::io_error;

use crate::error::{PipelineError, Result};

/// The locked file. It contains the id of the process that holds the lock.
pub(crate) const LOCK: &str = ".lock";
/// Number of times that a file which was removed before it was locked is made anew.
const TRIES: usize = 100;

/// While this value lives, only this process may train in the run's folder. The system releases the lock when
/// the process ends in any way, so a kill leaves nothing to remove.
#[derive(Debug)]
pub struct RunLock {
    file: File,
    /// Tells the user that nothing is locked, if that is so.
    pub(crate) note: Option<String>,
}

impl RunLock {
    /// Locks an existing folder. On file systems without locks it does nothing, and has a note.
    ///
    /// # Errors
    /// If another process trains in the folder, or the file can't be written.
    pub fn take(run: &Path) -> Result<Self> {
        let path = run.join(LOCK);
        let mut tries = 0;
        loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(io_error("write", &path))?;
            let locked = file.try_lock();
            tries += 1;
            // A training that could not start removes its file. Who opened it just before, holds nothing.
            if locked.is_err() || is_at(&file, &path) || tries == TRIES {
                return Self::after(run, file, locked);
            }
        }
    }

    /// Turns the result of locking a file of a run's folder into a lock or an error.
    fn after(run: &Path, mut file: File, locked: Result<(), TryLockError>) -> Result<Self> {
        let mut note = None;
        match locked {
            Ok(()) => {
                if let Err(error) = write_process(&mut file) {
                    // Nobody else uses it: it is locked.
                    let path = run.join(LOCK);
                    let _ = fs::remove_file(&path);
                    return Err(io_error("write", &path)(error).into());
                }
            }
            Err(TryLockError::WouldBlock) => {
                let mut process = String::new();
                // Other systems do not allow reading a locked file.
                let _ = file.read_to_string(&mut process);
                let reason = format!(
                    "another process{} is training here: wait for it, or name another folder \
                     with --run",
                    named(process.trim())
                );
                return Err(PipelineError::Run(run.into(), reason));
            }
            Err(TryLockError::Error(error)) => {
                note = Some(format!(
                    "{} can't be locked ({error}): a second training in this folder is not held off",
                    run.display()
                ));
            }
        }
        Ok(Self { file, note })
    }
}

impl Drop for RunLock {
    /// Closing the file is not enough: a program that this process is about to start holds it too, until it runs.
    fn drop(&mut self) {
        let _ = self.file.unlock();
    }
}

/// Whether an open file is the one that has this path.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(own), Ok(there)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    own.dev() == there.dev() && own.ino() == there.ino()
}

/// Other systems keep the name of an open file taken.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// Replaces the content of the locked file by the id of this process.
fn write_process(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(std::process::id().to_string().as_bytes())
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

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
        let lock = RunLock::take(dir.path()).unwrap();
        assert_eq!(lock.note, None);
    }

    /// As a training does that can't start: it removes the file while others open it.
    #[test]
    fn a_lock_that_was_removed_is_held_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(LOCK);
        if cfg!(unix) {
            let file = File::create(&path).unwrap();
            assert!(is_at(&file, &path));
            fs::remove_file(&path).unwrap();
            assert!(!is_at(&file, &path));
            fs::write(&path, "4711").unwrap();
            assert!(!is_at(&file, &path));
        }
        let holders = AtomicUsize::new(0);
        let train = || {
            for _ in 0..500 {
                let Ok(lock) = RunLock::take(dir.path()) else {
                    continue;
                };
                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                thread::yield_now();
                holders.fetch_sub(1, Ordering::SeqCst);
                fs::remove_file(&path).unwrap();
                drop(lock);
            }
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(train);
            }
        });
    }

    /// As network file systems answer.
    #[test]
    fn a_file_system_without_locks_is_told_and_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join(LOCK)).unwrap();
        let answer = TryLockError::Error(io::Error::from(io::ErrorKind::Unsupported));
        let lock = RunLock::after(dir.path(), file, Err(answer)).unwrap();
        let note = lock.note.as_deref().unwrap();
        assert!(note.contains("can't be locked (unsupported)"), "{note}");
        assert!(
            note.ends_with("a second training in this folder is not held off"),
            "{note}"
        );
        assert_eq!(note.lines().count(), 1);
    }
}
