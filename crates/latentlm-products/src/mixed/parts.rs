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

/// What is written, and the right factor of the product.
pub(super) struct Product<'a, 'out> {
    pub(super) out: Window<'out>,
    pub(super) b: Matrix<'a>,
}

impl Product<'_, '_> {
    /// The first rows, and the others.
    fn split_rows(self, first: usize) -> (Self, Self) {
        let Self { out, b } = self;
        let (above, below) = out.split_rows(first);
        (Self { out: above, b }, Self { out: below, b })
    }

    /// The first columns, and the others.
    fn split_columns(self, first: usize) -> (Self, Self) {
        let Self { out, b } = self;
        let (left, right) = out.split_columns(first);
        let lines = b.transposed();
        let (own, others) = (0..left.columns(), left.columns()..lines.rows);
        let [own, others] = [own, others].map(|range| lines.row_range(range).transposed());
        (
            Self { out: left, b: own },
            Self {
                out: right,
                b: others,
            },
        )
    }
}

/// `out = a b`, or `out += a b` if `add`. Every number of `out` is written.
///
/// # Panics
/// If sizes do not fit each other, one of them is 0, or the processor does not have the instructions.
pub(super) fn multiply(out: Window<'_>, a: Matrix<'_>, b: Matrix<'_>, add: bool, way: Way) {
    multiply_all(vec![Product { out, b }], a, add, way);
}

/// [`multiply`] with several right factors of one size, for which the left one is laid out once.
///
/// # Panics
/// If sizes do not fit each other, one of them is 0, or the processor does not have the instructions.
pub(super) fn multiply_all(products: Vec<Product<'_, '_>>, a: Matrix<'_>, add: bool, way: Way) {
    let [rows, inner] = [a.rows, a.columns];
    let columns = products.first().map_or(0, |product| product.b.columns);
    for Product { out, b } in &products {
        let size = [out.rows(), out.columns()];
        assert_eq!(size, [rows, columns], "the product's size");
        assert_eq!([b.rows, b.columns], [inner, columns], "the right factor's");
    }
    let all_columns = products.len() * columns;
    assert!(rows * inner * all_columns > 0, "a product of nothing");
    assert!(
        has_bf16_products(),
        "this processor has no products of bfloat16"
    );
    let threads = if rows * inner * all_columns < PARALLEL {
        1
    } else {
        rayon::current_num_threads()
    };
    // Each thread lays out its rows of `a` and its columns of `b`: parts that are nearly square have the fewest.
    let across = (threads as f64 * rows as f64 / all_columns as f64).sqrt();
    let row_parts = (across.round() as usize).clamp(1, threads);
    let row_step = rows.div_ceil(row_parts).next_multiple_of(way.rows());
    let column_parts = threads.div_ceil(row_parts);
    let column_step = columns.div_ceil(column_parts).next_multiple_of(COLUMNS);
    let mut parts = Vec::with_capacity(row_parts * column_parts);
    let mut below = products;
    for first in (0..rows).step_by(row_step) {
        let halves = below.into_iter().map(|own| own.split_rows(row_step));
        let (mut right, rest): (Vec<_>, Vec<_>) = halves.unzip();
        below = rest;
        let a = a.row_range(first..rows.min(first + row_step));
        for _ in (0..columns).step_by(column_step) {
            let halves = right.into_iter().map(|own| own.split_columns(column_step));
            let (products, rest): (Vec<_>, Vec<_>) = halves.unzip();
            right = rest;
            parts.push(Part {
                products,
                a,
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

/// Parts of products that one thread computes.
struct Part<'a, 'out> {
    /// Products of one size.
    products: Vec<Product<'a, 'out>>,
    a: Matrix<'a>,
    /// Whether products are added to the numbers that are there.
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
            mut products,
            a,
            add,
            way,
        } = self;
        let tiles = (way == Way::Tiles).then(Tiles::new);
        // Columns of a transposed factor are turned for tiles alone.
        let by_rows = tiles.is_some() || a.column_stride == 1;
        let [rows, inner] = [a.rows, a.columns];
        let columns = products.first().map_or(0, |product| product.b.columns);
        let depth = way.depth(inner);
        grow(left, BLOCK_ROWS * LINE);
        let most = block_columns(products.len());
        let block_len = columns.next_multiple_of(COLUMNS).min(most) * depth / 2;
        grow(right, products.len() * block_len);
        for column in (0..columns).step_by(most) {
            let end = columns.min(column + most);
            for start in (0..inner).step_by(depth) {
                let inner = start..inner.min(start + depth);
                let pairs = way.pairs(inner.len());
                for (product, right) in products.iter().zip(right.chunks_exact_mut(block_len)) {
                    let lines = product.b.row_range(inner.clone()).transposed();
                    // SAFETY: the processor has the features, see `multiply_all`.
                    unsafe { lay_out::<COLUMNS>(right, lines.row_range(column..end), pairs) };
                }
                for row in (0..rows).step_by(BLOCK_ROWS) {
                    let row_end = rows.min(row + BLOCK_ROWS);
                    let lines = a.row_range(row..row_end).transposed();
                    let lines = lines.row_range(inner.clone()).transposed();
                    // SAFETY: likewise.
                    unsafe { lay_out_left(left, lines, pairs, by_rows) };
                    for (product, right) in products.iter_mut().zip(right.chunks_exact(block_len)) {
                        let block = Block {
                            left: left.as_slice(),
                            right,
                            pairs,
                            add: add || start > 0,
                        };
                        let out = product.out.part(row..row_end, column..end);
                        // SAFETY: likewise.
                        unsafe { block.write(tiles.as_ref(), by_rows, out) };
                    }
                }
            }
        }
    }
}

/// Columns of a block of each right factor, if there are `count`: together as many as of one.
fn block_columns(count: usize) -> usize {
    (BLOCK_COLUMNS / COLUMNS / count).max(1) * COLUMNS
}

/// Makes room for `len` numbers.
fn grow(memory: &mut Vec<u32>, len: usize) {
    if memory.len() < len {
        memory.resize(len, 0);
    }
}

/// Lays out a block of the left factor: by rows, or else in panels.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
fn lay_out_left(out: &mut [u32], rows: Matrix<'_>, pairs: usize, by_rows: bool) {
    match (by_rows, rows.column_stride) {
        (true, 1) => round_rows(out, rows, LINE),
        (true, _) => round_columns(out, rows, LINE),
        (false, _) => lay_out::<ROWS>(out, rows, pairs),
    }
}

impl Block<'_> {
    /// Writes the product of the blocks, of which the left one lies by rows or in panels.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    fn write(&self, tiles: Option<&Tiles>, by_rows: bool, out: Window<'_>) {
        match (tiles, by_rows) {
            (Some(tiles), _) => self.multiply_by_tiles(tiles, out),
            (None, true) => self.multiply::<true>(out),
            (None, false) => self.multiply::<false>(out),
        }
    }
}
