//! Sheets: one picture that holds many small ones in a grid of cells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use image::DynamicImage;

use crate::error::DataError;
use crate::folder::{Entry, Source};
use crate::options::ReadOptions;
use crate::picture::{decode, decode_whole};

/// Pixels along a cell's side.
pub(crate) const CELL: u32 = 32;
/// Pixels from cell to cell: the cell and a transparent border of one on each side.
const PITCH: u32 = CELL + 2;

/// Decoded sheets by path; sorted, so that a hash over them repeats.
#[derive(Debug, Default)]
pub(crate) struct Sheets(BTreeMap<PathBuf, DynamicImage>);

impl Sheets {
    /// Decodes each sheet that the entries name, once. A sheet that can't be read is a fault and
    /// lacks its cells.
    pub(crate) fn load(entries: &[Entry], options: &ReadOptions) -> (Self, Vec<DataError>) {
        let mut sheets = BTreeMap::new();
        for entry in entries {
            if let Source::Cell { sheet, .. } = &entry.source
                && !sheets.contains_key(sheet)
            {
                sheets.insert(sheet.clone(), decode_whole(sheet, options));
            }
        }
        let mut faults = Vec::new();
        let good = sheets.into_iter().filter_map(|(path, sheet)| match sheet {
            Ok(sheet) => Some((path, sheet)),
            Err(fault) => {
                faults.push(fault);
                None
            }
        });
        let good = Self(good.collect());
        (good, faults)
    }

    /// Whether the sheet could be read.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// The sheets that some entries are on, in the order of their paths.
    pub(crate) fn used_by(&self, entries: &[Entry]) -> Vec<&DynamicImage> {
        let used: BTreeSet<&Path> = entries.iter().map(Entry::path).collect();
        used.into_iter()
            .filter_map(|path| self.0.get(path))
            .collect()
    }

    /// The picture of an entry, cut from its sheet or decoded from its file.
    pub(crate) fn picture(
        &self,
        source: &Source,
        options: &ReadOptions,
    ) -> Result<DynamicImage, DataError> {
        match source {
            Source::File(path) => decode(path, options),
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
