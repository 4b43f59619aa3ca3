//! A weight of float32 that is larger than the caches, laid out so that products read it from one end to
//! the other.

use rayon::prelude::*;

use super::matrix::{Matrix, product_into};

/// Columns of a panel: four registers of AVX-512, the most that gemm's kernels take at once.
const COLUMNS: usize = 64;

/// A matrix in panels of columns, each row after row. In the whole matrix the rows of the same columns
/// lie pages apart, and the processor fetches nothing ahead.
pub(super) struct Panels {
    numbers: Vec<f32>,
    inputs: usize,
    outputs: usize,
}

impl Panels {
    /// Numbers of a weight from which on panels are worth being laid out: a megabyte, the second cache
    /// of a core.
    pub(super) const LEAST: usize = 1 << 18;

    /// Lays out a matrix, on this thread `alone` or on all.
    pub(super) fn new(whole: &[f32], inputs: usize, outputs: usize, alone: bool) -> Self {
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
        match alone {
            true => numbers.chunks_mut(size).enumerate().for_each(lay_out),
            false => numbers.par_chunks_mut(size).enumerate().for_each(lay_out),
        }
        Self {
            numbers,
            inputs,
            outputs,
        }
    }

    pub(super) fn sizes(&self) -> [usize; 2] {
        [self.inputs, self.outputs]
    }

    /// `out = x self` for rows `x`, on this thread `alone` or on all. `scratch` is memory for what threads
    /// have worked out.
    pub(super) fn product_over(
        &self,
        out: &mut [f32],
        x: &[f32],
        scratch: &mut Vec<f32>,
        alone: bool,
    ) {
        let rows = x.len() / self.inputs.max(1);
        assert_eq!(out.len(), rows * self.outputs, "the product's size");
        if out.is_empty() {
            return;
        }
        let x = Matrix::new(x, rows, self.inputs);
        let multiply = |out: &mut [f32], stride: Option<usize>, panel: &[f32]| {
            let columns = panel.len() / self.inputs;
            let panel = Matrix::new(panel, self.inputs, columns);
            product_into(out, stride.unwrap_or(columns), false, 1.0, [x, panel]);
        };
        let size = self.inputs * COLUMNS;
        if alone {
            for (index, panel) in self.numbers.chunks(size).enumerate() {
                multiply(&mut out[index * COLUMNS..], Some(self.outputs), panel);
            }
            return;
        }
        // Threads cannot share rows of results: each has columns to itself, which are put together.
        if scratch.len() < out.len() {
            scratch.resize(out.len(), 0.0);
        }
        let parts = &mut scratch[..out.len()];
        parts
            .par_chunks_mut(rows * COLUMNS)
            .zip(self.numbers.par_chunks(size))
            .for_each(|(out, panel)| multiply(out, None, panel));
        for (row, out) in out.chunks_exact_mut(self.outputs).enumerate() {
            let parts = parts.chunks(rows * COLUMNS);
            for (part, out) in parts.zip(out.chunks_mut(COLUMNS)) {
                out.copy_from_slice(&part[row * out.len()..][..out.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::product;
    use super::*;

    /// Full panels, a last one of some columns, and less than one; one row and several.
    #[test]
    fn a_product_of_panels_is_that_of_the_whole() {
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
