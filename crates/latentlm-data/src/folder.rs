//! Folders of pictures: one folder a class, or loose pictures.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::dataset::Split;
use crate::error::DataError;
use crate::split::{fill_empty, held_out};
use crate::walk::{LeftOut, Walk, WalkOptions, walk};

/// Where a sample's pixels are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A picture file.
    File(PathBuf),
    /// A cell of a sheet: column and row.
    Cell {
        sheet: PathBuf,
        column: u32,
        row: u32,
    },
}

/// A sample before its picture is decoded.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its name inside the dataset, which does not change when the dataset moves.
    pub(crate) name: String,
    pub(crate) source: Source,
    pub(crate) split: Split,
    /// Whether the dataset itself says the split; otherwise it follows from the name.
    pub(crate) given: bool,
    pub(crate) label: u32,
    pub(crate) text: Option<String>,
}

impl Entry {
    /// The file that its pixels are in.
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
    /// Its file, or its line of a table.
    pub(crate) name: PathBuf,
    pub(crate) error: DataError,
}

impl Broken {
    /// As lists of what was left out show it.
    pub(crate) fn left_out(&self) -> LeftOut {
        let why = match &self.error {
            // The file stands beside it.
            DataError::Malformed { reason, .. } => reason.clone(),
            DataError::Picture { source, .. } => format!("cannot be decoded: {source}"),
            error => error.to_string(),
        };
        LeftOut::unused(&self.name, why)
    }
}

/// A whole dataset: what can be used of it, and what can't.
///
/// Opening a dataset refuses the first fault and too many broken samples, checking one reports them
/// all: both read it here.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    pub(crate) classes: Vec<String>,
    /// What is wrong with the dataset as a whole.
    pub(crate) faults: Vec<DataError>,
    /// Samples that can't be used.
    pub(crate) broken: Vec<Broken>,
    /// Files that are no samples.
    pub(crate) left_out: Vec<LeftOut>,
}

/// Endings of pictures that are decoded.
const ENDINGS: [&str; 10] = [
    "png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp", "tif", "tiff",
];
/// Endings of pictures that are not.
const FOREIGN: [&str; 14] = [
    "avif", "heic", "heif", "jxl", "jp2", "svg", "psd", "ico", "tga", "exr", "hdr", "ppm", "dng",
    "raw",
];
/// Folders of held-out samples; the first one that is there is read.
pub(crate) const HELD_OUT_FOLDERS: [&str; 3] = ["test", "val", "validation"];

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .and_then(|ending| ending.to_str())
        .is_some_and(|ending| endings.contains(&ending.to_ascii_lowercase().as_str()))
}

/// A file that is no sample; `why` if it is a picture that could be one.
pub(crate) fn unused(path: PathBuf, why: &str) -> LeftOut {
    let why = if has_ending(&path, &ENDINGS) {
        why
    } else if has_ending(&path, &FOREIGN) {
        "a picture of a kind that is not decoded: save it as PNG, JPEG or WebP"
    } else {
        "no picture, by its ending"
    };
    LeftOut::unused(path, why)
}

/// The last part of a path.
pub(crate) fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// What a folder holds, folder by folder.
#[derive(Debug)]
pub(crate) struct Tree {
    root: PathBuf,
    /// Of each folder, the files and the folders in it, sorted.
    files: BTreeMap<PathBuf, Vec<PathBuf>>,
    folders: BTreeMap<PathBuf, Vec<PathBuf>>,
    left_out: Vec<LeftOut>,
}

impl Tree {
    /// Looks through a folder.
    pub(crate) fn of(root: &Path) -> Result<Self, DataError> {
        let Walk {
            files,
            folders,
            left_out,
        } = walk(root, WalkOptions::default())?;
        Ok(Self {
            root: root.to_owned(),
            files: by_parent(files),
            folders: by_parent(folders),
            left_out,
        })
    }

    /// Whether there are folders in its root.
    pub(crate) fn has_folders(&self) -> bool {
        !self.folders_of(&self.root).is_empty()
    }

    /// Whether there are pictures in its root.
    pub(crate) fn has_pictures(&self) -> bool {
        let files = self.files.get(&self.root);
        files.is_some_and(|files| files.iter().any(|path| has_ending(path, &ENDINGS)))
    }

    fn folders_of(&self, folder: &Path) -> &[PathBuf] {
        self.folders.get(folder).map_or(&[][..], Vec::as_slice)
    }

    /// Takes the pictures of a folder; what else is in it stays.
    fn take_pictures(&mut self, folder: &Path) -> Vec<PathBuf> {
        let Some(files) = self.files.get_mut(folder) else {
            return Vec::new();
        };
        let taken = std::mem::take(files);
        let (pictures, others) = taken
            .into_iter()
            .partition(|path| has_ending(path, &ENDINGS));
        *files = others;
        pictures
    }

    /// All that nobody took.
    fn rest(self, why: &str) -> Vec<LeftOut> {
        let files = self.files.into_values().flatten();
        let unused = files.map(|path| unused(path, why));
        self.left_out.into_iter().chain(unused).collect()
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

/// Lists a folder of class folders, which may lie below `train` and `test`. The classes are those
/// of the training part: a number means one class in both.
pub(crate) fn list_classes(mut tree: Tree) -> Listing {
    let mut listing = Listing::default();
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
            // Taken for classes, `train` and `test` would be what the model learns to draw.
            let reason = "holds no class folders: put its pictures into one folder a class";
            listing.faults.push(DataError::malformed(&train, reason));
            return listing;
        }
        (Some(_), held_out_folder) if !train_classes.is_empty() => {
            // Without a held-out folder, the training folder is divided.
            let split = held_out_folder.map(|_| Split::Train);
            for class in train_classes {
                let label = listing.add_class(&class);
                listing.add_pictures(&class, tree.take_pictures(&class), label, split);
            }
        }
        // Without one beside it, a folder of pictures called `train` is a class.
        _ => {
            for class in classes {
                let label = listing.add_class(&class);
                listing.add_pictures(&class, tree.take_pictures(&class), label, None);
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
                let files = tree.take_pictures(&class);
                listing.add_pictures(&class, files, label as u32, Some(Split::Test));
            }
            None => {
                let reason = "a held-out class that `train` lacks: add it there or remove it here";
                listing.faults.push(DataError::malformed(&class, reason));
            }
        }
    }
    listing.finish(tree)
}

/// Lists a folder of pictures without classes: all are of one, `all`.
pub(crate) fn list_loose(mut tree: Tree) -> Listing {
    let mut listing = Listing {
        classes: vec!["all".to_owned()],
        ..Listing::default()
    };
    let files = tree.take_pictures(&tree.root.clone());
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

    fn add_pictures(
        &mut self,
        class: &Path,
        files: Vec<PathBuf>,
        label: u32,
        split: Option<Split>,
    ) {
        if files.is_empty() {
            let path = class.to_owned();
            self.faults.push(DataError::EmptyClass { path });
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
        });
    }

    fn finish(mut self, tree: Tree) -> Self {
        self.left_out =
            tree.rest("a picture outside of the class folders, or in a folder below one");
        self
    }

    /// Sees to it that no split is empty where names divide the samples.
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
