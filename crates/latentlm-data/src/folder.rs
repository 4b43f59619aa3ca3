//! Readers of folders of pictures or clips: one folder per class, or loose samples.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use latentlm_media::MediaError;

use crate::error::DataError;
use crate::kind::Kind;
use crate::split::{Split, fill_empty, held_out};
use crate::walk::{LeftOut, Walk, WalkOptions, walk};

/// The location of a sample's pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A picture file; for clips also a folder of frames.
    File(PathBuf),
    /// A cell of a sheet, by column and row.
    Cell {
        sheet: PathBuf,
        column: u32,
        row: u32,
    },
}

/// A sample before its picture is decoded.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Name inside the dataset; it stays the same when the dataset is moved.
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) split: Split,
    /// Whether the dataset defines the split; otherwise a hash of the name does.
    pub(crate) given: bool,
    pub(crate) label: u32,
    pub(crate) text: Option<String>,
    /// What a single frame of a clip shows, if a table says so.
    pub(crate) still: Option<String>,
}

impl Entry {
    /// The file that holds the pixels.
    pub(crate) fn path(&self) -> &Path {
        match &self.source {
            Source::File(path) => path,
            Source::Cell { sheet, .. } => sheet,
        }
    }
}

/// A sample that can't be used.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Picture file, or table and line.
    pub(crate) name: PathBuf,
    pub(crate) error: DataError,
}

impl Broken {
    /// The entry for lists of files that were left out.
    pub(crate) fn left_out(&self) -> LeftOut {
        let why = match &self.error {
            // The list shows the path itself.
            DataError::Malformed { reason, .. } => reason.clone(),
            DataError::Media(MediaError::Picture { source, .. }) => {
                format!("cannot be decoded: {}", source.to_string().trim_end())
            }
            error => error.to_string(),
        };
        LeftOut::unused(&self.name, why)
    }
}

/// All samples of a dataset, usable and broken.
///
/// Opening a dataset fails at the first fault or with too many broken samples; `data check` reports all
/// of them. Both work on this listing.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) kind: &'static Kind,
    pub(crate) entries: Vec<Entry>,
    pub(crate) classes: Vec<String>,
    /// Problems of the dataset as a whole.
    pub(crate) faults: Vec<DataError>,
    /// Samples that can't be used.
    pub(crate) broken: Vec<Broken>,
    /// Files that are not samples.
    pub(crate) left_out: Vec<LeftOut>,
}

/// Names of held-out splits in tables of all kinds, and of folders with held-out samples: the first that exists is read.
pub(crate) const HELD_OUT_FOLDERS: [&str; 6] =
    ["test", "val", "valid", "validation", "dev", "eval"];

/// The last component of a path.
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The files of a folder tree, by folder.
#[derive(Debug)]
pub(crate) struct Tree {
    kind: &'static Kind,
    root: PathBuf,
    /// Files of each folder, sorted.
    files: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// Subfolders of each folder, sorted.
    folders: BTreeMap<PathBuf, Vec<PathBuf>>,
    /// Folders that are one sample each. They stand among the files of the folder around them.
    gathered: BTreeSet<PathBuf>,
    left_out: Vec<LeftOut>,
}

impl Tree {
    /// Lists a folder and everything below it.
    pub(crate) fn of(root: &Path, kind: &'static Kind) -> Result<Self, DataError> {
        let Walk {
            files,
            folders,
            left_out,
        } = walk(root, WalkOptions::default())?;
        let mut tree = Self {
            kind,
            root: root.to_owned(),
            files: by_parent(files),
            folders: by_parent(folders.clone()),
            gathered: BTreeSet::new(),
            left_out,
        };
        tree.gather(folders);
        Ok(tree)
    }

    /// Takes folders that are one sample each for files.
    fn gather(&mut self, folders: Vec<PathBuf>) {
        for folder in folders {
            let files = self.files.get(&folder);
            let frames = files.and_then(|files| self.kind.frames(files));
            let Some(frames) = frames else { continue };
            if !self.folders_of(&folder).is_empty() {
                continue;
            }
            let frames: BTreeSet<PathBuf> = frames.into_iter().collect();
            if let Some(files) = self.files.get_mut(&folder) {
                files.retain(|file| !frames.contains(file));
            }
            self.gathered.insert(folder);
        }
        for siblings in self.folders.values_mut() {
            siblings.retain(|sibling| !self.gathered.contains(sibling));
        }
        for (parent, mut clips) in by_parent(self.gathered.iter().cloned().collect()) {
            let around = self.files.entry(parent).or_default();
            around.append(&mut clips);
            around.sort();
        }
    }

    fn takes(&self, path: &Path) -> bool {
        self.kind.takes(path) || self.gathered.contains(path)
    }

    /// Whether the root has subfolders.
    pub(crate) fn has_folders(&self) -> bool {
        !self.folders_of(&self.root).is_empty()
    }

    /// Whether the root itself holds samples.
    pub(crate) fn has_samples(&self) -> bool {
        let files = self.files.get(&self.root);
        files.is_some_and(|files| files.iter().any(|path| self.takes(path)))
    }

    /// Whether there are samples at any depth. Those that can't be decoded count: the list of files left out
    /// says what to do with them.
    pub(crate) fn has_samples_anywhere(&self) -> bool {
        let mut files = self.files.values().flatten();
        files.any(|path| self.takes(path) || self.kind.resembles(path))
    }

    /// The error of a tree without samples.
    pub(crate) fn without_samples(&self) -> DataError {
        let all = self.files.values().flatten();
        let mut others = all.filter(|path| self.kind.resembles(path));
        match others.next() {
            Some(first) => self.kind.undecoded(&self.root, first, 1 + others.count()),
            None => self.kind.unknown(&self.root),
        }
    }

    fn folders_of(&self, folder: &Path) -> &[PathBuf] {
        self.folders.get(folder).map_or(&[][..], Vec::as_slice)
    }

    /// Removes and returns the samples of a folder; its other files stay.
    fn take_samples(&mut self, folder: &Path) -> Vec<PathBuf> {
        let Some(files) = self.files.remove(folder) else {
            return Vec::new();
        };
        let (samples, others) = files.into_iter().partition(|path| self.takes(path));
        self.files.insert(folder.to_owned(), others);
        samples
    }

    /// The files that were not taken.
    fn rest(self) -> Vec<LeftOut> {
        let mut left_out = self.left_out;
        for path in self.files.into_values().flatten() {
            let why = self.kind.misplaced;
            left_out.push(if self.gathered.contains(&path) {
                LeftOut::unused(path, why)
            } else {
                self.kind.unused(path, why)
            });
        }
        left_out
    }
}

fn by_parent(paths: Vec<PathBuf>) -> BTreeMap<PathBuf, Vec<PathBuf>> {
    let mut parents: BTreeMap<PathBuf, Vec<PathBuf>> = BTreeMap::new();
    for path in paths {
        let parent = path.parent().unwrap_or(Path::new("")).to_owned();
        parents.entry(parent).or_default().push(path);
    }
    parents
}

/// Lists class folders, which may lie below `train` and `test`. The training split defines the classes
/// and their numbers for both splits.
pub(crate) fn list_classes(mut tree: Tree) -> Listing {
    let mut listing = Listing {
        kind: tree.kind,
        ..Listing::default()
    };
    let root = tree.root.clone();
    let below = |wanted: &str| {
        let mut folders = tree.folders_of(&root).iter();
        folders.find(|path| name(path) == wanted).cloned()
    };
    let train = below("train");
    let held_out_folder = HELD_OUT_FOLDERS.iter().find_map(|name| below(name));
    let classes_of = |folder: &Option<PathBuf>| match folder {
        Some(folder) => tree.folders_of(folder).to_vec(),
        None => Vec::new(),
    };
    let (train_classes, test_classes) = (classes_of(&train), classes_of(&held_out_folder));
    let classes = tree.folders_of(&root).to_vec();
    match (train, held_out_folder) {
        (Some(train), Some(_)) if train_classes.is_empty() => {
            // Otherwise `train` and `test` would be taken for the classes.
            let samples = tree.kind.samples;
            let reason =
                format!("holds no class folders: put its {samples} into one folder a class");
            listing.faults.push(DataError::malformed(&train, reason));
            return listing;
        }
        (Some(_), held_out_folder) if !train_classes.is_empty() => {
            // Without a held-out folder, the training folder is split by hash.
            let split = held_out_folder.map(|_| Split::Train);
            for class in train_classes {
                let label = listing.add_class(&class);
                listing.add_samples(&class, tree.take_samples(&class), label, split);
            }
        }
        // Without a held-out folder, a folder of pictures called `train` is a class.
        _ => {
            for class in classes {
                let label = listing.add_class(&class);
                listing.add_samples(&class, tree.take_samples(&class), label, None);
            }
            return listing.finish(tree);
        }
    }
    for class in test_classes {
        match listing
            .classes
            .iter()
            .position(|known| *known == name(&class))
        {
            Some(label) => {
                let files = tree.take_samples(&class);
                listing.add_samples(&class, files, label as u32, Some(Split::Test));
            }
            None => {
                let reason = "a held-out class that `train` lacks: add it there or remove it here";
                listing.faults.push(DataError::malformed(&class, reason));
            }
        }
    }
    listing.finish(tree)
}

/// Lists a folder of samples without classes: all belong to one class, `all`.
pub(crate) fn list_loose(mut tree: Tree) -> Listing {
    let mut listing = Listing {
        kind: tree.kind,
        classes: vec!["all".to_owned()],
        ..Listing::default()
    };
    let files = tree.take_samples(&tree.root.clone());
    for path in files {
        listing.add(name(&path), path, 0, None);
    }
    listing.finish(tree)
}

impl Listing {
    fn add_class(&mut self, class: &Path) -> u32 {
        self.classes.push(name(class));
        (self.classes.len() - 1) as u32
    }

    fn add_samples(&mut self, class: &Path, files: Vec<PathBuf>, label: u32, split: Option<Split>) {
        if files.is_empty() {
            self.faults.push(self.kind.empty_class(class));
        }
        for path in files {
            self.add(
                format!("{}/{}", name(class), name(&path)),
                path,
                label,
                split,
            );
        }
    }

    fn add(&mut self, name: String, path: PathBuf, label: u32, split: Option<Split>) {
        self.entries.push(Entry {
            split: split.unwrap_or_else(|| held_out(&name)),
            given: split.is_some(),
            name,
            source: Source::File(path),
            label,
            text: None,
            still: None,
        });
    }

    fn finish(mut self, tree: Tree) -> Self {
        self.left_out = tree.rest();
        self
    }

    /// Makes sure that both splits have samples where hashes of names decide the split.
    pub(crate) fn fill_splits(&mut self) {
        let has = |split: &Split| self.entries.iter().any(|own| own.split == *split);
        if Split::ALL.iter().all(has) {
            return;
        }
        let mut divided: Vec<&mut Entry> =
            self.entries.iter_mut().filter(|own| !own.given).collect();
        let mut splits: Vec<Split> = divided.iter().map(|own| own.split).collect();
        let keys: Vec<&str> = divided.iter().map(|own| own.name.as_str()).collect();
        fill_empty(&keys, &mut splits);
        for (entry, split) in divided.iter_mut().zip(splits) {
            entry.split = split;
        }
    }
}
