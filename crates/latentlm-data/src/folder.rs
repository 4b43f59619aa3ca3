//! Folders of pictures: one folder a class, or a `metadata.jsonl` that names files or cells of a
//! sheet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::dataset::Split;
use crate::error::{DataError, io_error};

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
    pub(crate) label: u32,
    pub(crate) text: Option<String>,
}

/// A whole dataset: what can be used of it, and what can't.
///
/// Opening a dataset refuses the first fault, checking one reports them all: both read it here.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<Entry>,
    pub(crate) classes: Vec<String>,
    pub(crate) faults: Vec<DataError>,
}

const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
const HELD_OUT_FOLDERS: [&str; 3] = ["test", "val", "validation"];

/// Whether a folder holds class folders.
pub(crate) fn has_classes(folder: &Path) -> Result<bool, DataError> {
    Ok(!class_folders(folder)?.is_empty())
}

/// Class folders of a root, sorted by name.
fn class_folders(root: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut folders = children(root)?;
    folders.retain(|path| path.is_dir() && !hidden(path));
    Ok(folders)
}

/// Pictures of a class folder, sorted by name.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let is_picture = |path: &Path| {
        path.extension()
            .and_then(|ending| ending.to_str())
            .is_some_and(|ending| ENDINGS.contains(&ending.to_ascii_lowercase().as_str()))
    };
    let mut files = children(folder)?;
    files.retain(|path| is_picture(path) && !hidden(path));
    Ok(files)
}

fn children(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut list = fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|e| e.map(|e| e.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(io_error("read", folder))?;
    list.sort();
    Ok(list)
}

fn hidden(path: &Path) -> bool {
    name(path).starts_with('.')
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// One sample in ten is held out, by a hash of its name: adding files moves no other sample.
pub(crate) fn held_out(key: &str) -> Split {
    match Sha256::digest(key.as_bytes())[0] % 10 {
        0 => Split::Test,
        _ => Split::Train,
    }
}

/// Lists a folder of class folders, which may lie below `train` and `test`. The classes are those
/// of the training part: a number means one class in both.
pub(crate) fn list_classes(folder: &Path) -> Result<Listing, DataError> {
    let mut listing = Listing::default();
    let train = folder.join("train");
    let held_out_folder = HELD_OUT_FOLDERS
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_dir());
    let nested = train.is_dir() && has_classes(&train)?;
    if !nested && train.is_dir() && held_out_folder.is_some() {
        // Taken for classes, `train` and `test` would be what the model learns to draw.
        let reason = "holds no class folders: put its pictures into one folder a class";
        listing.faults.push(DataError::malformed(&train, reason));
        return Ok(listing);
    }
    // Without one beside it, a folder of pictures called `train` is a class.
    if !nested {
        for class in class_folders(folder)? {
            let label = listing.add_class(&class);
            listing.add_pictures(&class, label, held_out)?;
        }
        return Ok(listing);
    }
    for class in class_folders(&train)? {
        let label = listing.add_class(&class);
        match held_out_folder {
            Some(_) => listing.add_pictures(&class, label, |_| Split::Train)?,
            // Without a held-out folder, the training folder is divided.
            None => listing.add_pictures(&class, label, held_out)?,
        }
    }
    for class in held_out_folder.map_or(Ok(Vec::new()), |path| class_folders(&path))? {
        match listing
            .classes
            .iter()
            .position(|known| *known == name(&class))
        {
            Some(label) => listing.add_pictures(&class, label as u32, |_| Split::Test)?,
            None => {
                let reason = "a held-out class that `train` lacks: add it there or remove it here";
                listing.faults.push(DataError::malformed(&class, reason));
            }
        }
    }
    Ok(listing)
}

impl Listing {
    fn add_class(&mut self, class: &Path) -> u32 {
        self.classes.push(name(class));
        (self.classes.len() - 1) as u32
    }

    fn add_pictures(
        &mut self,
        class: &Path,
        label: u32,
        split: impl Fn(&str) -> Split,
    ) -> Result<(), DataError> {
        let files = pictures(class)?;
        if files.is_empty() {
            let path = class.to_owned();
            self.faults.push(DataError::EmptyClass { path });
        }
        self.entries.extend(files.into_iter().map(|path| {
            let name = format!("{}/{}", name(class), name(&path));
            Entry {
                split: split(&name),
                name,
                source: Source::File(path),
                label,
                text: None,
            }
        }));
        Ok(())
    }
}

/// A line of `metadata.jsonl`.
#[derive(Debug, Deserialize)]
struct Record {
    file_name: Option<String>,
    sheet: Option<String>,
    sheet_x: Option<u32>,
    sheet_y: Option<u32>,
    text: Option<String>,
    label: Option<Label>,
    split: Option<String>,
}

/// A class as a record names it. Numbers come first and in their own order: 2 before 10.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(
    untagged,
    expecting = "`label` must be a string or a whole number from 0"
)]
enum Label {
    Number(u32),
    Name(String),
}

impl Label {
    /// `"7"` and `7` are one class.
    fn normal(self) -> Self {
        match self {
            Self::Name(name) => match name.parse::<u32>() {
                Ok(number) if number.to_string() == name => Self::Number(number),
                _ => Self::Name(name),
            },
            number => number,
        }
    }

    fn into_name(self) -> String {
        match self {
            Self::Name(name) => name,
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Record {
    /// The sample's name inside the dataset, and where its pixels are.
    fn source(&self, folder: &Path) -> Result<(String, Source), String> {
        match (&self.file_name, &self.sheet, self.sheet_x, self.sheet_y) {
            (Some(file), ..) => {
                let path = folder.join(file);
                if !path.is_file() {
                    return Err(format!("{} does not exist", path.display()));
                }
                Ok((file.clone(), Source::File(path)))
            }
            (None, Some(sheet), Some(column), Some(row)) => {
                let source = Source::Cell {
                    sheet: folder.join(sheet),
                    column,
                    row,
                };
                Ok((format!("{column},{row}"), source))
            }
            _ => Err("needs `file_name`, or `sheet`, `sheet_x` and `sheet_y`".into()),
        }
    }

    fn split(&self, name: &str) -> Result<Split, String> {
        match self.split.as_deref() {
            None => Ok(held_out(name)),
            Some("train") => Ok(Split::Train),
            Some(split) if HELD_OUT_FOLDERS.contains(&split) => Ok(Split::Test),
            Some(split) => Err(format!("split `{split}` is neither `train` nor `test`")),
        }
    }

    /// The sample, but for its class's number, and its class.
    fn entry(self, folder: &Path) -> Result<(Entry, Label), String> {
        let (name, source) = self.source(folder)?;
        let split = self.split(&name)?;
        let label = self.label.unwrap_or(Label::Name("all".into())).normal();
        let entry = Entry {
            name,
            source,
            split,
            label: 0,
            text: self.text,
        };
        Ok((entry, label))
    }
}

/// Lists a folder with a `metadata.jsonl`. Without labels there is one class, `all`.
pub(crate) fn list_metadata(folder: &Path) -> Result<Listing, DataError> {
    let path = folder.join("metadata.jsonl");
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    let mut listing = Listing::default();
    let mut numbers = BTreeMap::new();
    let mut labels = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        let entry = serde_json::from_str(line)
            .map_err(|e| format!("not a record: {e}"))
            .and_then(|record: Record| record.entry(folder));
        match entry {
            Ok((entry, label)) => {
                numbers.insert(label.clone(), 0);
                labels.push(label);
                listing.entries.push(entry);
            }
            Err(reason) => {
                let reason = format!("line {}: {reason}", index + 1);
                listing.faults.push(DataError::malformed(&path, reason));
            }
        }
    }
    for (number, slot) in (0..).zip(numbers.values_mut()) {
        *slot = number;
    }
    for (entry, label) in listing.entries.iter_mut().zip(&labels) {
        entry.label = numbers.get(label).copied().unwrap_or_default();
    }
    listing.classes = numbers.into_keys().map(Label::into_name).collect();
    Ok(listing)
}
