//! One type for every kind of image dataset.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::error::{DataError, io_error};
use crate::folder::{self, Entry, Listing, Source};
use crate::idx::{self, IdxImages};
use crate::picture::{ImageSpec, fit, pad_grey};
use crate::sheet::Sheets;

/// Which part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// What models are trained on.
    Train,
    /// What they are measured on.
    Test,
}

impl Split {
    /// Both, the training part first.
    pub const ALL: [Self; 2] = [Self::Train, Self::Test];

    /// `train` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// How a dataset is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetKind {
    /// MNIST-style IDX files.
    Idx,
    /// `metadata.jsonl` beside picture files or a sheet.
    Metadata,
    /// One folder a class.
    ClassFolders,
}

/// One sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSample {
    /// `[C, H, W]`, row-major.
    pub pixels: Vec<u8>,
    /// The class's number.
    pub label: u32,
    /// The caption, if there is one.
    pub text: Option<String>,
}

/// An opened dataset. Pictures in folders are decoded when asked for; a clone is cheap.
#[derive(Debug, Clone)]
pub struct ImageDataset {
    store: Arc<Store>,
    classes: Arc<Vec<String>>,
    spec: ImageSpec,
    kind: DatasetKind,
}

#[derive(Debug)]
enum Store {
    Idx(IdxImages),
    Entries { entries: Vec<Entry>, sheets: Sheets },
}

impl ImageDataset {
    /// Opens whatever dataset `path` holds:
    /// - MNIST-style IDX files, `train-images-idx3-ubyte` and its siblings (`test-` or `t10k-`),
    ///   plain or `.gz`;
    /// - a `metadata.jsonl` whose lines name a picture (`file_name`) or a cell of a sheet
    ///   (`sheet`, `sheet_x`, `sheet_y`), and may have `text`, `label` and `split`;
    /// - one folder of pictures a class, which may lie below `train` and `test` (or `val`).
    ///
    /// Where a folder says nothing of splits, one picture in ten is held out by a hash of its name.
    ///
    /// # Errors
    /// If it holds none, or one that can't be used, or `spec` is no geometry of pictures.
    pub fn open(path: &Path, spec: ImageSpec, split: Split) -> Result<Self, DataError> {
        spec.validate(path)?;
        let kind = kind_of(path)?;
        let (store, classes) = match kind {
            DatasetKind::Idx => open_idx(path, split)?,
            DatasetKind::Metadata => open_entries(folder::list_metadata(path)?, split)?,
            DatasetKind::ClassFolders => open_entries(folder::list_classes(path)?, split)?,
        };
        let dataset = Self {
            store: Arc::new(store),
            classes: Arc::new(classes),
            spec,
            kind,
        };
        if dataset.is_empty() {
            return Err(DataError::EmptySplit {
                path: path.to_owned(),
                split: split.name(),
            });
        }
        Ok(dataset)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        match &*self.store {
            Store::Idx(idx) => idx.labels.len(),
            Store::Entries { entries, .. } => entries.len(),
        }
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes, by number.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Geometry of the samples.
    pub fn spec(&self) -> ImageSpec {
        self.spec
    }

    /// How the dataset is stored.
    pub fn kind(&self) -> DatasetKind {
        self.kind
    }

    /// The sample's class, without decoding its picture.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn label(&self, index: usize) -> u32 {
        match &*self.store {
            Store::Idx(idx) => u32::from(idx.labels[index]),
            Store::Entries { entries, .. } => entries[index].label,
        }
    }

    /// The sample's caption, without decoding its picture.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn caption(&self, index: usize) -> Option<&str> {
        match &*self.store {
            Store::Idx(_) => None,
            Store::Entries { entries, .. } => entries[index].text.as_deref(),
        }
    }

    /// The sample.
    ///
    /// # Errors
    /// If its picture can't be decoded.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn get(&self, index: usize) -> Result<ImageSample, DataError> {
        let (pixels, text) = match &*self.store {
            Store::Idx(idx) => {
                let pixels = pad_grey(idx.picture(index), idx.rows, idx.columns, self.spec);
                (pixels, None)
            }
            Store::Entries { entries, sheets } => {
                let entry = &entries[index];
                let picture = sheets.picture(&entry.source)?;
                (fit(&picture, self.spec), entry.text.clone())
            }
        };
        Ok(ImageSample {
            pixels,
            label: self.label(index),
            text,
        })
    }

    /// A hash of what the dataset holds: contents where they are in memory, otherwise names, sizes
    /// and labels. It goes into checkpoints and caches: a change of it makes caches anew.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(format!("{:?}{:?}", self.spec, self.classes));
        match &*self.store {
            Store::Idx(idx) => {
                hash.update(&idx.pixels);
                hash.update(&idx.labels);
            }
            Store::Entries { entries, sheets } => {
                for entry in entries {
                    let size = match &entry.source {
                        Source::File(path) => std::fs::metadata(path).map_or(0, |m| m.len()),
                        Source::Cell { .. } => 0,
                    };
                    // Debug quotes the strings: no two lists of entries read alike.
                    let (name, text) = (&entry.name, &entry.text);
                    hash.update(format!("{name:?} {size} {} {text:?}\n", entry.label));
                }
                for sheet in sheets.iter() {
                    hash.update(sheet.as_bytes());
                }
            }
        }
        hex(hash)
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// The hash of some texts, one after the other.
pub(crate) fn hex_digest(texts: impl Iterator<Item = String>) -> String {
    let mut hash = Sha256::new();
    texts.for_each(|text| hash.update(text));
    hex(hash)
}

/// What kind of dataset a folder holds.
pub(crate) fn kind_of(path: &Path) -> Result<DatasetKind, DataError> {
    std::fs::read_dir(path).map_err(io_error("open the dataset", path))?;
    if Split::ALL
        .iter()
        .any(|&split| idx::find(path, split).is_some())
    {
        return Ok(DatasetKind::Idx);
    }
    if path.join("metadata.jsonl").is_file() {
        return Ok(DatasetKind::Metadata);
    }
    if folder::has_classes(path)? {
        return Ok(DatasetKind::ClassFolders);
    }
    Err(DataError::Unknown {
        path: path.to_owned(),
    })
}

fn open_idx(path: &Path, split: Split) -> Result<(Store, Vec<String>), DataError> {
    let Some((images, labels)) = idx::find(path, split) else {
        return Err(DataError::EmptySplit {
            path: path.to_owned(),
            split: split.name(),
        });
    };
    let set = idx::read(&images, &labels)?;
    // Over both splits, or a number would mean a class in one that the other lacks.
    let mut highest = 9;
    for (_, labels) in Split::ALL
        .iter()
        .filter_map(|&split| idx::find(path, split))
    {
        highest = idx::read_labels(&labels)?
            .into_iter()
            .fold(highest, u8::max);
    }
    let classes = (0..=highest).map(|class| class.to_string()).collect();
    Ok((Store::Idx(set), classes))
}

fn open_entries(listing: Listing, split: Split) -> Result<(Store, Vec<String>), DataError> {
    let Listing {
        mut entries,
        classes,
        faults,
    } = listing;
    entries.retain(|entry| entry.split == split);
    let (sheets, sheet_faults) = Sheets::load(&entries);
    if let Some(fault) = faults.into_iter().chain(sheet_faults).next() {
        return Err(fault);
    }
    Ok((Store::Entries { entries, sheets }, classes))
}
