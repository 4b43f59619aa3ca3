//! Walks a folder tree: lists all files sorted, follows links but lists nothing twice, and reports
//! what it leaves out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use latentlm_media::open_regular;

use crate::error::{DataError, io_error};
use crate::options::SizeLimit;

/// The reason why a file or folder is not used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A name that begins with a dot, or that file managers leave behind.
    Hidden,
    /// A pipe, a socket or a device: opening it may block forever.
    Special,
    /// A link whose target does not exist.
    DeadLink,
    /// A link to a folder that contains the link.
    Above,
    /// A link to something that is listed already.
    Twice,
    /// A folder nested deeper than the walk goes.
    Deep,
    /// A folder that can't be read.
    Unreadable(String),
    /// A file that the dataset reader does not use, with the reason.
    Unused(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden => f.write_str("hidden, or left behind by a file manager"),
            Self::Special => f.write_str("no regular file, but a pipe, a socket or a device"),
            Self::DeadLink => f.write_str("a link that leads nowhere"),
            Self::Above => f.write_str("a link to a folder that it lies in"),
            Self::Twice => f.write_str("a link to what is read already"),
            Self::Deep => f.write_str("a folder too deep below the dataset"),
            Self::Unreadable(why) => write!(f, "can't be read: {why}"),
            Self::Unused(why) => f.write_str(why),
        }
    }
}

/// A file or a folder that is not used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// The file or folder.
    pub path: PathBuf,
    /// The reason.
    pub reason: Reason,
}

impl LeftOut {
    pub(crate) fn new(path: impl Into<PathBuf>, reason: Reason) -> Self {
        Self {
            path: path.into(),
            reason,
        }
    }

    /// A file that the dataset reader does not use.
    pub(crate) fn unused(path: impl Into<PathBuf>, why: impl Into<String>) -> Self {
        Self::new(path, Reason::Unused(why.into()))
    }
}

/// Largest number of files printed for each reason, unless all are asked for; the rest is only counted.
const NAMED: usize = 100;
/// Bytes at the beginning of a table that tell what it is about. No record is longer than half of it.
const HEAD_BYTES: u64 = 2 << 20;

/// Writes the files that were left out: for each reason a line with their number, then their names, `all` of them or
/// the first [`NAMED`]. Writes nothing if the list is empty.
pub(crate) fn write_left_out(
    f: &mut impl fmt::Write,
    left_out: &[LeftOut],
    all: bool,
) -> fmt::Result {
    let most = if all { usize::MAX } else { NAMED };
    let mut is_cut = false;
    let mut reasons: BTreeMap<&Reason, Vec<&Path>> = BTreeMap::new();
    for LeftOut { path, reason } in left_out {
        reasons.entry(reason).or_default().push(path);
    }
    for (reason, mut paths) in reasons {
        paths.sort();
        let why = on_one_line(&reason.to_string());
        writeln!(f, "left out, {}: {why}", paths.len())?;
        for path in paths.iter().take(most) {
            writeln!(f, "  {}", on_one_line(&path.to_string_lossy()))?;
        }
        if paths.len() > most {
            writeln!(f, "  and {} more", paths.len() - most)?;
            is_cut = true;
        }
    }
    if is_cut {
        writeln!(f, "`data check --all` names all that is left out")?;
    }
    Ok(())
}

/// A text for a line of a report: control characters, which names of files and classes can hold, are escaped.
pub(crate) fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Limits of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalkOptions {
    /// Number of folder levels below the root; 0 lists only the files of the root itself.
    pub(crate) depth: usize,
    /// Largest number of files and folders; more are an error.
    pub(crate) entries: usize,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            depth: 32,
            entries: 20_000_000,
        }
    }
}

/// The result of a walk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Regular files and links to regular files, sorted. Paths begin with the root as given.
    pub(crate) files: Vec<PathBuf>,
    /// Folders that were listed, without the root, sorted.
    pub(crate) folders: Vec<PathBuf>,
    /// Everything else, with reasons, sorted.
    pub(crate) left_out: Vec<LeftOut>,
}

/// Lists a folder and everything below it.
///
/// Links are followed, but no file or folder is listed twice. Links come after everything else, those to files
/// last, so that a file is preferred to a link to it. Files are not opened.
///
/// # Errors
/// If the root can't be read, or holds more than `options` allow.
pub(crate) fn walk(root: &Path, options: WalkOptions) -> Result<Walk, DataError> {
    let real = fs::canonicalize(root).map_err(io_error("read", root))?;
    let mut walker = Walker {
        walk: Walk::default(),
        seen: BTreeSet::new(),
        links: BTreeSet::new(),
        to_files: BTreeMap::new(),
        options,
        entries: 0,
        root: root.to_owned(),
    };
    let folder = Folder {
        path: root.to_owned(),
        real,
        depth: 0,
    };
    walker.list_below(folder)?;
    while let Some(link) = walker.links.pop_first() {
        walker.follow(link)?;
    }
    walker.list_linked_files();
    let mut walk = walker.walk;
    walk.files.sort();
    walk.folders.sort();
    walk.left_out.sort();
    Ok(walk)
}

/// Checks that a path is a folder that can be read: a dataset is one.
pub(crate) fn check_folder(path: &Path) -> Result<(), DataError> {
    if path.is_file() {
        let above = path.parent().filter(|own| !own.as_os_str().is_empty());
        let folder = above.unwrap_or(Path::new(".")).display();
        let reason =
            format!("is a file, and a dataset is a folder: name the one that it lies in, {folder}");
        return Err(DataError::malformed(path, reason));
    }
    fs::read_dir(path).map_err(io_error("open the dataset", path))?;
    Ok(())
}

/// Whether a file name is hidden, or one that file managers of macOS, Windows and network storage
/// leave behind.
pub(crate) fn is_hidden(name: &str) -> bool {
    const LEFTOVERS: [&str; 4] = ["__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir"];
    name.starts_with('.') || LEFTOVERS.contains(&name)
}

/// Opens a file within a limit.
pub(crate) fn open_within(path: &Path, limit: SizeLimit) -> Result<fs::File, DataError> {
    let file = open_regular(path).map_err(io_error("read", path))?;
    let size = file.metadata().map_err(io_error("read", path))?.len();
    limit.check(path, size)?;
    Ok(file)
}

/// Reads a UTF-8 file within a limit, without its byte order mark.
pub(crate) fn read_text(path: &Path, limit: SizeLimit) -> Result<String, DataError> {
    let file = open_within(path, limit)?;
    let bytes = read_bytes(path, file, limit.bytes.saturating_add(1))?;
    // It may have grown since it was opened.
    limit.check(path, bytes.len() as u64)?;
    text_of(path, bytes)
}

/// Reads the first lines of a UTF-8 file, without its byte order mark: those that lie whole within
/// [`HEAD_BYTES`].
pub(crate) fn read_head(path: &Path) -> Result<String, DataError> {
    let file = open_regular(path).map_err(io_error("read", path))?;
    let mut bytes = read_bytes(path, file, HEAD_BYTES)?;
    if bytes.len() as u64 == HEAD_BYTES {
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(end.unwrap_or_default());
    }
    text_of(path, bytes)
}

fn read_bytes(path: &Path, file: fs::File, most: u64) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    file.take(most)
        .read_to_end(&mut bytes)
        .map_err(io_error("read", path))?;
    Ok(bytes)
}

fn text_of(path: &Path, bytes: Vec<u8>) -> Result<String, DataError> {
    let mut text = String::from_utf8(bytes)
        .map_err(|error| DataError::malformed(path, format!("is not UTF-8: {error}")))?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

/// A folder: the path by which it was reached, its canonical path, and its depth below the root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Folder {
    path: PathBuf,
    real: PathBuf,
    depth: usize,
}

struct Walker {
    walk: Walk,
    /// Canonical paths of the folders listed so far.
    seen: BTreeSet<PathBuf>,
    /// Links not followed yet. `real` is the canonical path of the folder around the link, with the
    /// link's name.
    links: BTreeSet<Folder>,
    /// Links to files, with the canonical paths of the files.
    to_files: BTreeMap<PathBuf, PathBuf>,
    options: WalkOptions,
    entries: usize,
    root: PathBuf,
}

impl Walker {
    fn leave_out(&mut self, path: PathBuf, reason: Reason) {
        self.walk.left_out.push(LeftOut { path, reason });
    }

    /// Lists a folder and the folders below it. Links are collected for later.
    fn list_below(&mut self, first: Folder) -> Result<(), DataError> {
        let mut waiting = vec![first];
        while let Some(folder) = waiting.pop() {
            if !self.seen.insert(folder.real.clone()) {
                self.leave_out(folder.path, Reason::Twice);
                continue;
            }
            let entries = match fs::read_dir(&folder.path) {
                Ok(entries) => entries,
                Err(error) if folder.path == self.root => {
                    return Err(io_error("read", &folder.path)(error));
                }
                Err(error) => {
                    self.leave_out(folder.path, Reason::Unreadable(error.to_string()));
                    continue;
                }
            };
            if folder.path != self.root {
                self.walk.folders.push(folder.path.clone());
            }
            for entry in entries {
                self.entry(entry, &folder, &mut waiting)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        entry: io::Result<fs::DirEntry>,
        folder: &Folder,
        waiting: &mut Vec<Folder>,
    ) -> Result<(), DataError> {
        self.entries += 1;
        if self.entries > self.options.entries {
            let most = self.options.entries;
            let reason = format!("holds more than {most} files and folders: name one of them");
            return Err(DataError::malformed(&self.root, reason));
        }
        let (entry, kind) = match entry.and_then(|e| e.file_type().map(|kind| (e, kind))) {
            Ok(entry) => entry,
            Err(error) => {
                let reason = Reason::Unreadable(error.to_string());
                self.leave_out(folder.path.clone(), reason);
                return Ok(());
            }
        };
        let found = Folder {
            path: entry.path(),
            real: folder.real.join(entry.file_name()),
            depth: folder.depth + 1,
        };
        if is_hidden(&entry.file_name().to_string_lossy()) {
            self.leave_out(found.path, Reason::Hidden);
        } else if kind.is_symlink() {
            self.links.insert(found);
        } else if kind.is_file() {
            self.walk.files.push(found.path);
        } else if !kind.is_dir() {
            self.leave_out(found.path, Reason::Special);
        } else if found.depth > self.options.depth {
            self.leave_out(found.path, Reason::Deep);
        } else {
            waiting.push(found);
        }
        Ok(())
    }

    /// Lists the folder that a link leads to, unless it is listed already, and keeps a file for later. `link.real`
    /// is the canonical path of the link itself, not of its target.
    fn follow(&mut self, link: Folder) -> Result<(), DataError> {
        let target = fs::canonicalize(&link.path)
            .and_then(|real| fs::metadata(&real).map(|metadata| (real, metadata)));
        let (real, metadata) = match target {
            Ok(target) => target,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                self.leave_out(link.path, Reason::Unreadable(error.to_string()));
                return Ok(());
            }
            // The target does not exist, or the links form a circle.
            Err(_) => {
                self.leave_out(link.path, Reason::DeadLink);
                return Ok(());
            }
        };
        if metadata.is_file() {
            self.to_files.insert(link.path, real);
        } else if !metadata.is_dir() {
            self.leave_out(link.path, Reason::Special);
        } else if link.real.starts_with(&real) {
            self.leave_out(link.path, Reason::Above);
        } else if self.seen.contains(&real) {
            self.leave_out(link.path, Reason::Twice);
        } else if link.depth > self.options.depth {
            self.leave_out(link.path, Reason::Deep);
        } else {
            self.list_below(Folder { real, ..link })?;
        }
        Ok(())
    }

    /// Lists the files that links lead to, unless they are listed already: when all folders are.
    fn list_linked_files(&mut self) {
        let mut linked = BTreeSet::new();
        for (link, real) in std::mem::take(&mut self.to_files) {
            let hidden = real
                .file_name()
                .is_some_and(|name| is_hidden(&name.to_string_lossy()));
            let listed = real
                .parent()
                .is_some_and(|folder| self.seen.contains(folder));
            if listed && !hidden || !linked.insert(real) {
                self.leave_out(link, Reason::Twice);
            } else {
                self.walk.files.push(link);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"x").unwrap();
    }

    fn below(root: &Path, paths: &[PathBuf]) -> Vec<String> {
        let names = paths.iter().map(|path| path.strip_prefix(root).unwrap());
        names.map(|name| name.to_string_lossy().into()).collect()
    }

    fn reasons(root: &Path, walk: &Walk) -> Vec<(String, Reason)> {
        let left_out = walk.left_out.iter().map(|left| {
            let name = left.path.strip_prefix(root).unwrap();
            (name.to_string_lossy().into_owned(), left.reason.clone())
        });
        left_out.collect()
    }

    #[test]
    fn a_tree_is_listed_sorted_and_without_leftovers() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b/2", "b/1", "a", "a b/c/3", ".DS_Store", "__MACOSX/b/._1"] {
            touch(&dir.path().join(name));
        }
        let walked = walk(dir.path(), WalkOptions::default()).unwrap();
        assert_eq!(
            below(dir.path(), &walked.files),
            ["a", "a b/c/3", "b/1", "b/2"]
        );
        assert_eq!(below(dir.path(), &walked.folders), ["a b", "a b/c", "b"]);
        let hidden = |name: &str| (name.to_owned(), Reason::Hidden);
        let expected = [hidden(".DS_Store"), hidden("__MACOSX")];
        assert_eq!(reasons(dir.path(), &walked), expected);
    }

    #[test]
    fn a_file_is_no_dataset_and_its_folder_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text.txt");
        touch(&path);
        let told = |path: &Path| check_folder(path).unwrap_err().to_string();
        let expected = format!(
            "{}: is a file, and a dataset is a folder: name the one that it lies in, {}",
            path.display(),
            dir.path().display()
        );
        assert_eq!(told(&path), expected);
        // Tests run in the folder of the crate.
        assert!(told(Path::new("Cargo.toml")).ends_with(" it lies in, ."));
        let gone = told(&dir.path().join("gone"));
        assert!(gone.starts_with("cannot open the dataset "), "{gone}");
        check_folder(dir.path()).unwrap();
    }

    #[test]
    fn a_walk_has_bounds() {
        let dir = tempfile::tempdir().unwrap();
        touch(&dir.path().join("a/b/c"));
        touch(&dir.path().join("a/d"));
        let shallow = WalkOptions {
            depth: 1,
            ..WalkOptions::default()
        };
        let walked = walk(dir.path(), shallow).unwrap();
        assert_eq!(below(dir.path(), &walked.files), ["a/d"]);
        assert_eq!(
            reasons(dir.path(), &walked),
            [("a/b".to_owned(), Reason::Deep)]
        );
        let few = WalkOptions {
            entries: 3,
            ..WalkOptions::default()
        };
        let message = walk(dir.path(), few).unwrap_err().to_string();
        assert!(message.contains("more than 3 files"), "{message}");
        let missing = walk(&dir.path().join("none"), few).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_nothing_is_listed_twice() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("set"), dir.path().join("other"));
        touch(&root.join("cat/1"));
        touch(&root.join("cat/2"));
        touch(&root.join(".cache/4"));
        touch(&outside.join("far/3"));
        symlink("..", root.join("cat/up")).unwrap();
        symlink(".", root.join("again")).unwrap();
        symlink("cat", root.join("a cat")).unwrap();
        symlink("../cat/1", root.join("cat/7")).unwrap();
        symlink("../.cache/4", root.join("cat/4")).unwrap();
        symlink("../.cache/4", root.join("cat/5")).unwrap();
        symlink("nowhere", root.join("cat/8")).unwrap();
        symlink("9", root.join("cat/9")).unwrap();
        // The link to its folder comes later.
        symlink(outside.join("far/3"), root.join("cat/3")).unwrap();
        symlink(&outside, root.join("dog")).unwrap();
        symlink(&root, outside.join("back")).unwrap();
        symlink(&outside, outside.join("far/round")).unwrap();
        symlink(dir.path(), root.join("whole")).unwrap();
        let walked = walk(&root, WalkOptions::default()).unwrap();
        assert_eq!(
            below(&root, &walked.files),
            ["cat/1", "cat/2", "cat/4", "dog/far/3"]
        );
        let expected = [
            (".cache", Reason::Hidden),
            ("a cat", Reason::Twice),
            ("again", Reason::Above),
            ("cat/3", Reason::Twice),
            ("cat/5", Reason::Twice),
            ("cat/7", Reason::Twice),
            ("cat/8", Reason::DeadLink),
            ("cat/9", Reason::DeadLink),
            ("cat/up", Reason::Above),
            ("dog/back", Reason::Twice),
            ("dog/far/round", Reason::Above),
            ("whole", Reason::Above),
        ];
        let found = reasons(&root, &walked);
        let found: Vec<_> = found.iter().map(|(n, r)| (n.as_str(), r.clone())).collect();
        assert_eq!(found, expected);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_are_named_and_never_opened() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.png");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let walked = walk(dir.path(), WalkOptions::default()).unwrap();
        assert!(walked.files.is_empty());
        assert_eq!(
            reasons(dir.path(), &walked),
            [("pipe.png".to_owned(), Reason::Special)]
        );
        let error = open_regular(&pipe).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
        let limit = SizeLimit {
            bytes: 10,
            key: None,
        };
        let error = read_text(&pipe, limit).unwrap_err().to_string();
        assert!(error.contains("no regular file"), "{error}");
    }

    #[test]
    fn texts_lose_their_mark_and_have_a_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("text");
        fs::write(&path, "\u{feff}words").unwrap();
        let read = |bytes, key| read_text(&path, SizeLimit { bytes, key });
        assert_eq!(read(8, None).unwrap(), "words");
        let message = read(7, None).unwrap_err().to_string();
        let part = "larger than 7 bytes, the most that is read";
        assert!(message.ends_with(part), "{message}");
        let message = read(7, Some("text.max_text_mb")).unwrap_err().to_string();
        let part = "is read; text.max_text_mb of a recipe allows more: 1 at least";
        assert!(message.ends_with(part), "{message}");
        fs::write(&path, [0xff, 0xfe]).unwrap();
        let message = read(8, None).unwrap_err().to_string();
        assert!(message.contains("is not UTF-8"), "{message}");
        // A character that is cut is not part of the head.
        let long = "\u{e9}".repeat(HEAD_BYTES as usize / 2);
        fs::write(&path, format!("\u{feff}first\nx{long}")).unwrap();
        assert_eq!(read_head(&path).unwrap(), "first");
        fs::write(&path, "first\nlast").unwrap();
        assert_eq!(read_head(&path).unwrap(), "first\nlast");
    }

    #[test]
    fn what_is_left_out_is_counted_by_reason_and_named() {
        let mut list = vec![LeftOut::new("b", Reason::Hidden)];
        list.push(LeftOut::new("a", Reason::Hidden));
        list.extend((0..NAMED + 2).map(|i| LeftOut::unused(format!("{i:03}"), "no picture")));
        let mut text = String::new();
        write_left_out(&mut text, &list, false).unwrap();
        assert!(text.starts_with(&format!(
            "left out, 2: {}\n  a\n  b\nleft out, {}: no picture\n  000\n",
            Reason::Hidden,
            NAMED + 2
        )));
        let cut = "  099\n  and 2 more\n`data check --all` names all that is left out\n";
        assert!(text.ends_with(cut), "{text}");
        let mut whole = String::new();
        write_left_out(&mut whole, &list, true).unwrap();
        assert!(whole.ends_with("  099\n  100\n  101\n"), "{whole}");
        let mut odd = String::new();
        write_left_out(&mut odd, &[LeftOut::unused("c\nd", "x\u{1b}")], false).unwrap();
        assert_eq!(odd, "left out, 1: x\\u{1b}\n  c\\nd\n");
        let mut nothing = String::new();
        write_left_out(&mut nothing, &[], false).unwrap();
        assert_eq!(nothing, "");
    }
}
