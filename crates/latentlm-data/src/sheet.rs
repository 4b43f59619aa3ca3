//! Sheets: one large picture that holds many small ones in a grid of cells.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use image::DynamicImage;
use latentlm_media::{decode, decode_whole};

use crate::error::DataError;
use crate::folder::{Entry, Source};
use crate::options::ReadOptions;

/// Side of a cell in pixels.
pub(crate) const CELL: u32 = 32;
/// Distance from cell to cell in pixels: the cell and a transparent border of one pixel on each side.
const PITCH: u32 = CELL + 2;

/// Decoded sheets by path. Sorted, so that a hash over them is the same in every run.
#[derive(Debug, Default)]
pub(crate) struct Sheets(BTreeMap<PathBuf, DynamicImage>);

impl Sheets {
    /// Decodes each sheet that the entries name, once. Returns the sheets, and the errors of those that
    /// can't be read.
    pub(crate) fn load(entries: &[Entry], options: &ReadOptions) -> (Self, Vec<DataError>) {
        let mut sheets = BTreeMap::new();
        for entry in entries {
            if let Source::Cell { sheet, .. } = &entry.source
                && !sheets.contains_key(sheet)
            {
                sheets.insert(
                    sheet.clone(),
                    decode_whole(sheet, options.max_picture_bytes),
                );
            }
        }
        let mut faults = Vec::new();
        let mut good = BTreeMap::new();
        for (path, sheet) in sheets {
            match sheet {
                Ok(sheet) => {
                    good.insert(path, sheet);
                }
                Err(fault) => faults.push(fault.into()),
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
            Source::File(path) => Ok(decode(path, options.max_picture_bytes)?),
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
