//! Files and folders that survive a power cut. All changes of the disk go through here, in an order that
//! leaves either the old or the new state at every moment.
//!
//! A rename happens as a whole or not at all. But the system decides which of several changes reach the disk,
//! and when, unless a file or folder is synced in between. [`record`] lists the calls, so that a test can
//! replay each prefix of them (`conformance::power_cut`).

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

/// Prefix of the names of unfinished files and folders.
pub const UNFINISHED: &str = ".writing-";

/// Prefix of the names of unfinished folders that are locked while their process lives.
const LOCKED: &str = ".writing-new-";
/// Most characters of a folder's name that its temporary name contains: file systems limit the length of names.
const NAMED_CHARACTERS: usize = 50;

/// Folders of the open files of processes, on Linux and on other systems.
const OPEN_FILES: [&str; 2] = ["/proc", "/dev/fd"];
/// Largest number of links that are followed from one to the next.
const MOST_LINKS: usize = 40;

/// Reads to the end, but at most `most_bytes` bytes: a device or a pipe may have no end.
///
/// # Errors
/// If it can't be read or has more bytes.
pub fn bytes_within(reader: impl Read, most_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = reader.take(most_bytes.saturating_add(1));
    reader.read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most_bytes {
        let reason = format!("it has more than {most_bytes} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// Reads a text to its end, but at most `most_bytes` bytes.
///
/// # Errors
/// If it can't be read, has more bytes, or is not UTF-8.
pub fn text_within(reader: impl Read, most_bytes: u64) -> io::Result<String> {
    let bytes = bytes_within(reader, most_bytes)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

/// Opens a regular file for reading. Anything else is an error: opening a pipe without a writer would
/// block forever.
///
/// # Errors
/// If the path is no regular file, or can't be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    if fs::metadata(path)?.is_file() {
        File::open(path)
    } else {
        let reason = "it is no regular file";
        Err(io::Error::new(ErrorKind::InvalidInput, reason))
    }
}

/// The bytes of a regular file ([`open_regular`]).
///
/// # Errors
/// If the path is no regular file, or can't be read.
pub fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A change of the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A folder was made.
    CreateFolder(PathBuf),
    /// A file was written under this name.
    Write(PathBuf),
    /// Bytes were added at a file's end.
    Append(PathBuf),
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

/// Makes a folder and its missing parents, and syncs their names. Returns the folders that were made, the
/// outermost first.
///
/// # Errors
/// If a folder can't be made. Those that were made are removed again.
pub fn create_folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut made = Vec::new();
    match create_missing(path, &mut made) {
        Ok(()) => Ok(made),
        Err(error) => {
            remove_empty_folders(&made);
            Err(error)
        }
    }
}

fn create_missing(path: &Path, made: &mut Vec<PathBuf>) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = folder_of(path);
    create_missing(above, made)?;
    match fs::create_dir(path) {
        Ok(()) => made.push(path.into()),
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    note(|| Change::CreateFolder(path.into()));
    sync_folder(above)
}

/// Removes folders that [`create_folders`] made, the innermost first. Those with something in them stay.
pub fn remove_empty_folders(made: &[PathBuf]) {
    for folder in made.iter().rev() {
        if fs::remove_dir(folder).is_ok() {
            note(|| Change::Remove(folder.clone()));
        }
    }
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

/// Adds bytes at the end of a file that was opened for that. They reach the disk with [`sync_open`].
///
/// # Errors
/// If they can't be written.
pub fn append(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    note(|| Change::Append(path.into()));
    Ok(())
}

/// Syncs the bytes of an open file.
///
/// # Errors
/// If they can't be synced.
pub fn sync_open(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    note(|| Change::SyncFile(path.into()));
    Ok(())
}

/// Replaces a file whole: temporary name, sync, rename, sync of the folder. A stream ([`is_stream`]) is written
/// into; if its reader leaves, the rest is dropped.
///
/// # Errors
/// If the folder or the stream can't be written to.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if is_stream(path) {
        return match open_stream(path)?.write_all(bytes) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        };
    }
    let folder = folder_of(path);
    create_folders(folder)?;
    let mut file = temporary_file(folder)?;
    file.write_all(bytes)?;
    let temporary = file.path().to_owned();
    note(|| Change::Write(temporary.clone()));
    persist(file, path)
}

/// Whether a path leads to a pipe or a device, or to an open file of a process, such as `/dev/stdout`. Bytes are
/// written into it: a rename would put a regular file in its place.
pub fn is_stream(path: &Path) -> bool {
    let found = fs::metadata(path);
    found.is_ok_and(|found| !found.is_file() && !found.is_dir()) || is_open_file(path)
}

/// Whether a path is the name of a process's open file, or a link to one. Redirected output is a regular file.
fn is_open_file(path: &Path) -> bool {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        let folder = folder_of(&path).canonicalize().unwrap_or_default();
        if OPEN_FILES.iter().any(|open| folder.starts_with(open)) {
            return true;
        }
        let Ok(target) = fs::read_link(&path) else {
            return false;
        };
        path = folder.join(target);
    }
    false
}

/// Opens a stream for writing. A named pipe waits for its reader.
///
/// # Errors
/// If it can't be opened.
pub fn open_stream(path: &Path) -> io::Result<File> {
    // At its end, should it be a file: what others wrote into it stays.
    File::options().append(true).open(path)
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

/// The lock of a [`locked_folder`].
#[derive(Debug)]
pub struct FolderLock(File);

impl Drop for FolderLock {
    /// Closing the file is not enough: a program that another thread is about to start holds it too, until it runs.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// A temporary folder for a folder of this name, with the mode that the user's umask asks for, and a lock on it until that is
/// dropped, at the latest by the system when the process ends: [`sweep_killed`] leaves it alone until then. There is none
/// where folders have no locks.
///
/// # Errors
/// If the folder can't be written to.
pub fn locked_folder(
    folder: &Path,
    name: &str,
) -> io::Result<(tempfile::TempDir, Option<FolderLock>)> {
    let prefix = locked_prefix(name);
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    let made = with_mode(&mut builder, 0o777).tempdir_in(folder)?;
    note(|| Change::CreateFolder(made.path().into()));
    let lock = File::open(made.path());
    let lock = lock.ok().filter(|lock| lock.try_lock().is_ok());
    Ok((made, lock.map(FolderLock)))
}

/// Removes what killed processes left of the [`locked_folder`]s of a name. Returns whether a process that lives may have
/// one: where folders have no locks, this is not known, and nothing is removed.
pub fn sweep_killed(folder: &Path, name: &str) -> bool {
    let prefix = locked_prefix(name);
    let mut is_used = false;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        // A folder without files may not be locked yet.
        if !entry.file_name().to_string_lossy().starts_with(&prefix)
            || !fs::read_dir(&path).is_ok_and(|mut files| files.next().is_some())
        {
            continue;
        }
        let lock = File::open(&path).ok();
        if lock.as_ref().is_some_and(|lock| lock.try_lock().is_ok()) {
            remove_folder(&path);
        } else {
            is_used = true;
        }
    }
    is_used
}

fn locked_prefix(name: &str) -> String {
    let name: String = name.chars().take(NAMED_CHARACTERS).collect();
    format!("{LOCKED}{name}-")
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

    #[test]
    fn what_has_no_end_is_not_read_to_its_end() {
        assert_eq!(text_within(&b"abc"[..], 3).unwrap(), "abc");
        let told = text_within(&b"abcd"[..], 3).unwrap_err().to_string();
        assert_eq!(told, "it has more than 3 bytes");
        assert!(bytes_within(io::repeat(b'a'), 1 << 20).is_err());
        let told = text_within(&b"a\xff"[..], 3).unwrap_err().to_string();
        assert!(told.contains("invalid utf-8"), "{told}");
    }

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

    /// As a program does that is being started while the lock is dropped: until it runs, it has all open files.
    #[cfg(unix)]
    #[test]
    fn a_dropped_lock_is_held_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, lock) = locked_folder(dir.path(), "model").unwrap();
        fs::write(folder.path().join("a"), b"x").unwrap();
        let folder = folder.keep();
        let held = lock.as_ref().map(|lock| lock.0.try_clone().unwrap());
        assert!(sweep_killed(dir.path(), "model"), "it is being written");
        drop(lock);
        assert!(!sweep_killed(dir.path(), "model"));
        assert!(!folder.exists());
        drop(held);
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_and_a_device_are_written_into() {
        use std::io::Read;
        use std::os::unix::fs::FileTypeExt;

        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        // Opened for both, a pipe waits for nobody.
        let mut both = File::options();
        let mut reader = both.read(true).write(true).open(&pipe).unwrap();
        assert!(is_stream(&pipe));
        replace_file(&pipe, b"heard").unwrap();
        let mut heard = [0; 9];
        assert_eq!(reader.read(&mut heard).unwrap(), 5);
        assert_eq!(&heard[..5], b"heard");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        replace_file(&link, b"x").unwrap();
        let linked = fs::metadata(&link).unwrap();
        assert!(linked.file_type().is_char_device());
        // Nothing but the pipe and the link is there.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        let plain = dir.path().join("plain");
        assert!(!is_stream(&plain));
        replace_file(&plain, b"x").unwrap();
        assert!(!is_stream(&plain) && !is_stream(dir.path()));
        assert!(replace_file(dir.path(), b"x").is_err());
        assert!(dir.path().is_dir());
    }

    /// Redirected output is a regular file, and its name is that of an open file.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_open_file_is_written_into() {
        use std::os::fd::AsRawFd;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redirected");
        let mut file = File::create(&path).unwrap();
        file.write_all(b"before ").unwrap();
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        let link = dir.path().join("stdout");
        std::os::unix::fs::symlink(&open, &link).unwrap();
        for (name, expected) in [
            (Path::new(&open), "before x"),
            (link.as_path(), "before xx"),
        ] {
            assert!(is_stream(name));
            replace_file(name, b"x").unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        // A link to a plain file is no stream, and links in circles end.
        let plain = dir.path().join("plain");
        std::os::unix::fs::symlink(&path, &plain).unwrap();
        assert!(!is_stream(&plain));
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        assert!(!is_stream(&circle));
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

    #[cfg(unix)]
    #[test]
    fn what_a_killed_command_left_is_swept_and_a_living_ones_stays() {
        let dir = tempfile::tempdir().unwrap();
        let begin = |name: &str| {
            let (folder, lock) = locked_folder(dir.path(), name).unwrap();
            fs::write(folder.path().join("half"), b"x").unwrap();
            (folder.keep(), lock)
        };
        let (killed, lock) = begin("model");
        // As the system does when a process ends.
        drop(lock);
        let (alive, _lock) = begin("model");
        let (other, _) = begin("another");
        let empty = locked_folder(dir.path(), "model").unwrap().0.keep();
        fs::write(dir.path().join(".writing-x"), b"x").unwrap();
        assert!(sweep_killed(dir.path(), "model"), "one is used");
        assert!(!killed.exists());
        assert!(alive.join("half").exists() && other.exists() && empty.exists());
        assert!(dir.path().join(".writing-x").exists());
        assert!(!sweep_killed(dir.path(), "another") && !other.exists());
        assert!(!sweep_killed(&dir.path().join("none"), "model"));
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
        let made = create_folders(&path).unwrap();
        assert_eq!(
            made,
            ["a", "a/b", "a/b/c"].map(|name| dir.path().join(name))
        );
        assert!(create_folders(&path).unwrap().is_empty());
        assert!(path.is_dir());
        fs::write(dir.path().join("file"), b"x").unwrap();
        assert!(create_folders(&dir.path().join("file/b")).is_err());
    }

    #[test]
    fn folders_that_were_made_are_removed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there");
        fs::create_dir(&there).unwrap();
        let made = create_folders(&there.join("a/b")).unwrap();
        remove_empty_folders(&made);
        assert!(there.is_dir() && !there.join("a").exists());
        // One that something was put into stays.
        let made = create_folders(&there.join("a/b")).unwrap();
        fs::write(there.join("a/letter"), b"x").unwrap();
        remove_empty_folders(&made);
        assert!(there.join("a/letter").is_file() && !there.join("a/b").exists());
        // No file system has names of so many bytes.
        let long = "x".repeat(10_000);
        assert!(create_folders(&there.join("c/d").join(long)).is_err());
        assert!(!there.join("c").exists());
    }
}
