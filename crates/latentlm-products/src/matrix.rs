//! Products of float32 matrices, by the crate `gemm`.

use std::ops::Range;

use gemm::{Parallelism, gemm};

/// Smallest number of multiplications for which a product is worth all threads.
// The bound of Burn's own CPU backend: one thread for 128 x 128 matrices, all threads for 256 x 256. gemm by itself
// uses threads from a twelfth of this on.
pub(crate) const PARALLEL: usize = 192 * 192 * 192;

/// A matrix within a slice. It has strides, so that transposing it moves no numbers.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Numbers from one row to the next: 1 if those from one column to the next are not.
    pub(crate) row_stride: usize,
    /// Numbers from one column to the next.
    pub(crate) column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A matrix whose rows follow each other without gaps.
    ///
    /// # Panics
    /// If the number of numbers is not `rows * columns`.
    #[inline]
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        // Counts saturate: one that cannot be counted is larger than any memory.
        let count = rows.saturating_mul(columns);
        assert_eq!(data.len(), count, "a {rows} x {columns} matrix");
        Self::strided(data, rows, columns, columns)
    }

    /// A matrix whose rows start `row_stride` numbers apart.
    ///
    /// # Panics
    /// If a row does not lie within `data`.
    #[inline]
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        let before_last = rows.saturating_sub(1).saturating_mul(row_stride);
        assert!(
            rows == 0 || before_last.saturating_add(columns) <= data.len(),
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

    /// The numbers where they lie, with what is between rows.
    #[inline]
    pub fn numbers(self) -> &'a [f32] {
        self.data
    }

    /// The matrix of a range of its rows.
    ///
    /// # Panics
    /// If the matrix has fewer rows.
    #[inline]
    pub fn row_range(self, rows: Range<usize>) -> Self {
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
    #[inline]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// Memory that a product is written to.
struct Target {
    pointer: *mut f32,
    /// Numbers from one row to the next.
    row_stride: usize,
    /// Whether the product is added to the numbers that are there.
    add: bool,
}

/// How [`product_into`] writes a product.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Numbers from one row of the output to the next.
    pub(crate) row_stride: usize,
    /// Whether the product is added to the numbers that are there.
    pub(crate) add: bool,
    /// Factor of the product.
    pub(crate) factor: f32,
    /// Whether all threads may share the product.
    shared: bool,
}

impl Output {
    /// The product replaces the numbers that are there. From one row of the output to the next are `row_stride`
    /// numbers.
    #[inline]
    pub fn replace(row_stride: usize) -> Self {
        Self {
            row_stride,
            add: false,
            factor: 1.0,
            shared: false,
        }
    }

    /// The product is added to the numbers that are there; `row_stride` as in [`replace`](Self::replace).
    #[inline]
    pub fn add(row_stride: usize) -> Self {
        Self {
            add: true,
            ..Self::replace(row_stride)
        }
    }

    /// The product is multiplied by `factor` first.
    #[inline]
    pub fn scaled(self, factor: f32) -> Self {
        Self { factor, ..self }
    }

    /// If `shared`, all threads compute the product, if it is large enough, and not the calling one alone.
    #[inline]
    pub fn shared(self, shared: bool) -> Self {
        Self { shared, ..self }
    }
}

/// `a b`, row by row, on all threads if the product is large enough.
///
/// # Shapes
/// - `a`: `[N, I]`; `b`: `[I, O]`
/// - result: `[N, O]`
///
/// # Panics
/// If the inner sizes differ.
#[allow(unsafe_code)]
pub fn product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let len = a.rows.saturating_mul(b.columns);
    let mut result = Vec::with_capacity(len);
    let target = Target {
        pointer: result.as_mut_ptr(),
        row_stride: b.columns,
        add: false,
    };
    if a.columns == 0 {
        return vec![0.0; len];
    }
    // Not cleared first: the product writes every number anyway.
    // SAFETY: the buffer has room for all rows, and a product that is not added to its target
    // writes every number of it without reading any.
    unsafe {
        call(target, a, b, 1.0, parallelism(a, b));
        result.set_len(len);
    }
    result
}

/// `out += a b`, on all threads if the product is large enough.
///
/// # Shapes
/// - `a`: `[N, I]`; `b`: `[I, O]`
/// - `out`: `[N, O]`
///
/// # Panics
/// If sizes do not fit each other.
#[allow(unsafe_code)]
pub fn add_product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    let len = a.rows.saturating_mul(b.columns);
    assert_eq!(out.len(), len, "the sum's size");
    let target = Target {
        pointer: out.as_mut_ptr(),
        row_stride: b.columns,
        add: true,
    };
    // SAFETY: `out` holds exactly the product's numbers.
    unsafe { call(target, a, b, 1.0, parallelism(a, b)) };
}

/// `out = a b`: on this thread if `alone`, or else on all threads if the product is large enough.
///
/// # Shapes
/// - `a`: `[N, I]`; `b`: `[I, O]`
/// - `out`: `[N, O]`
///
/// # Panics
/// If sizes do not fit each other.
#[allow(unsafe_code)]
pub fn product_over(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>, alone: bool) {
    let len = a.rows.saturating_mul(b.columns);
    assert_eq!(out.len(), len, "the product's size");
    let target = Target {
        pointer: out.as_mut_ptr(),
        row_stride: b.columns,
        add: false,
    };
    let threads = if alone {
        Parallelism::None
    } else {
        parallelism(a, b)
    };
    // SAFETY: `out` holds exactly the product's numbers.
    unsafe { call(target, a, b, 1.0, threads) };
}

/// `out = factor a b`, or `out += factor a b`, on this thread alone unless `output` says otherwise.
///
/// # Shapes
/// - `a`: `[N, I]`; `b`: `[I, O]`
/// - `out`: `[N, O]`, with gaps between its rows if `output` says so
///
/// # Panics
/// If sizes do not fit each other.
#[allow(unsafe_code)]
pub fn product_into(out: &mut [f32], output: Output, a: Matrix<'_>, b: Matrix<'_>) {
    if a.rows == 0 {
        return;
    }
    let before_last = (a.rows - 1).saturating_mul(output.row_stride);
    let room = before_last.saturating_add(b.columns);
    assert!(
        room <= out.len() && b.columns <= output.row_stride,
        "the product's size"
    );
    let target = Target {
        pointer: out.as_mut_ptr(),
        row_stride: output.row_stride,
        add: output.add,
    };
    let threads = if output.shared {
        parallelism(a, b)
    } else {
        Parallelism::None
    };
    // SAFETY: every row of the product lies within `out`.
    unsafe { call(target, a, b, output.factor, threads) };
}

fn parallelism(a: Matrix<'_>, b: Matrix<'_>) -> Parallelism {
    if a.rows * a.columns * b.columns >= PARALLEL {
        Parallelism::Rayon(0)
    } else {
        Parallelism::None
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
        // gemm reads the target's numbers only if it is told to add to them. So results need not be cleared
        // first, which would be a pass over memory for nothing.
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
        // A range of rows of the left factor, and a range of columns of the right one.
        close(&product(a.row_range(1..3), b), &plain(a, b)[4..12]);
        let columns = b.transposed().row_range(1..3).transposed();
        close(&product(a, columns), &plain(a, columns));
        assert_eq!(plain(a, columns)[..2], plain(a, b)[1..3]);
        let mut wide = vec![9.0; 5 * 6];
        product_into(&mut wide, Output::replace(6).scaled(2.0), a, b);
        for (row, expected) in wide.chunks(6).zip(twice.chunks(4)) {
            close(&row[..4], expected);
            assert_eq!(&row[4..], [9.0, 9.0]);
        }
        product_into(&mut wide, Output::add(6), a, b);
        for (row, twice) in wide.chunks(6).zip(twice.chunks(4)) {
            let expected: Vec<f32> = twice.iter().map(|x| 1.5 * x).collect();
            close(&row[..4], &expected);
            assert_eq!(&row[4..], [9.0, 9.0]);
        }
        product_into(&mut over, Output::replace(4).shared(true), a, b);
        close(&over, &plain(a, b));
    }
}
