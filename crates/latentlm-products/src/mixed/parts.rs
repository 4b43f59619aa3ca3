//! The products of [`mixed`](crate::mixed) by instructions of the processor: [those of registers](super::registers) or
//! [of tiles](super::tiles).
//!
//! A block of the right factor is laid out in panels of [`COLUMNS`] columns: a panel has one line for each pair of rows,
//! and a line has each column's two numbers in one `u32`. A block of the left factor is laid out by rows, each pair of
//! neighbors in one `u32`; for registers only if its rows are contiguous, and otherwise as the right one, in panels of
//! [`ROWS`].

use std::cell::RefCell;

use rayon::prelude::*;

use super::block::{Block, COLUMNS, DEPTH, LINE, ROWS};
use crate::amx::{self, Tiles};
use crate::layout::{lay_out, round_columns, round_rows};
use crate::matrix::{Matrix, PARALLEL};
use crate::processor::has_bf16_products;
use crate::window::Window;

/// [`DEPTH`] for tiles, which read both factors eight times as fast.
const TILE_DEPTH: usize = 512;
/// Rows of a block of the left factor.
const BLOCK_ROWS: usize = 96;
/// Columns of a block of the right factor.
const BLOCK_COLUMNS: usize = 32 * COLUMNS;

// Tiles of both ways fill blocks.
const _: () = assert!(BLOCK_ROWS.is_multiple_of(ROWS) && BLOCK_ROWS.is_multiple_of(amx::WIDTH));

/// Instructions that multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// AVX-512 BF16.
    Registers,
    /// AMX.
    Tiles,
}

impl Way {
    /// The faster way for these sizes on this processor.
    pub(super) fn for_sizes([rows, inner, columns]: [usize; 3]) -> Self {
        if [rows, inner, columns].into_iter().min() >= Some(amx::SIDE) && amx::available() {
            Self::Tiles
        } else {
            Self::Registers
        }
    }

    /// Rows of a tile.
    fn rows(self) -> usize {
        match self {
            Self::Registers => ROWS,
            Self::Tiles => amx::WIDTH,
        }
    }

    /// Numbers of a sum that one block adds up, if there are `inner`: blocks of about one size, so that no short one is
    /// left.
    fn depth(self, inner: usize) -> usize {
        let (most, unit) = match self {
            Self::Registers => (DEPTH, 2),
            Self::Tiles => (TILE_DEPTH, 2 * amx::SIDE),
        };
        inner.div_ceil(inner.div_ceil(most)).next_multiple_of(unit)
    }

    /// Pairs of so many numbers, with those that fill up a tile.
    fn pairs(self, numbers: usize) -> usize {
        let pairs = numbers.div_ceil(2);
        match self {
            Self::Registers => pairs,
            Self::Tiles => pairs.next_multiple_of(amx::SIDE),
        }
    }
}

/// `out = a b`, or `out += a b` if `add`. Every number of `out` is written.
///
/// # Panics
/// If sizes do not fit each other, one of them is 0, or the processor does not have the instructions.
pub(super) fn multiply(out: Window<'_>, a: Matrix<'_>, b: Matrix<'_>, add: bool, way: Way) {
    let [rows, inner, columns] = [a.rows, a.columns, b.columns];
    assert_eq!(
        [out.rows(), out.columns()],
        [rows, columns],
        "the product's size"
    );
    assert!(b.rows == inner && rows * inner * columns > 0);
    assert!(
        has_bf16_products(),
        "this processor has no products of bfloat16"
    );
    let threads = if rows * inner * columns < PARALLEL {
        1
    } else {
        rayon::current_num_threads()
    };
    // Each thread lays out its rows of `a` and its columns of `b`: parts that are nearly square have the fewest.
    let across = (threads as f64 * rows as f64 / columns as f64).sqrt();
    let row_parts = (across.round() as usize).clamp(1, threads);
    let row_step = rows.div_ceil(row_parts).next_multiple_of(way.rows());
    let column_parts = threads.div_ceil(row_parts);
    let column_step = columns.div_ceil(column_parts).next_multiple_of(COLUMNS);
    let mut parts = Vec::with_capacity(row_parts * column_parts);
    let mut below = out;
    for first in (0..rows).step_by(row_step) {
        let (mut right, rest) = below.split_rows(row_step);
        below = rest;
        let a = a.row_range(first..first + right.rows());
        for first in (0..columns).step_by(column_step) {
            let (out, rest) = right.split_columns(column_step);
            right = rest;
            let b = b.transposed().row_range(first..first + out.columns());
            parts.push(Part {
                out,
                a,
                b: b.transposed(),
                add,
                way,
            });
        }
    }
    if threads == 1 {
        parts.into_iter().for_each(Part::run);
    } else {
        parts.into_par_iter().for_each(Part::run);
    }
}

thread_local! {
    /// Memory for a block of each factor. Asking the system for it anew would be slower than laying out a block.
    static BLOCKS: RefCell<[Vec<u32>; 2]> = const { RefCell::new([Vec::new(), Vec::new()]) };
}

/// A part of a product that one thread computes.
struct Part<'a, 'out> {
    out: Window<'out>,
    a: Matrix<'a>,
    b: Matrix<'a>,
    /// Whether the product is added to the numbers that are there.
    add: bool,
    way: Way,
}

impl Part<'_, '_> {
    fn run(self) {
        BLOCKS.with_borrow_mut(|[left, right]| self.blocks(left, right));
    }

    #[allow(unsafe_code)]
    fn blocks(self, left: &mut Vec<u32>, right: &mut Vec<u32>) {
        let Self {
            mut out,
            a,
            b,
            add,
            way,
        } = self;
        let tiles = (way == Way::Tiles).then(Tiles::new);
        let [rows, inner, columns] = [a.rows, a.columns, b.columns];
        let depth = way.depth(inner);
        grow(left, BLOCK_ROWS * LINE);
        let width = columns.next_multiple_of(COLUMNS).min(BLOCK_COLUMNS);
        grow(right, width * depth / 2);
        for column in (0..columns).step_by(BLOCK_COLUMNS) {
            let end = columns.min(column + BLOCK_COLUMNS);
            for start in (0..inner).step_by(depth) {
                let inner = start..inner.min(start + depth);
                let pairs = way.pairs(inner.len());
                let lines = b.row_range(inner.clone()).transposed();
                // SAFETY: the processor has the features, see `multiply`.
                unsafe { lay_out::<COLUMNS>(right, lines.row_range(column..end), pairs) };
                for row in (0..rows).step_by(BLOCK_ROWS) {
                    let row_end = rows.min(row + BLOCK_ROWS);
                    let lines = a.row_range(row..row_end).transposed();
                    let lines = lines.row_range(inner.clone()).transposed();
                    let block = Block {
                        left,
                        right,
                        pairs,
                        add: add || start > 0,
                    };
                    let out = out.part(row..row_end, column..end);
                    // SAFETY: the processor has the features, see `multiply`.
                    unsafe { block.lay_out_and_multiply(lines, tiles.as_ref(), out) };
                }
            }
        }
    }
}

/// Makes room for `len` numbers.
fn grow(memory: &mut Vec<u32>, len: usize) {
    if memory.len() < len {
        memory.resize(len, 0);
    }
}

impl Block<'_> {
    /// Lays out the left factor and writes the product.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn lay_out_and_multiply(self, rows: Matrix<'_>, tiles: Option<&Tiles>, out: Window<'_>) {
        match (tiles, rows.column_stride) {
            (None, 1) => {
                round_rows(self.left, rows, LINE);
                self.multiply::<true>(out);
            }
            (None, _) => {
                lay_out::<ROWS>(self.left, rows, self.pairs);
                self.multiply::<false>(out);
            }
            (Some(tiles), 1) => {
                round_rows(self.left, rows, LINE);
                self.multiply_by_tiles(tiles, out);
            }
            (Some(tiles), _) => {
                round_columns(self.left, rows, LINE);
                self.multiply_by_tiles(tiles, out);
            }
        }
    }
}
