//! Simulates power cuts while a folder is written. The calls of [`disk`](crate::disk) are recorded, and every
//! prefix of them is replayed on a disk that loses unsynced changes.
//!
//! The simulated disk keeps the order of changes of names, as journaling file systems do. Any number of the
//! latest unsynced changes may be missing after the power cut. A file that was not synced is empty, or as it was before
//! bytes were added at its end.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::disk::{self, Change};

/// Changes of a folder, and its content before them.
pub struct Recording {
    root: PathBuf,
    before: Disk,
    /// Each change, with the bytes that it wrote.
    changes: Vec<(Change, Vec<u8>)>,
}

/// A folder after a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// Changes that had been made.
    pub after: usize,
    /// Relative paths, with bytes where it is a file.
    entries: BTreeMap<PathBuf, Option<Vec<u8>>>,
}

/// Records what `work` does to a folder.
///
/// # Panics
/// If the folder can't be read.
pub fn record<T>(root: &Path, work: impl FnOnce() -> T) -> (T, Recording) {
    let mut before = Disk::default();
    before.read(0, root);
    let log = Rc::new(RefCell::new(Vec::new()));
    let sink = log.clone();
    let recorder = move |change: Change| {
        let bytes = match &change {
            Change::Write(path) | Change::Append(path) => {
                fs::read(path).expect("a file that was just written")
            }
            _ => Vec::new(),
        };
        sink.borrow_mut().push((change, bytes));
    };
    let result = disk::record(recorder, work);
    let recording = Recording {
        root: root.to_owned(),
        before,
        changes: log.take(),
    };
    (result, recording)
}

impl Recording {
    /// Changes that were recorded.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Everything that a power cut can leave, after each number of changes.
    ///
    /// # Panics
    /// If a change lies outside of the folder.
    pub fn remains(&self) -> Vec<Remains> {
        let mut disk = self.before.clone();
        let mut all = disk.remains(0);
        for (index, (change, bytes)) in self.changes.iter().enumerate() {
            disk.apply(&self.root, change, bytes);
            all.extend(disk.remains(index + 1));
        }
        all
    }
}

impl Remains {
    /// Writes the remaining files into an empty folder.
    ///
    /// # Panics
    /// If it can't be written.
    pub fn restore(&self, folder: &Path) {
        for (path, bytes) in &self.entries {
            let path = folder.join(path);
            match bytes {
                None => fs::create_dir(&path).expect("a folder of the remains"),
                Some(bytes) => fs::write(&path, bytes).expect("a file of the remains"),
            }
        }
    }
}

/// What happened to a name in a folder.
#[derive(Debug, Clone)]
enum NameChange {
    Set(String, usize),
    Removed(String),
    Renamed(String, String, usize),
}

#[derive(Debug, Clone)]
enum Node {
    /// Bytes now, and bytes on the disk.
    File(Vec<u8>, Vec<u8>),
    /// Names now, and names on the disk.
    Folder(BTreeMap<String, usize>, BTreeMap<String, usize>),
}

/// Files and folders by number, the root first, and changes of names that were not synced, in order.
#[derive(Debug, Clone)]
struct Disk {
    nodes: Vec<Node>,
    pending: Vec<(usize, NameChange)>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            nodes: vec![Node::Folder(BTreeMap::new(), BTreeMap::new())],
            pending: Vec::new(),
        }
    }
}

impl Disk {
    fn read(&mut self, into: usize, folder: &Path) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            let node = self.nodes.len();
            if path.is_dir() {
                self.nodes
                    .push(Node::Folder(BTreeMap::new(), BTreeMap::new()));
                self.read(node, &path);
            } else {
                let bytes = fs::read(&path).expect("a file");
                self.nodes.push(Node::File(bytes.clone(), bytes));
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let (now, kept) = self.names(into);
            now.insert(name.clone(), node);
            kept.insert(name, node);
        }
    }

    fn names(
        &mut self,
        folder: usize,
    ) -> (&mut BTreeMap<String, usize>, &mut BTreeMap<String, usize>) {
        match &mut self.nodes[folder] {
            Node::Folder(now, kept) => (now, kept),
            Node::File(..) => panic!("a file where a folder should be"),
        }
    }

    /// The number of a path's folder, and its last name.
    fn locate(&mut self, root: &Path, path: &Path) -> (usize, String) {
        let folder = self.find(root, disk::folder_of(path));
        let name = path.file_name().expect("a name");
        (folder, name.to_string_lossy().into_owned())
    }

    fn find(&mut self, root: &Path, path: &Path) -> usize {
        let inside = path.strip_prefix(root);
        let inside = inside.unwrap_or_else(|_| panic!("{} is outside", path.display()));
        let mut node = 0;
        for name in inside {
            let (now, _) = self.names(node);
            node = now[&*name.to_string_lossy()];
        }
        node
    }

    fn apply(&mut self, root: &Path, change: &Change, bytes: &[u8]) {
        match change {
            Change::CreateFolder(path) => {
                self.add(root, path, Node::Folder(BTreeMap::new(), BTreeMap::new()));
            }
            Change::Write(path) => {
                let (folder, name) = self.locate(root, path);
                let known = self.names(folder).0.get(&name).copied();
                match known {
                    Some(node) => self.nodes[node] = Node::File(bytes.to_vec(), Vec::new()),
                    None => self.add(root, path, Node::File(bytes.to_vec(), Vec::new())),
                }
            }
            Change::Append(path) => {
                let node = self.find(root, path);
                if let Node::File(now, _) = &mut self.nodes[node] {
                    *now = bytes.to_vec();
                }
            }
            Change::SyncFile(path) => {
                let node = self.find(root, path);
                if let Node::File(now, kept) = &mut self.nodes[node] {
                    kept.clone_from(now);
                }
            }
            Change::SyncFolder(path) => {
                // The folder that the root lies in holds nothing of ours.
                if path.starts_with(root) {
                    let folder = self.find(root, path);
                    self.sync(folder);
                }
            }
            Change::Rename(from, to) => {
                let (folder, old) = self.locate(root, from);
                let (same, new) = self.locate(root, to);
                assert_eq!(folder, same, "renames stay within a folder");
                let (now, _) = self.names(folder);
                let node = now.remove(&old).expect("what is renamed exists");
                now.insert(new.clone(), node);
                let change = NameChange::Renamed(old, new, node);
                self.pending.push((folder, change));
            }
            Change::Remove(path) => {
                let (folder, name) = self.locate(root, path);
                self.names(folder).0.remove(&name);
                self.pending.push((folder, NameChange::Removed(name)));
            }
        }
    }

    fn add(&mut self, root: &Path, path: &Path, node: Node) {
        let (folder, name) = self.locate(root, path);
        let number = self.nodes.len();
        self.nodes.push(node);
        self.names(folder).0.insert(name.clone(), number);
        self.pending.push((folder, NameChange::Set(name, number)));
    }

    /// A folder's changes of names reach the disk.
    fn sync(&mut self, folder: usize) {
        for (own, change) in std::mem::take(&mut self.pending) {
            if own == folder {
                self.keep(own, change);
            } else {
                self.pending.push((own, change));
            }
        }
    }

    fn keep(&mut self, folder: usize, change: NameChange) {
        let (_, kept) = self.names(folder);
        match change {
            NameChange::Set(name, node) => {
                kept.insert(name, node);
            }
            NameChange::Removed(name) => {
                kept.remove(&name);
            }
            NameChange::Renamed(old, new, node) => {
                kept.remove(&old);
                kept.insert(new, node);
            }
        }
    }

    /// The possible states if the power goes now: with none, some or all of the pending changes.
    fn remains(&self, after: usize) -> Vec<Remains> {
        let mut disk = self.clone();
        let mut all = Vec::new();
        for next in 0..=self.pending.len() {
            let mut entries = BTreeMap::new();
            disk.list(0, Path::new(""), &mut entries);
            all.push(Remains { after, entries });
            if let Some((folder, change)) = self.pending.get(next) {
                disk.keep(*folder, change.clone());
            }
        }
        all
    }

    fn list(&self, folder: usize, path: &Path, entries: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
        let Node::Folder(_, kept) = &self.nodes[folder] else {
            return;
        };
        for (name, &node) in kept {
            let path = path.join(name);
            match &self.nodes[node] {
                Node::File(_, kept) => {
                    entries.insert(path, Some(kept.clone()));
                }
                Node::Folder(..) => {
                    entries.insert(path.clone(), None);
                    self.list(node, &path, entries);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{BundleWriter, write_atomically};

    /// The contents of `file` after each possible power cut.
    fn left(recording: &Recording, file: &str) -> Vec<Option<Vec<u8>>> {
        let remains = recording.remains();
        let read = |remains: &Remains| {
            let dir = tempfile::tempdir().unwrap();
            remains.restore(dir.path());
            fs::read(dir.path().join(file)).ok()
        };
        remains.iter().map(read).collect()
    }

    #[test]
    fn a_file_is_the_old_or_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/latest");
        write_atomically(&path, b"old").unwrap();
        let (_, recording) = record(dir.path(), || write_atomically(&path, b"new").unwrap());
        let left = left(&recording, "a/latest");
        assert_eq!(left[0].as_deref(), Some(&b"old"[..]));
        assert_eq!(left.last().unwrap().as_deref(), Some(&b"new"[..]));
        let whole = |left: &Option<Vec<u8>>| matches!(left.as_deref(), Some(b"old" | b"new"));
        assert!(left.iter().all(whole), "{left:?}");
    }

    /// The model would find a writer that forgets to sync: a plain write and rename.
    #[test]
    fn a_rename_without_a_sync_loses_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("x"), dir.path().join("y"));
        let (_, recording) = record(dir.path(), || {
            fs::write(&from, b"new").unwrap();
            disk::note(|| Change::Write(from.clone()));
            disk::rename(&from, &to).unwrap();
        });
        assert!(left(&recording, "y").contains(&Some(Vec::new())));
    }

    /// What was synced stays, whatever is added behind it.
    #[test]
    fn what_was_added_to_a_file_is_there_once_it_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, b"a").unwrap();
        let mut file = fs::File::options().append(true).open(&path).unwrap();
        let (_, recording) = record(dir.path(), || {
            disk::append(&mut file, &path, b"b").unwrap();
            disk::sync_open(&file, &path).unwrap();
            disk::append(&mut file, &path, b"c").unwrap();
        });
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        let left = left(&recording, "log").into_iter();
        let left: Vec<Vec<u8>> = left.map(Option::unwrap).collect();
        assert_eq!(left, [&b"a"[..], b"a", b"ab", b"ab"]);
    }

    #[test]
    fn a_folder_is_there_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("checkpoints/lm/step-1");
        let (_, recording) = record(dir.path(), || {
            let bundle = BundleWriter::begin(&target).unwrap();
            bundle.write("a", b"x").unwrap();
            bundle.write("b", b"y").unwrap();
            bundle.commit().unwrap();
        });
        assert!(recording.len() > 8);
        for remains in recording.remains() {
            let dir = tempfile::tempdir().unwrap();
            remains.restore(dir.path());
            let folder = dir.path().join("checkpoints/lm/step-1");
            if folder.exists() {
                assert_eq!(fs::read(folder.join("a")).unwrap(), b"x");
                assert_eq!(fs::read(folder.join("b")).unwrap(), b"y");
            }
        }
    }
}
