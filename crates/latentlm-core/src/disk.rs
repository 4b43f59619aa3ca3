//! Files and folders that survive a power cut. All changes of the disk go through here, in an order that
//! leaves either the old or the new state at every moment.
//!
//! A rename happens as a whole or not at all. But the system decides which of several changes reach the disk,
//! and when, unless a file or folder is synced in between. [`record`] lists the calls, so that a test can
//! replay each prefix of them (`conformance::power_cut`).

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Prefix of the names of unfinished files and folders.
pub const UNFINISHED: &str = ".writing-";

/// A change of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A folder was made.
    CreateFolder(PathBuf),
    /// A file was written under this name.
    Write(PathBuf),
    /// A file's bytes reached the disk.
    SyncFile(PathBuf),
    /// A folder's list of names reached the disk.
    SyncFolder(PathBuf),
    /// A file or folder got another name.
    Rename(PathBuf, PathBuf),
    /// A file or folder was removed.
    Remove(PathBuf),
}

type Recorder = Option<Box<dyn FnMut(Change)>>;

thread_local! {
    static RECORDER: RefCell<Recorder> = const { RefCell::new(None) };
}

/// Hands the changes that `work` makes on this thread to `recorder`, each right after it was made.
pub fn record<T>(recorder: impl FnMut(Change) + 'static, work: impl FnOnce() -> T) -> T {
    RECORDER.with(|slot| *slot.borrow_mut() = Some(Box::new(recorder)));
    let result = work();
    RECORDER.with(|slot| *slot.borrow_mut() = None);
    result
}

/// Tells the recorder of a change that other code made, such as a library that writes files.
pub(crate) fn note(change: impl FnOnce() -> Change) {
    RECORDER.with(|slot| {
        if let Some(recorder) = slot.borrow_mut().as_mut() {
            recorder(change());
        }
    });
}

/// Makes a folder and its missing parents, and syncs their names.
///
/// # Errors
/// If a folder can't be made.
pub fn create_folders(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    create_folders(above)?;
    match fs::create_dir(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        made => made?,
    }
    note(|| Change::CreateFolder(path.into()));
    sync_folder(above)
}

/// Writes a new file and syncs its bytes. Its name reaches the disk when the folder is synced.
///
/// # Errors
/// If it can't be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    note(|| Change::Write(path.into()));
    file.sync_all()?;
    note(|| Change::SyncFile(path.into()));
    Ok(())
}

/// Replaces a file whole: temporary name, sync, rename, sync of the folder.
///
/// # Errors
/// If the folder can't be written to.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    create_folders(folder)?;
    let mut file = temporary_file(folder)?;
    file.write_all(bytes)?;
    let temporary = file.path().to_owned();
    note(|| Change::Write(temporary.clone()));
    persist(file, path)
}

/// Gives a temporary file of the same folder its name, once its bytes have reached the disk.
///
/// # Errors
/// If it can't be written or renamed.
pub fn persist(file: tempfile::NamedTempFile, path: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    let temporary = file.path().to_owned();
    note(|| Change::SyncFile(temporary.clone()));
    file.persist(path).map_err(|error| error.error)?;
    note(|| Change::Rename(temporary, path.into()));
    sync_folder(folder_of(path))
}

/// Syncs the bytes of a file that other code wrote.
///
/// # Errors
/// If it can't be opened or synced.
pub fn sync_file(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    note(|| Change::SyncFile(path.into()));
    Ok(())
}

/// Syncs the names in a folder.
///
/// # Errors
/// If it can't be opened or synced.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    // Other systems have no such call for folders.
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    note(|| Change::SyncFolder(path.into()));
    Ok(())
}

/// Renames within a folder and syncs the folder.
///
/// # Errors
/// If it can't be renamed.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    note(|| Change::Rename(from.into(), to.into()));
    sync_folder(folder_of(to))
}

/// Removes a folder and its content. The folder is renamed first, so that a kill never leaves half of it
/// under its name. Files that can't be removed stay.
pub fn remove_folder(path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with(UNFINISHED) {
        if fs::remove_dir_all(path).is_ok() {
            note(|| Change::Remove(path.into()));
        }
        return;
    }
    let nameless = folder_of(path).join(format!("{UNFINISHED}removed-{name}"));
    // Left by an earlier removal that was killed.
    let _ = fs::remove_dir_all(&nameless);
    if rename(path, &nameless).is_ok() {
        remove_folder(&nameless);
    }
}

/// Removes the unfinished files of killed processes from a folder. No other process may be writing there.
pub fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folder(&entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A temporary file in a folder, with the mode that the user's umask asks for: it will be a result.
///
/// # Errors
/// If the folder can't be written to.
pub fn temporary_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    temporary_file_named(folder, "")
}

/// [`temporary_file`] with a given ending of its name, for programs that look at a file's ending.
///
/// # Errors
/// If the folder can't be written to.
pub fn temporary_file_named(folder: &Path, ending: &str) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED).suffix(ending);
    with_mode(&mut builder, 0o666).tempfile_in(folder)
}

/// A temporary folder, with the mode that the user's umask asks for.
///
/// # Errors
/// If the folder can't be written to.
pub fn temporary_folder(folder: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    let made = with_mode(&mut builder, 0o777).tempdir_in(folder)?;
    note(|| Change::CreateFolder(made.path().into()));
    Ok(made)
}

/// The folder that a file lies in; the parent of a bare name is the current folder.
pub fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// The system removes the bits of the umask from this mode.
#[cfg(unix)]
fn with_mode<'a, 'b, 'c>(
    builder: &'a mut tempfile::Builder<'b, 'c>,
    mode: u32,
) -> &'a mut tempfile::Builder<'b, 'c> {
    use std::os::unix::fs::PermissionsExt;
    builder.permissions(fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn with_mode<'a, 'b, 'c>(
    builder: &'a mut tempfile::Builder<'b, 'c>,
    _mode: u32,
) -> &'a mut tempfile::Builder<'b, 'c> {
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn results_have_the_mode_that_a_plain_file_has() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        let (plain, ours) = (dir.path().join("plain"), dir.path().join("ours"));
        fs::write(&plain, b"x").unwrap();
        replace_file(&ours, b"x").unwrap();
        assert_eq!(mode(&ours), mode(&plain));
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let made = temporary_folder(dir.path()).unwrap();
        assert_eq!(mode(made.path()), mode(&folder));
    }

    #[test]
    fn what_a_kill_left_is_swept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let left = temporary_folder(dir.path()).unwrap().keep();
        fs::write(left.join("half"), b"x").unwrap();
        fs::write(dir.path().join(".writing-x"), b"x").unwrap();
        fs::write(dir.path().join("whole"), b"x").unwrap();
        sweep(dir.path());
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["whole"]);
    }

    #[test]
    fn a_folder_loses_its_name_before_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("step-1");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a"), b"x").unwrap();
        let log = std::rc::Rc::new(RefCell::new(Vec::new()));
        let sink = log.clone();
        record(
            move |change| sink.borrow_mut().push(change),
            || remove_folder(&folder),
        );
        let nameless = dir.path().join(".writing-removed-step-1");
        let expected = [
            Change::Rename(folder.clone(), nameless.clone()),
            Change::SyncFolder(dir.path().into()),
            Change::Remove(nameless),
        ];
        assert_eq!(*log.borrow(), expected);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        remove_folder(&folder);
    }

    #[test]
    fn folders_are_made_down_to_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/c");
        create_folders(&path).unwrap();
        create_folders(&path).unwrap();
        assert!(path.is_dir());
        fs::write(dir.path().join("file"), b"x").unwrap();
        assert!(create_folders(&dir.path().join("file/b")).is_err());
    }
}
