//! Blocks of the factors of a product.

use crate::layout::LANES;

/// Columns of a panel.
pub(super) const COLUMNS: usize = 2 * LANES;
// The sums of 12 rows take 24 of the 32 registers. Each step loads 2 lines of the right factor and 12 pairs of the left
// one for 24 multiplications.
/// Rows that registers multiply at once.
pub(super) const ROWS: usize = 12;
/// Most numbers of a sum that one block adds up: a tile's rows of the left factor are then 24 KB, which stay in the
/// first-level cache, and a panel of the right one 64 KB, which stays in the second. Blocks of half as many took up to
/// a sixth longer if rows of the product are long (2048 x 768 x 2048), since each adds to numbers that are in no cache.
pub(super) const DEPTH: usize = 1024;
/// `u32`s from one row of the left factor to the next, if it lies by rows. No power of two: such rows would share few
/// places of a cache.
pub(super) const LINE: usize = DEPTH / 2 + LANES;

/// Blocks of both factors, laid out.
pub(super) struct Block<'a> {
    pub(super) left: &'a [u32],
    pub(super) right: &'a [u32],
    /// Pairs of numbers that are added up.
    pub(super) pairs: usize,
    /// Whether the product is added to the numbers that are there.
    pub(super) add: bool,
}
