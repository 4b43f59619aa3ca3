//! Matrix products on slices.

use std::ops::Range;

use gemm::{Parallelism, gemm};

/// Multiplications from which on a product is worth all threads.
const PARALLEL: usize = 192 * 192 * 192;

/// A matrix within a slice, by strides, so that a transposition moves nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(data.len(), rows * columns, "a {rows} x {columns} matrix");
        Self::strided(data, rows, columns, columns)
    }

    /// Rows that begin `row_stride` numbers apart.
    pub(super) fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0 || (rows - 1) * row_stride + columns <= data.len(),
            "a {rows} x {columns} matrix of stride {row_stride} in {} numbers",
            data.len()
        );
        Self {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Some of its rows.
    pub(super) fn part(self, rows: Range<usize>) -> Self {
        assert!(
            rows.start <= rows.end && rows.end <= self.rows,
            "rows {rows:?} of {}",
            self.rows
        );
        let at = (rows.start * self.row_stride).min(self.data.len());
        Self {
            data: &self.data[at..],
            rows: rows.len(),
            ..self
        }
    }

    /// The transposed matrix.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Where a product goes: rows that begin `row_stride` numbers apart.
struct Target {
    pointer: *mut f32,
    row_stride: usize,
    add: bool,
}

/// `a b`, on all threads where that pays.
#[allow(unsafe_code)]
pub(super) fn product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let len = a.rows * b.columns;
    let mut result = Vec::with_capacity(len);
    let target = Target {
        pointer: result.as_mut_ptr(),
        row_stride: b.columns,
        add: false,
    };
    if a.columns == 0 {
        return vec![0.0; len];
    }
    // SAFETY: the buffer has room for all rows, and a product that is not added to its target
    // writes every number of it without reading any.
    unsafe {
        call(target, a, b, 1.0, parallelism(a, b));
        result.set_len(len);
    }
    result
}

/// `out += a b`, on all threads where that pays.
#[allow(unsafe_code)]
pub(super) fn add_product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(out.len(), a.rows * b.columns, "the sum's size");
    let target = Target {
        pointer: out.as_mut_ptr(),
        row_stride: b.columns,
        add: true,
    };
    // SAFETY: `out` holds exactly the product's numbers.
    unsafe { call(target, a, b, 1.0, parallelism(a, b)) };
}

/// `out = a b` in the place of what stood there: on all threads where that pays, or on this one
/// `alone`.
#[allow(unsafe_code)]
pub(super) fn product_over(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, alone: bool) {
    assert_eq!(out.len(), a.rows * b.columns, "the product's size");
    let target = Target {
        pointer: out.as_mut_ptr(),
        row_stride: b.columns,
        add: false,
    };
    let threads = match alone {
        true => Parallelism::None,
        false => parallelism(a, b),
    };
    // SAFETY: `out` holds exactly the product's numbers.
    unsafe { call(target, a, b, 1.0, threads) };
}

/// `out = factor a b`, or added to `out`, whose rows begin `row_stride` numbers apart; on this
/// thread alone.
#[allow(unsafe_code)]
pub(super) fn product_into(
    out: &mut [f32],
    row_stride: usize,
    add: bool,
    factor: f32,
    [a, b]: [Matrix<'_>; 2],
) {
    if a.rows == 0 {
        return;
    }
    let room = (a.rows - 1) * row_stride + b.columns;
    assert!(
        room <= out.len() && b.columns <= row_stride,
        "the product's size"
    );
    let target = Target {
        pointer: out.as_mut_ptr(),
        row_stride,
        add,
    };
    // SAFETY: every row of the product lies within `out`.
    unsafe { call(target, a, b, factor, Parallelism::None) };
}

fn parallelism(a: Matrix<'_>, b: Matrix<'_>) -> Parallelism {
    match a.rows * a.columns * b.columns >= PARALLEL {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    }
}

/// # Safety
/// `target` must have room for every row of the product, initialized where it is added to.
#[allow(unsafe_code)]
unsafe fn call(target: Target, a: Matrix<'_>, b: Matrix<'_>, factor: f32, threads: Parallelism) {
    assert_eq!(a.columns, b.rows, "inner sizes of a product");
    // SAFETY: `Matrix` has checked that its elements lie within its slice; the target's room is the
    // caller's promise.
    unsafe {
        gemm(
            a.rows,
            b.columns,
            a.columns,
            target.pointer,
            1,
            target.row_stride as isize,
            target.add,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            threads,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
        let at = |m: Matrix<'_>, r: usize, c: usize| m.data[r * m.row_stride + c * m.column_stride];
        let cell = |r, c| (0..a.columns).map(|k| at(a, r, k) * at(b, k, c)).sum();
        (0..a.rows * b.columns)
            .map(|i| cell(i / b.columns, i % b.columns))
            .collect()
    }

    #[test]
    fn products_are_sums_of_products() {
        let x: Vec<f32> = (0..35).map(|i| (i as f32).sin()).collect();
        let y: Vec<f32> = (0..28).map(|i| (i as f32).cos()).collect();
        let (a, b) = (Matrix::new(&x, 5, 7), Matrix::new(&y, 7, 4));
        let close = |got: &[f32], expected: &[f32]| {
            assert_eq!(got.len(), expected.len());
            for (a, b) in got.iter().zip(expected) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        };
        close(&product(a, b), &plain(a, b));
        close(
            &product(b.transposed(), a.transposed()),
            &plain(b.transposed(), a.transposed()),
        );
        let mut sum = product(a, b);
        add_product(&mut sum, a, b);
        let twice: Vec<f32> = plain(a, b).iter().map(|x| 2.0 * x).collect();
        close(&sum, &twice);
        let mut over = vec![9.0; 5 * 4];
        for alone in [true, false] {
            product_over(&mut over, a, b, alone);
            close(&over, &plain(a, b));
        }
        // Rows, and columns of the other.
        close(&product(a.part(1..3), b), &plain(a, b)[4..12]);
        let columns = b.transposed().part(1..3).transposed();
        close(&product(a, columns), &plain(a, columns));
        assert_eq!(plain(a, columns)[..2], plain(a, b)[1..3]);
        let mut wide = vec![9.0; 5 * 6];
        product_into(&mut wide, 6, false, 2.0, [a, b]);
        for (row, expected) in wide.chunks(6).zip(twice.chunks(4)) {
            close(&row[..4], expected);
            assert_eq!(&row[4..], [9.0, 9.0]);
        }
    }
}
