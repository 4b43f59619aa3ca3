//! What a dataset folder holds, and what is wrong in it.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::dataset::{self, DatasetKind, Split};
use crate::error::DataError;
use crate::folder::{self, Listing, Source};
use crate::idx;
use crate::sheet::Sheets;

/// Something wrong in a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong and where, in one line.
    pub what: String,
}

impl From<DataError> for Problem {
    fn from(error: DataError) -> Self {
        Self {
            path: error.path().to_owned(),
            what: error.to_string(),
        }
    }
}

/// Whole samples of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassCount {
    /// The class.
    pub name: String,
    /// Samples to train on.
    pub train: usize,
    /// Samples held out.
    pub test: usize,
}

/// The result of [`check`]. Its `Display` is what `data check` prints.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// The folder.
    pub path: PathBuf,
    /// How the dataset is stored.
    pub kind: DatasetKind,
    /// Whole samples of each class, by the class's number.
    pub classes: Vec<ClassCount>,
    /// Smallest and largest `(width, height)` before samples are brought to one geometry; each side
    /// is taken by itself. `None` if nothing could be read.
    pub sizes: Option<[(u32, u32); 2]>,
    /// Captions.
    pub texts: usize,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

/// Reads a whole dataset, every picture of it.
///
/// # Errors
/// If the folder can't be read or holds no dataset of a known kind; what is wrong inside one is
/// part of the report.
pub fn check(path: &Path) -> Result<CheckReport, DataError> {
    let mut report = CheckReport {
        path: path.to_owned(),
        kind: dataset::kind_of(path)?,
        classes: Vec::new(),
        sizes: None,
        texts: 0,
        problems: Vec::new(),
    };
    match report.kind {
        DatasetKind::Idx => report.read_idx(),
        DatasetKind::Metadata => report.read_listing(folder::list_metadata(path)?),
        DatasetKind::ClassFolders => report.read_listing(folder::list_classes(path)?),
    }
    // A split whose samples are all damaged was reported sample by sample.
    for split in Split::ALL {
        if report.problems.is_empty() && report.total(split) == 0 {
            let path = path.to_owned();
            let split = split.name();
            report.note(DataError::EmptySplit { path, split });
        }
    }
    Ok(report)
}

impl CheckReport {
    /// Whole samples of a split.
    pub fn total(&self, split: Split) -> usize {
        let counts = self.classes.iter().map(|class| match split {
            Split::Train => class.train,
            Split::Test => class.test,
        });
        counts.sum()
    }

    fn read_idx(&mut self) {
        // Ten at least, as a dataset is opened.
        self.name_classes((0..10).map(|class| class.to_string()));
        for split in Split::ALL {
            let Some((images, labels)) = idx::find(&self.path, split) else {
                continue;
            };
            match idx::read(&images, &labels) {
                Ok(set) => {
                    let highest = set.labels.iter().copied().max().map_or(0, usize::from);
                    let known = self.classes.len();
                    self.name_classes((known..=highest).map(|class| class.to_string()));
                    if !set.labels.is_empty() {
                        self.measure(set.columns as u32, set.rows as u32);
                    }
                    for label in set.labels {
                        self.count(usize::from(label), split);
                    }
                }
                Err(error) => self.note(error),
            }
        }
    }

    fn read_listing(&mut self, listing: Listing) {
        let (sheets, sheet_faults) = Sheets::load(&listing.entries);
        for fault in listing.faults.into_iter().chain(sheet_faults) {
            self.note(fault);
        }
        self.name_classes(listing.classes);
        for entry in listing.entries {
            // One fault stands for all cells of a sheet that can't be read.
            if let Source::Cell { sheet, .. } = &entry.source
                && !sheets.has(sheet)
            {
                continue;
            }
            match sheets.picture(&entry.source) {
                Ok(picture) => {
                    self.measure(picture.width(), picture.height());
                    self.count(entry.label as usize, entry.split);
                    self.texts += usize::from(entry.text.is_some());
                }
                Err(error) => self.note(error),
            }
        }
    }

    fn name_classes(&mut self, names: impl IntoIterator<Item = String>) {
        self.classes
            .extend(names.into_iter().map(|name| ClassCount {
                name,
                train: 0,
                test: 0,
            }));
    }

    fn count(&mut self, label: usize, split: Split) {
        let Some(class) = self.classes.get_mut(label) else {
            return;
        };
        match split {
            Split::Train => class.train += 1,
            Split::Test => class.test += 1,
        }
    }

    fn measure(&mut self, width: u32, height: u32) {
        let [small, large] = self.sizes.get_or_insert([(width, height); 2]);
        *small = (small.0.min(width), small.1.min(height));
        *large = (large.0.max(width), large.1.max(height));
    }

    fn note(&mut self, error: DataError) {
        self.problems.push(error.into());
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            DatasetKind::Idx => "MNIST-style IDX files",
            DatasetKind::Metadata => "metadata.jsonl with pictures",
            DatasetKind::ClassFolders => "one folder of pictures a class",
        };
        writeln!(f, "{}: {kind}", self.path.display())?;
        if let Some([small, large]) = self.sizes {
            let (small, large) = (
                format!("{}x{}", small.0, small.1),
                format!("{}x{}", large.0, large.1),
            );
            match small == large {
                true => writeln!(f, "pictures of {small} pixels")?,
                false => writeln!(f, "pictures of {small} to {large} pixels")?,
            }
        }
        let (train, test) = (self.total(Split::Train), self.total(Split::Test));
        let (classes, texts) = (self.classes.len(), self.texts);
        writeln!(
            f,
            "{train} to train on, {test} held out, {classes} classes, {texts} captions"
        )?;
        let width = self
            .classes
            .iter()
            .map(|class| class.name.chars().count())
            .max();
        let width = width.unwrap_or(0);
        for class in &self.classes {
            let ClassCount { name, train, test } = class;
            writeln!(f, "  {name:width$}  {train:>6} + {test}")?;
        }
        match self.problems.as_slice() {
            [] => return write!(f, "no problems found"),
            [_] => write!(f, "1 problem:")?,
            problems => write!(f, "{} problems:", problems.len())?,
        }
        for problem in &self.problems {
            write!(f, "\n  {}", problem.what)?;
        }
        Ok(())
    }
}
