//! [`ImageDataset`]: one type for all layouts of image datasets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use latentlm_media::{IdxImages, ImageSpec, fit, pad_grey};
use sha2::{Digest, Sha256};

use crate::error::DataError;
use crate::folder::{Broken, Entry, Listing, Source, Tree, list_classes, list_loose};
use crate::hex::hex;
use crate::idx;
use crate::kind::{Kind, PICTURES};
use crate::left_out::LeftOutList;
use crate::metadata::{Table, list_metadata, tables};
use crate::options::ReadOptions;
use crate::replace::get_or_draw;
use crate::sample::{Content, Sample};
use crate::sheet::Sheets;
use crate::split::Split;
use crate::verify::verify;
use crate::walk::{LeftOut, check_folder};

/// Number of samples that are decoded before those that can't be are counted.
const VERIFIED_AT_ONCE: usize = 1 << 16;

/// How a dataset is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatasetKind {
    /// MNIST-style IDX files.
    Idx,
    /// `metadata.jsonl` beside picture files or a sheet.
    Metadata,
    /// `metadata.csv` beside picture files or a sheet.
    MetadataCsv,
    /// One folder of pictures per class.
    ClassFolders,
    /// Pictures in one folder, without classes.
    Loose,
}

/// A decoded picture with its class and caption.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSample {
    /// Pixel values 0 to 255, `[C, H, W]`, row-major.
    pub pixels: Vec<u8>,
    /// Class number.
    pub label: u32,
    /// Caption, if the dataset has one.
    pub text: Option<String>,
}

/// An open split of an image dataset. Picture files are decoded on access; cloning is cheap.
#[derive(Debug, Clone)]
pub struct ImageDataset {
    store: Arc<Store>,
    classes: Arc<Vec<String>>,
    spec: ImageSpec,
    kind: DatasetKind,
    options: ReadOptions,
    left_out: LeftOutList,
}

#[derive(Debug)]
enum Store {
    Idx(IdxImages),
    Entries {
        entries: Vec<Entry>,
        sheets: Arc<Sheets>,
    },
}

impl ImageDataset {
    /// Opens one split of the dataset in `path`. The layout is found out:
    /// - MNIST-style IDX files, `train-images-idx3-ubyte` and its siblings (`test-` or `t10k-`),
    ///   plain or `.gz`, or with a dot: `train-images.idx3-ubyte`;
    /// - a `metadata.jsonl` or `metadata.csv` whose records name a picture (`file_name`) or a cell of
    ///   a sheet (`sheet`, `sheet_x`, `sheet_y`), and may have `text`, `label` and `split`; it may
    ///   lie in folders `train` and `test` (or `val`, `valid`, `validation`, `dev`, `eval`);
    /// - one folder of pictures per class, possibly below such folders;
    /// - loose pictures, all of one class.
    ///
    /// If the dataset does not define splits, one picture in ten is held out, by a hash of its name, and
    /// at least one.
    ///
    /// # Errors
    /// If `path` holds no dataset or an unusable one, or `spec` is not a valid picture size.
    pub fn open(path: &Path, spec: ImageSpec, split: Split) -> Result<Self, DataError> {
        let [train, test] = Self::open_both(path, spec, ReadOptions::default())?;
        let dataset = match split {
            Split::Train => train,
            Split::Test => test,
        };
        dataset.filled(path, split)
    }

    /// Opens the training and the held-out split of a dataset; either may be empty.
    ///
    /// Decodes every picture once, on all threads. Pictures that can't be decoded are left out and
    /// listed in [`left_out`](Self::left_out).
    ///
    /// # Errors
    /// If `path` holds no dataset or an unusable one, more samples are broken than `options` allow, or
    /// `spec` is not a valid picture size.
    pub fn open_both(
        path: &Path,
        spec: ImageSpec,
        options: ReadOptions,
    ) -> Result<[Self; 2], DataError> {
        spec.validate(path)?;
        let layout = Layout::of(path, &PICTURES)?;
        let kind = layout.kind();
        let (stores, classes, broken) = match layout {
            Layout::Idx => {
                let (stores, classes) = open_idx(path, &options)?;
                (stores, classes, Vec::new())
            }
            layout => open_entries(path, layout.list(path, &options)?, &options)?,
        };
        let classes = Arc::new(classes);
        let left_out = LeftOutList::new(broken.iter().map(Broken::left_out).collect());
        Ok(stores.map(|store| Self {
            store: Arc::new(store),
            classes: Arc::clone(&classes),
            spec,
            kind,
            options,
            left_out: left_out.clone(),
        }))
    }

    /// Returns the dataset itself if it has samples. `path` and `split` are for the error message.
    ///
    /// # Errors
    /// If it is empty.
    pub fn filled(self, path: &Path, split: Split) -> Result<Self, DataError> {
        if self.is_empty() {
            Err(empty_split(path, split))
        } else {
            Ok(self)
        }
    }

    /// Samples left out of both splits, with reasons: those that were unusable when the dataset was
    /// opened, and those that [`get`](Self::get) could not read since.
    pub fn left_out(&self) -> Vec<LeftOut> {
        self.left_out.all()
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

    /// Class names, indexed by class number.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Size and channels of the samples.
    pub fn spec(&self) -> ImageSpec {
        self.spec
    }

    /// How the dataset is stored.
    pub fn kind(&self) -> DatasetKind {
        self.kind
    }

    /// The sample's class number. Does not decode the picture.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn label(&self, index: usize) -> u32 {
        match &*self.store {
            Store::Idx(idx) => u32::from(idx.labels[index]),
            Store::Entries { entries, .. } => entries[index].label,
        }
    }

    /// The sample's caption. Does not decode the picture.
    ///
    /// # Panics
    /// If `index` is out of range.
    pub fn caption(&self, index: usize) -> Option<&str> {
        match &*self.store {
            Store::Idx(_) => None,
            Store::Entries { entries, .. } => entries[index].text.as_deref(),
        }
    }

    /// Decodes a sample.
    ///
    /// # Errors
    /// If the picture can't be decoded. It is then added to [`left_out`](Self::left_out).
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
                match sheets.picture(&entry.source, &self.options) {
                    Ok(picture) => (fit(picture, self.spec), entry.text.clone()),
                    Err(error) => {
                        self.left_out.add(entry.path(), &error);
                        return Err(error);
                    }
                }
            }
        };
        Ok(ImageSample {
            pixels,
            label: self.label(index),
            text,
        })
    }

    /// Decodes a sample, or a random replacement if it can't be read. `draw(n)` returns a random number
    /// below `n`. Replacements come from the same class first. Unreadable samples are added to
    /// [`left_out`](Self::left_out).
    ///
    /// # Errors
    /// If none of the drawn samples can be read.
    ///
    /// # Panics
    /// If `index` or a drawn number is out of range.
    pub fn get_or_draw(
        &self,
        index: usize,
        draw: impl FnMut(usize) -> usize,
    ) -> Result<ImageSample, DataError> {
        let count = self.len();
        get_or_draw(count, index, |at| self.label(at), |at| self.get(at), draw)
    }

    /// A hash of the dataset: of contents that are in memory, otherwise of names, file sizes and labels.
    /// Checkpoints and latent caches store it; caches are rebuilt when it changes.
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
                    // Debug output quotes strings, so different lists have different texts.
                    let (name, text) = (&entry.name, &entry.text);
                    hash.update(format!("{name:?} {size} {} {text:?}\n", entry.label));
                }
                for sheet in sheets.used_by(entries) {
                    hash.update(sheet.as_bytes());
                }
            }
        }
        hex(hash)
    }

    /// The samples of this split with where their bytes are: what a run is compared with when it goes on.
    pub fn samples(&self) -> Vec<Sample> {
        match &*self.store {
            Store::Idx(idx) => [("pictures", &idx.pixels), ("labels", &idx.labels)]
                .into_iter()
                .map(|(name, bytes)| Sample {
                    name: name.into(),
                    about: String::new(),
                    content: Content::Hash(hex(Sha256::new().chain_update(bytes))),
                })
                .collect(),
            Store::Entries { entries, sheets } => {
                let mut samples = Vec::with_capacity(entries.len());
                for entry in entries {
                    let class = self.classes.get(entry.label as usize);
                    samples.push(Sample {
                        name: entry.name.clone(),
                        about: format!("{class:?} {:?}", entry.text),
                        content: match &entry.source {
                            Source::File(path) => Content::File(path.clone()),
                            Source::Cell { column, row, .. } => {
                                Content::Hash(format!("{column},{row}"))
                            }
                        },
                    });
                }
                for (number, sheet) in sheets.used_by(entries).into_iter().enumerate() {
                    samples.push(Sample {
                        name: format!("sheet {number}"),
                        about: String::new(),
                        content: Content::Hash(hex(Sha256::new().chain_update(sheet.as_bytes()))),
                    });
                }
                samples
            }
        }
    }
}

/// The layout of a dataset, with the files found while detecting it.
#[derive(Debug)]
pub(crate) enum Layout {
    Idx,
    Metadata(Vec<Table>),
    ClassFolders(Tree),
    Loose(Tree),
}

impl Layout {
    pub(crate) fn of(path: &Path, kind: &'static Kind) -> Result<Self, DataError> {
        check_folder(path)?;
        let idx = |&split| idx::find(path, split).is_some();
        if *kind == PICTURES && Split::ALL.iter().any(idx) {
            return Ok(Self::Idx);
        }
        let tables = tables(path, kind)?;
        if !tables.is_empty() {
            return Ok(Self::Metadata(tables));
        }
        let tree = Tree::of(path, kind)?;
        if tree.has_folders() && tree.has_samples_anywhere() {
            return Ok(Self::ClassFolders(tree));
        }
        if tree.has_samples() {
            return Ok(Self::Loose(tree));
        }
        Err(tree.without_samples())
    }

    pub(crate) fn kind(&self) -> DatasetKind {
        match self {
            Self::Idx => DatasetKind::Idx,
            Self::Metadata(tables) if tables.iter().any(Table::is_csv) => DatasetKind::MetadataCsv,
            Self::Metadata(_) => DatasetKind::Metadata,
            Self::ClassFolders(_) => DatasetKind::ClassFolders,
            Self::Loose(_) => DatasetKind::Loose,
        }
    }

    /// Lists all samples. Empty for IDX files, which are read whole.
    pub(crate) fn list(self, path: &Path, options: &ReadOptions) -> Result<Listing, DataError> {
        match self {
            Self::Idx => Ok(Listing::default()),
            Self::Metadata(tables) => list_metadata(path, &tables, options),
            Self::ClassFolders(tree) => Ok(list_classes(tree)),
            Self::Loose(tree) => Ok(list_loose(tree)),
        }
    }
}

pub(crate) fn empty_split(path: &Path, split: Split) -> DataError {
    DataError::EmptySplit {
        path: path.to_owned(),
        split: split.name(),
    }
}

type Opened = ([Store; 2], Vec<String>, Vec<Broken>);

fn open_idx(path: &Path, options: &ReadOptions) -> Result<([Store; 2], Vec<String>), DataError> {
    let open = |split, limit| match idx::find(path, split) {
        Some((images, labels)) => idx::read(&images, &labels, limit),
        None => Ok(IdxImages::default()),
    };
    let train = open(Split::Train, options.max_idx_bytes())?;
    let left = options.max_idx_bytes().saturating_sub(train.bytes());
    let test = open(Split::Test, left)?;
    // Classes are counted over both splits: both must have the same classes.
    let labels = train.labels.iter().chain(&test.labels).copied();
    let highest = labels.fold(9, u8::max);
    let classes = (0..=highest).map(|class| class.to_string()).collect();
    Ok(([Store::Idx(train), Store::Idx(test)], classes))
}

fn open_entries(
    path: &Path,
    mut listing: Listing,
    options: &ReadOptions,
) -> Result<Opened, DataError> {
    let (sheets, sheet_faults) = Sheets::load(&listing.entries, options);
    if let Some(fault) = listing.faults.into_iter().chain(sheet_faults).next() {
        return Err(fault);
    }
    listing.faults = Vec::new();
    let total = listing.entries.len() + listing.broken.len();
    let allow = |broken: &[Broken]| {
        let first = broken.first().map(|broken| &broken.error);
        options.allow(path, broken.len(), total, first)
    };
    let at_once = VERIFIED_AT_ONCE.min(options.most_broken());
    let mut entries = std::mem::take(&mut listing.entries).into_iter();
    loop {
        let part: Vec<Entry> = entries.by_ref().take(at_once).collect();
        if part.is_empty() {
            break;
        }
        let checked = verify(&part, &sheets, options)?;
        for (entry, size) in part.into_iter().zip(checked) {
            match size {
                Ok(_) => listing.entries.push(entry),
                Err(error) => listing.broken.push(Broken {
                    name: PathBuf::from(entry.path()),
                    error,
                }),
            }
        }
        // More errors would take too much memory, and are not needed to refuse the dataset.
        if listing.broken.len() >= options.most_broken() {
            allow(&listing.broken)?;
        }
    }
    allow(&listing.broken)?;
    listing.fill_splits();
    let sheets = Arc::new(sheets);
    let (train, test): (Vec<Entry>, Vec<Entry>) = listing
        .entries
        .into_iter()
        .partition(|entry| entry.split == Split::Train);
    let stores = [train, test].map(|entries| Store::Entries {
        entries,
        sheets: Arc::clone(&sheets),
    });
    Ok((stores, listing.classes, listing.broken))
}
