//! Sheets: one large picture that holds many small ones in a grid of cells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use image::DynamicImage;
use latentlm_media::{decode, decode_whole};

use crate::allowed::allows_more;
use crate::error::DataError;
use crate::folder::{Entry, Source};
use crate::options::ReadOptions;

/// Side of a cell in pixels.
pub(crate) const CELL: u32 = 32;
/// Distance from cell to cell in pixels: the cell and a transparent border of one pixel on each side.
const PITCH: u32 = CELL + 2;

/// Largest memory of the sheets of a dataset, which all stay in memory, in units of the largest picture.
const MOST_SHEETS: u64 = 2;

/// Decoded sheets by path. Sorted, so that a hash over them is the same in every run.
#[derive(Debug, Default)]
pub(crate) struct Sheets(BTreeMap<PathBuf, DynamicImage>);

impl Sheets {
    /// Decodes each sheet that the entries name, once. Returns the sheets, and the errors of those that
    /// can't be read.
    pub(crate) fn load(entries: &[Entry], options: &ReadOptions) -> (Self, Vec<DataError>) {
        let most = options.max_picture_bytes().saturating_mul(MOST_SHEETS);
        let cells = entries.iter().filter_map(|entry| match &entry.source {
            Source::Cell { sheet, .. } => Some(sheet),
            Source::File(_) => None,
        });
        let paths: BTreeSet<&PathBuf> = cells.collect();
        let (mut good, mut faults, mut taken) = (BTreeMap::new(), Vec::new(), 0_u64);
        for path in paths {
            match decode_whole(path, options.max_picture_bytes()) {
                Ok(sheet) => {
                    taken = taken.saturating_add(sheet.as_bytes().len() as u64);
                    good.insert(path.clone(), sheet);
                }
                Err(fault) => faults.push(fault.into()),
            }
            if taken > most {
                let reason = format!(
                    "with the sheets before it takes more than {} MB, twice the most that a picture may; {}",
                    most / ReadOptions::MEGABYTE,
                    allows_more("data.max_picture_mb")
                );
                faults.push(DataError::malformed(path, reason));
                break;
            }
        }
        (Self(good), faults)
    }

    /// Whether the sheet was read.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// The sheets that the entries use, in the order of their paths.
    pub(crate) fn used_by(&self, entries: &[Entry]) -> Vec<&DynamicImage> {
        let used: BTreeSet<&Path> = entries.iter().map(Entry::path).collect();
        used.into_iter()
            .filter_map(|path| self.0.get(path))
            .collect()
    }

    /// The picture of an entry: cut from its sheet, or decoded from its file.
    pub(crate) fn picture(
        &self,
        source: &Source,
        options: &ReadOptions,
    ) -> Result<DynamicImage, DataError> {
        match source {
            Source::File(path) => Ok(decode(path, options.max_picture_bytes())?),
            Source::Cell { sheet, column, row } => self.cell(sheet, *column, *row),
        }
    }

    fn cell(&self, path: &Path, column: u32, row: u32) -> Result<DynamicImage, DataError> {
        let outside = || DataError::malformed(path, format!("has no cell {column}, {row}"));
        let sheet = self.0.get(path).ok_or_else(outside)?;
        let start = |index: u32, size: u32| {
            let start = index.checked_mul(PITCH)?.checked_add(1)?;
            (start.checked_add(CELL)? <= size).then_some(start)
        };
        let x = start(column, sheet.width()).ok_or_else(outside)?;
        let y = start(row, sheet.height()).ok_or_else(outside)?;
        Ok(sheet.crop_imm(x, y, CELL, CELL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::split::Split;

    /// Three sheets of nearly a megabyte each, of which two fit.
    #[test]
    fn sheets_have_a_bound_together() {
        let folder = tempfile::tempdir().unwrap();
        let entry = |name: &str| {
            let sheet = folder.path().join(name);
            image::GrayImage::new(1000, 1000).save(&sheet).unwrap();
            let source = Source::Cell {
                sheet,
                column: 0,
                row: 0,
            };
            Entry {
                name: name.into(),
                source,
                split: Split::Train,
                given: true,
                label: 0,
                text: None,
                still: None,
            }
        };
        let mut entries = vec![entry("a.png"), entry("b.png"), entry("a.png")];
        let options = ReadOptions {
            max_picture_mb: 1,
            ..ReadOptions::default()
        };
        let (sheets, faults) = Sheets::load(&entries, &options);
        assert!(faults.is_empty(), "{faults:?}");
        assert!(entries.iter().all(|entry| sheets.has(entry.path())));
        entries.push(entry("c.png"));
        let (_, faults) = Sheets::load(&entries, &options);
        let [fault] = &faults[..] else {
            panic!("{faults:?}");
        };
        let part = "takes more than 2 MB, twice the most that a picture may; data.max_picture_mb (of `data \
                    check`: --max-picture-mb) allows more";
        assert!(fault.to_string().ends_with(part), "{fault}");
    }
}
