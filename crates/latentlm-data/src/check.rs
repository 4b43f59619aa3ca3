//! `data check` for pictures and clips: reads a whole dataset and reports its content and its problems.

use std::fmt;
use std::path::{Path, PathBuf};

#[cfg(feature = "clips")]
use latentlm_media::clip::ClipSpec;

#[cfg(feature = "clips")]
use crate::clips::{TOO_SHORT, survey};
use crate::dataset::{DatasetKind, Layout, empty_split};
use crate::error::DataError;
use crate::folder::{Listing, Source};
use crate::idx;
#[cfg(feature = "clips")]
use crate::kind::CLIPS;
use crate::kind::PICTURES;
use crate::metadata::{names_pictures, unnamed};
use crate::options::ReadOptions;
use crate::sheet::Sheets;
use crate::split::Split;
use crate::verify::verify;
use crate::walk::{LeftOut, WalkOptions, on_one_line, walk, write_left_out};

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

/// Number of usable samples of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassCount {
    /// The class.
    pub name: String,
    /// Number of training samples.
    pub train: usize,
    /// Number of held-out samples.
    pub test: usize,
}

/// The result of [`check`]. Its `Display` is what `data check` prints; `{:#}` names all files that are left out.
#[derive(Debug, Clone)]
pub struct CheckReport {
    /// The folder.
    pub path: PathBuf,
    /// How the dataset is stored.
    pub kind: DatasetKind,
    /// What its samples are: `pictures` or `clips`.
    pub samples: &'static str,
    /// Number of clips that are cut into the samples; `None` for pictures.
    pub clips: Option<usize>,
    /// Number of usable samples of each class, indexed by class number.
    pub classes: Vec<ClassCount>,
    /// Smallest and largest `(width, height)` in pixels before resizing; minimum and maximum are taken
    /// of each side separately. `None` if nothing could be read.
    pub sizes: Option<[(u32, u32); 2]>,
    /// Number of captions.
    pub texts: usize,
    /// All problems found.
    pub problems: Vec<Problem>,
    /// Files that are not samples, with the reason: other kinds of files, pictures in unexpected
    /// places, links to files that are read already, pipes. These are not problems.
    pub left_out: Vec<LeftOut>,
}

/// Whether a folder has a `metadata.jsonl` or `metadata.csv` that names pictures. Speech datasets have
/// tables of these names too.
pub fn is_pictures(path: &Path) -> bool {
    names_pictures(path)
}

/// Checks a dataset with default options: decodes every picture.
///
/// # Errors
/// If the folder can't be read or holds no dataset of a known kind. Problems inside a dataset are part
/// of the report.
pub fn check(path: &Path) -> Result<CheckReport, DataError> {
    check_with(path, &ReadOptions::default())
}

/// Checks a dataset: decodes every picture.
///
/// # Errors
/// As [`check`].
pub fn check_with(path: &Path, options: &ReadOptions) -> Result<CheckReport, DataError> {
    let layout = Layout::of(path, &PICTURES)?;
    let in_idx = matches!(layout, Layout::Idx);
    let (mut report, listing) = CheckReport::begin(path, layout, options)?;
    if in_idx {
        report.read_idx(options)?;
    } else {
        report.read_listing(listing, options)?;
    }
    report.note_empty_splits();
    Ok(report)
}

/// Checks a dataset of clips: decodes every frame. The samples are the windows that training would see.
///
/// # Errors
/// If the folder can't be read or holds no clips, has more frames than `options` allow, or `spec` can't be. Problems
/// inside a dataset are part of the report.
#[cfg(feature = "clips")]
pub fn check_clips(
    path: &Path,
    spec: ClipSpec,
    options: &ReadOptions,
) -> Result<CheckReport, DataError> {
    spec.validate(path)?;
    let layout = Layout::of(path, &CLIPS)?;
    let (mut report, listing) = CheckReport::begin(path, layout, options)?;
    report.read_clips(listing, spec, options)?;
    report.note_empty_splits();
    Ok(report)
}

impl CheckReport {
    /// A report with nothing read, and what there is to read.
    fn begin(
        path: &Path,
        layout: Layout,
        options: &ReadOptions,
    ) -> Result<(Self, Listing), DataError> {
        let kind = layout.kind();
        let tables = match &layout {
            Layout::Metadata(tables) => tables.clone(),
            _ => Vec::new(),
        };
        let mut listing = layout.list(path, options)?;
        let left_out = match tables.as_slice() {
            [] => std::mem::take(&mut listing.left_out),
            tables => unnamed(path, tables, &listing.entries)?,
        };
        let report = Self {
            path: path.to_owned(),
            kind,
            samples: listing.kind.samples,
            clips: None,
            classes: Vec::new(),
            sizes: None,
            texts: 0,
            problems: Vec::new(),
            left_out,
        };
        Ok((report, listing))
    }

    /// If all samples of a split are damaged, each of them was reported already.
    fn note_empty_splits(&mut self) {
        for split in Split::ALL {
            if self.problems.is_empty() && self.total(split) == 0 {
                self.note(empty_split(&self.path, split));
            }
        }
    }

    /// Number of usable samples of a split.
    pub fn total(&self, split: Split) -> usize {
        let counts = self.classes.iter().map(|class| match split {
            Split::Train => class.train,
            Split::Test => class.test,
        });
        counts.sum()
    }

    fn read_idx(&mut self, options: &ReadOptions) -> Result<(), DataError> {
        let mut walked = walk(&self.path, WalkOptions::default())?;
        // At least ten classes, as in `ImageDataset::open`.
        self.name_classes((0..10).map(|class| class.to_string()));
        let mut left = options.max_idx_bytes();
        for split in Split::ALL {
            let Some((images, labels)) = idx::find(&self.path, split) else {
                continue;
            };
            walked
                .files
                .retain(|path| *path != images && *path != labels);
            match idx::read(&images, &labels, left) {
                Ok(set) => {
                    left = left.saturating_sub(set.bytes());
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
        self.left_out = walked.left_out;
        for path in walked.files {
            self.left_out
                .push(PICTURES.unused(path, "a picture beside IDX files"));
        }
        Ok(())
    }

    fn read_listing(
        &mut self,
        mut listing: Listing,
        options: &ReadOptions,
    ) -> Result<(), DataError> {
        let (sheets, sheet_faults) = Sheets::load(&listing.entries, options);
        self.note_faults(&mut listing, sheet_faults);
        // A sheet that can't be read is one fault, not one for each of its cells.
        listing.entries.retain(|entry| match &entry.source {
            Source::Cell { sheet, .. } => sheets.has(sheet),
            Source::File(_) => true,
        });
        let checked = verify(&listing.entries, &sheets, options)?;
        let mut sizes = Vec::new();
        let mut checked = checked.into_iter();
        listing.entries.retain(|_| match checked.next() {
            Some(Ok(size)) => {
                sizes.push(size);
                true
            }
            Some(Err(error)) => {
                self.note(error);
                false
            }
            None => false,
        });
        listing.fill_splits();
        for (entry, (width, height)) in listing.entries.into_iter().zip(sizes) {
            self.measure(width, height);
            self.count(entry.label as usize, entry.split);
            self.texts += usize::from(entry.text.is_some());
        }
        Ok(())
    }

    #[cfg(feature = "clips")]
    fn read_clips(
        &mut self,
        mut listing: Listing,
        spec: ClipSpec,
        options: &ReadOptions,
    ) -> Result<(), DataError> {
        self.note_faults(&mut listing, Vec::new());
        let surveyed = survey(&self.path, &listing.entries, spec, options)?;
        let mut surveyed = surveyed.into_iter();
        let mut usable = Vec::new();
        listing.entries.retain(|entry| match surveyed.next() {
            Some(Ok(found)) if found.windows(spec) > 0 => {
                usable.push(found);
                true
            }
            Some(Ok(_)) => {
                self.left_out.push(LeftOut::unused(entry.path(), TOO_SHORT));
                false
            }
            Some(Err(error)) => {
                self.note(error);
                false
            }
            None => false,
        });
        self.clips = Some(usable.len());
        listing.fill_splits();
        for (entry, found) in listing.entries.into_iter().zip(usable) {
            self.measure(found.width, found.height);
            for _ in 0..found.windows(spec) {
                self.count(entry.label as usize, entry.split);
                self.texts += usize::from(entry.text.is_some());
            }
        }
        Ok(())
    }

    /// Notes what is wrong with the listing itself, and names the classes.
    fn note_faults(&mut self, listing: &mut Listing, sheet_faults: Vec<DataError>) {
        let broken = listing.broken.drain(..).map(|broken| broken.error);
        for fault in listing.faults.drain(..).chain(broken).chain(sheet_faults) {
            self.note(fault);
        }
        self.name_classes(std::mem::take(&mut listing.classes));
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
        let samples = self.samples;
        let kind = match self.kind {
            DatasetKind::Idx => "MNIST-style IDX files".to_owned(),
            DatasetKind::Metadata => format!("metadata.jsonl with {samples}"),
            DatasetKind::MetadataCsv => format!("metadata.csv with {samples}"),
            DatasetKind::ClassFolders => format!("one folder of {samples} a class"),
            DatasetKind::Loose => format!("{samples} without classes"),
        };
        writeln!(f, "{}: {kind}", self.path.display())?;
        if let Some([small, large]) = self.sizes {
            let (small, large) = (
                format!("{}x{}", small.0, small.1),
                format!("{}x{}", large.0, large.1),
            );
            if small == large {
                writeln!(f, "{samples} of {small} pixels")?;
            } else {
                writeln!(f, "{samples} of {small} to {large} pixels")?;
            }
        }
        if let Some(clips) = self.clips {
            writeln!(f, "{clips} clips, cut into windows")?;
        }
        let (train, test) = (self.total(Split::Train), self.total(Split::Test));
        let (classes, texts) = (self.classes.len(), self.texts);
        writeln!(
            f,
            "{train} to train on, {test} held out, {classes} classes, {texts} captions"
        )?;
        let names = self.classes.iter().map(|class| on_one_line(&class.name));
        let names: Vec<String> = names.collect();
        let widths = names.iter().map(|name| name.chars().count());
        let width = widths.max().unwrap_or(0);
        for (class, name) in self.classes.iter().zip(&names) {
            let ClassCount { train, test, .. } = class;
            writeln!(f, "  {name:width$}  {train:>6} + {test}")?;
        }
        write_end(f, &self.left_out, &self.problems)
    }
}

/// Writes the end of a report: what was left out, by `{:#}` with all names, and all problems.
pub(crate) fn write_end(
    f: &mut fmt::Formatter<'_>,
    left_out: &[LeftOut],
    problems: &[Problem],
) -> fmt::Result {
    let all = f.alternate();
    write_left_out(f, left_out, all)?;
    match problems.len() {
        0 => return write!(f, "no problems found"),
        1 => write!(f, "1 problem:")?,
        count => write!(f, "{count} problems:")?,
    }
    for problem in problems {
        write!(f, "\n  {}", on_one_line(&problem.what))?;
    }
    Ok(())
}
