//! A float32 weight that is larger than the caches, laid out so that products read its memory from start to
//! end.

use rayon::prelude::*;

use crate::matrix::{Matrix, Output, product_into};

/// Columns of a panel: four AVX-512 registers, the most that gemm's kernels work on at once.
const COLUMNS: usize = 64;

/// A matrix cut into panels of columns. A panel stores its part of each row, row after row.
///
/// gemm reads 64 columns of all rows, then the next 64. In a matrix that is stored row by row these pieces
/// of 256 bytes lie memory pages apart, so that the processor prefetches nothing, and products run at a
/// third of the memory's rate (docs/log.md, 2026-11-25). In a panel they follow each other.
pub struct Panels {
    numbers: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Panels {
    /// Smallest weight, in numbers, for which laying out panels pays: a megabyte, the size of a core's
    /// second-level cache. Panels of smaller weights brought nothing.
    pub const LEAST: usize = 1 << 18;

    /// Lays out a matrix, on this thread if `alone`, or else on all.
    ///
    /// # Shapes
    /// - `whole`: `[inputs, outputs]`
    ///
    /// # Panics
    /// If the number of numbers does not fit.
    pub fn new(whole: &[f32], inputs: usize, outputs: usize, alone: bool) -> Self {
        assert_eq!(whole.len(), inputs * outputs, "a matrix's numbers");
        let mut numbers = vec![0.0; whole.len()];
        let lay_out = |(index, panel): (usize, &mut [f32])| {
            let column = index * COLUMNS;
            let columns = COLUMNS.min(outputs - column);
            let rows = whole.chunks_exact(outputs);
            for (to, row) in panel.chunks_exact_mut(columns).zip(rows) {
                to.copy_from_slice(&row[column..column + columns]);
            }
        };
        let size = (inputs * COLUMNS).max(1);
        if alone {
            numbers.chunks_mut(size).enumerate().for_each(lay_out);
        } else {
            numbers.par_chunks_mut(size).enumerate().for_each(lay_out);
        }
        Self {
            numbers,
            inputs,
            outputs,
        }
    }

    /// Inputs and outputs: rows and columns of the matrix.
    #[inline]
    pub fn sizes(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// `out = x self` for rows `x`, on this thread if `alone`, or else on all. `scratch` is memory for the
    /// results of threads.
    ///
    /// # Shapes
    /// - `x`: `[N, I]`
    /// - `out`: `[N, O]`
    ///
    /// # Panics
    /// If sizes do not fit each other.
    pub fn product_over(&self, out: &mut [f32], x: &[f32], scratch: &mut Vec<f32>, alone: bool) {
        let rows = x.len() / self.inputs.max(1);
        assert_eq!(out.len(), rows * self.outputs, "the product's size");
        if out.is_empty() {
            return;
        }
        let x = Matrix::new(x, rows, self.inputs);
        let size = self.inputs * COLUMNS;
        if alone {
            // One product for each panel, written straight into its columns of `out`.
            for (index, panel) in self.numbers.chunks(size).enumerate() {
                let panel = Matrix::new(panel, self.inputs, panel.len() / self.inputs);
                let out = &mut out[index * COLUMNS..];
                product_into(out, Output::replace(self.outputs), x, panel);
            }
            return;
        }
        // The columns of one panel are spread over all rows of `out`, which threads cannot borrow at the
        // same time. So each thread writes its columns to memory of its own, and they are copied afterwards.
        if scratch.len() < out.len() {
            scratch.resize(out.len(), 0.0);
        }
        let blocks = &mut scratch[..out.len()];
        blocks
            .par_chunks_mut(rows * COLUMNS)
            .zip(self.numbers.par_chunks(size))
            .for_each(|(block, panel)| {
                let columns = panel.len() / self.inputs;
                let panel = Matrix::new(panel, self.inputs, columns);
                product_into(block, Output::replace(columns), x, panel);
            });
        for (row, out) in out.chunks_exact_mut(self.outputs).enumerate() {
            let blocks = blocks.chunks(rows * COLUMNS);
            for (block, out) in blocks.zip(out.chunks_mut(COLUMNS)) {
                out.copy_from_slice(&block[row * out.len()..][..out.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::product;

    /// Full panels, a last panel of fewer columns, and less than one panel; no row, one row and several.
    #[test]
    fn a_product_with_panels_is_that_with_the_whole_matrix() {
        for (rows, inputs, outputs) in [(1, 5, 64), (3, 7, 130), (2, 70, 9), (0, 4, 66)] {
            let whole: Vec<f32> = (0..inputs * outputs).map(|i| (i as f32).sin()).collect();
            let x: Vec<f32> = (0..rows * inputs).map(|i| (i as f32).cos()).collect();
            let weight = Matrix::new(&whole, inputs, outputs);
            let expected = product(Matrix::new(&x, rows, inputs), weight);
            for alone in [true, false] {
                let panels = Panels::new(&whole, inputs, outputs, alone);
                let mut got = vec![9.0; rows * outputs];
                panels.product_over(&mut got, &x, &mut vec![7.0; 3], alone);
                assert_eq!(got.len(), expected.len());
                for (got, expected) in got.iter().zip(&expected) {
                    assert!((got - expected).abs() < 1e-4, "{got} for {expected}");
                }
            }
        }
    }
}
