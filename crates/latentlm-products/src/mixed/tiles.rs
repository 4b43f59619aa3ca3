//! Blocks multiplied by the processor's [tiles](crate::amx).

use super::block::{Block, COLUMNS, LINE};
use crate::amx::{Columns, Lines, SIDE, Sums, Tiles, WIDTH};
use crate::layout::LANES;
use crate::window::Window;

// Panels are what tiles read.
const _: () = assert!(COLUMNS == WIDTH && LANES == SIDE);

impl Block<'_> {
    /// Writes the product of the blocks to `out`. The left one lies by rows.
    #[target_feature(enable = "avx512f")]
    pub(super) fn multiply_by_tiles(&self, tiles: &Tiles, mut out: Window<'_>) {
        let [rows, columns] = [out.rows(), out.columns()];
        let mut sums = Sums::new();
        // One panel of the right factor stays in the cache for all rows.
        let panels = self.right.chunks_exact(self.pairs * WIDTH);
        for (column, right) in (0..columns).step_by(WIDTH).zip(panels) {
            let right = Columns::panel(right);
            let left = self.left.chunks(WIDTH * LINE);
            for (row, pairs) in (0..rows).step_by(WIDTH).zip(left) {
                let left = Lines::of_pairs(pairs, LINE);
                let (row_end, end) = (rows.min(row + WIDTH), columns.min(column + WIDTH));
                let out = out.part(row..row_end, column..end);
                if [out.rows(), out.columns()] == [WIDTH; 2] {
                    tiles.multiply(out, left, right, self.add);
                } else {
                    let both = out.rows() > SIDE;
                    tiles.multiply_part(&mut sums, left, right, both);
                    sums.write(out, self.add);
                }
            }
        }
    }
}
