//! Products of float32 matrices whose factors are rounded to bfloat16 on the way, with float32 sums: mixed precision, as
//! training in bfloat16 computes. Processors with AMX or AVX-512 BF16 multiply by their instructions, see `parts.rs`; others
//! round the factors and multiply them in float32.
//!
//! The rows of a factor are rounded block by block, and at the same time laid out as the instruction wants them: two
//! numbers that are neighbors in a sum lie in one `u32`. So a forward product, and those of both gradients, which have a
//! transposed factor, cost the same.

use half::bf16;

use crate::matrix::{self, Matrix};
#[cfg(target_arch = "x86_64")]
use crate::processor::has_bf16_products;
#[cfg(target_arch = "x86_64")]
use crate::window::Window;

/// Precision of a product's factors. Sums are float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// float32.
    #[default]
    F32,
    /// Factors are rounded to the nearest bfloat16 numbers, ties to even. Subnormal ones, below 1.2e-38, become zero.
    Bf16,
}

impl Precision {
    /// `a b`, row by row, on all threads if the product is large enough. The numbers are the same on any number of
    /// threads if factors are rounded.
    ///
    /// # Shapes
    /// - `a`: `[N, I]`; `b`: `[I, O]`
    /// - result: `[N, O]`
    ///
    /// # Panics
    /// If the inner sizes differ.
    pub fn product(self, a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
        match self {
            Self::F32 => matrix::product(a, b),
            Self::Bf16 => rounded_product(a, b),
        }
    }

    /// The [products](Self::product) of `a` with two matrices. If factors are rounded and both matrices have one size, `a` is
    /// laid out once for both; the numbers are the same.
    ///
    /// # Shapes
    /// - `a`: `[N, I]`; `both`: `[I, O]`
    /// - results: `[N, O]`
    ///
    /// # Panics
    /// If the inner sizes differ.
    pub fn products(self, a: Matrix<'_>, both: [Matrix<'_>; 2]) -> [Vec<f32>; 2] {
        match self {
            Self::F32 => both.map(|b| matrix::product(a, b)),
            Self::Bf16 => rounded_products(a, both),
        }
    }

    /// `out += a b`, otherwise as [`product`](Self::product).
    ///
    /// # Shapes
    /// - `a`: `[N, I]`; `b`: `[I, O]`
    /// - `out`: `[N, O]`
    ///
    /// # Panics
    /// If sizes do not fit each other.
    pub fn add_product(self, out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
        match self {
            Self::F32 => matrix::add_product(out, a, b),
            Self::Bf16 => add_rounded_product(out, a, b),
        }
    }
}

#[allow(unsafe_code)]
fn rounded_product(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "inner sizes of a product");
    let len = a.rows.saturating_mul(b.columns);
    if len == 0 || a.columns == 0 {
        return vec![0.0; len];
    }
    #[cfg(target_arch = "x86_64")]
    if has_bf16_products() {
        // Not cleared first: the product writes every number anyway.
        let mut result = Vec::with_capacity(len);
        let out = &mut result.spare_capacity_mut()[..len];
        let way = parts::Way::for_sizes([a.rows, a.columns, b.columns]);
        parts::multiply(Window::new(out, b.columns), a, b, false, way);
        // SAFETY: `multiply` has written all of the `len` numbers.
        unsafe { result.set_len(len) };
        return result;
    }
    let (left, right) = (Widened::new(a), Widened::new(b));
    matrix::product(left.matrix(), right.matrix())
}

#[allow(unsafe_code)]
fn rounded_products(a: Matrix<'_>, both: [Matrix<'_>; 2]) -> [Vec<f32>; 2] {
    #[cfg(target_arch = "x86_64")]
    if has_bf16_products() {
        let sizes = [a.rows, a.columns, both[0].columns];
        let is_one_size = both.iter().all(|b| [b.rows, b.columns] == sizes[1..]);
        if is_one_size && !sizes.contains(&0) {
            let len = a.rows * both[0].columns;
            let mut results = both.map(|_| Vec::<f32>::with_capacity(len));
            let products = results.iter_mut().zip(both).map(|(result, b)| {
                let out = &mut result.spare_capacity_mut()[..len];
                let out = Window::new(out, b.columns);
                parts::Product { out, b }
            });
            let way = parts::Way::for_sizes(sizes);
            parts::multiply_all(products.collect(), a, false, way);
            for result in &mut results {
                // SAFETY: `multiply_all` has written all of the `len` numbers.
                unsafe { result.set_len(len) };
            }
            return results;
        }
    }
    both.map(|b| rounded_product(a, b))
}

fn add_rounded_product(out: &mut [f32], a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(a.columns, b.rows, "inner sizes of a product");
    let len = a.rows.saturating_mul(b.columns);
    assert_eq!(out.len(), len, "the sum's size");
    if len == 0 || a.columns == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if has_bf16_products() {
        let way = parts::Way::for_sizes([a.rows, a.columns, b.columns]);
        parts::multiply(Window::of(out, b.columns), a, b, true, way);
        return;
    }
    let (left, right) = (Widened::new(a), Widened::new(b));
    matrix::add_product(out, left.matrix(), right.matrix());
}

/// A matrix whose numbers are rounded to bfloat16 and stored as float32, for processors without the instruction.
struct Widened {
    numbers: Vec<f32>,
    rows: usize,
    columns: usize,
    /// Whether the columns of the matrix follow each other, and not its rows.
    by_columns: bool,
}

impl Widened {
    fn new(matrix: Matrix<'_>) -> Self {
        let by_columns = matrix.column_stride != 1;
        let lines = if by_columns {
            matrix.transposed()
        } else {
            matrix
        };
        let mut numbers = Vec::with_capacity(lines.rows * lines.columns);
        for line in 0..lines.rows {
            let line = &lines.data[line * lines.row_stride..][..lines.columns];
            numbers.extend(line.iter().map(|x| rounded_as_by_instruction(*x)));
        }
        Self {
            numbers,
            rows: lines.rows,
            columns: lines.columns,
            by_columns,
        }
    }

    fn matrix(&self) -> Matrix<'_> {
        let lines = Matrix::new(&self.numbers, self.rows, self.columns);
        if self.by_columns {
            lines.transposed()
        } else {
            lines
        }
    }
}

/// The nearest bfloat16 number; zero for a subnormal one.
fn rounded_as_by_instruction(x: f32) -> f32 {
    if x.is_subnormal() {
        0.0
    } else {
        bf16::from_f32(x).to_f32()
    }
}

#[cfg(target_arch = "x86_64")]
mod block;
#[cfg(target_arch = "x86_64")]
mod parts;
#[cfg(target_arch = "x86_64")]
mod registers;
#[cfg(target_arch = "x86_64")]
mod tiles;

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::ThreadPoolBuilder;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    /// A matrix of `rows` and `columns`; if `turned`, its transposed matrix is what lies in `data`.
    fn lies(data: &[f32], rows: usize, columns: usize, turned: bool) -> Matrix<'_> {
        if turned {
            Matrix::new(data, columns, rows).transposed()
        } else {
            Matrix::new(data, rows, columns)
        }
    }

    /// The rounded numbers of a matrix, row by row.
    fn nearest(matrix: Matrix<'_>) -> Vec<f64> {
        let at = |index: usize| {
            let (row, column) = (index / matrix.columns, index % matrix.columns);
            row * matrix.row_stride + column * matrix.column_stride
        };
        let indices = 0..matrix.rows * matrix.columns;
        let numbers = indices.map(|index| bf16::from_f32(matrix.data[at(index)]).to_f64());
        numbers.collect()
    }

    /// Compares a product, of which `before` was there already, with exact sums of rounded numbers.
    fn compare(got: &[f32], before: f64, a: Matrix<'_>, b: Matrix<'_>) {
        assert_eq!(got.len(), a.rows * b.columns);
        let (left, right) = (nearest(a), nearest(b.transposed()));
        for (index, got) in got.iter().enumerate() {
            let (row, column) = (index / b.columns, index % b.columns);
            let row = &left[row * a.columns..][..a.columns];
            let column = &right[column * a.columns..][..a.columns];
            let (mut expected, mut size) = (before, before);
            for (x, y) in row.iter().zip(column) {
                expected += x * y;
                size += (x * y).abs();
            }
            // In a float32 sum of n products, in any order, each product takes part in at most n + 1 roundings of half
            // a unit, 2^-24; adding to `before` is one more.
            let bound = (a.columns + 3) as f64 * size / f64::from(1 << 24);
            let error = (f64::from(*got) - expected).abs();
            assert!(
                error <= bound,
                "{} x {} x {} at {index}: {got} for {expected}",
                a.rows,
                a.columns,
                b.columns
            );
        }
    }

    /// All numbers of rows that there are functions for, odd sizes, columns that do not fill a tile, several blocks of
    /// the inner size, rows and columns; both factors as they lie and transposed.
    const SHAPES: [[usize; 3]; 14] = [
        [1, 1, 1],
        [2, 3, 5],
        [3, 7, 16],
        [5, 33, 17],
        [7, 31, 32],
        [11, 64, 33],
        [12, 2, 48],
        [13, 130, 70],
        [23, 257, 31],
        [97, 600, 40],
        [128, 2051, 66],
        [40, 9, 1100],
        [250, 300, 260],
        [1, 700, 515],
    ];

    #[test]
    fn products_are_those_of_rounded_numbers() {
        let pool = ThreadPoolBuilder::new().num_threads(3).build();
        let pool = pool.expect("a few threads");
        let one = ThreadPoolBuilder::new().num_threads(1).build();
        let one = one.expect("a thread");
        for [rows, inner, columns] in SHAPES {
            let (x, w) = (numbers(rows * inner, 0.7), numbers(inner * columns, 1.3));
            for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
                let a = lies(&x, rows, inner, left);
                let b = lies(&w, inner, columns, right);
                let got = one.install(|| Precision::Bf16.product(a, b));
                compare(&got, 0.0, a, b);
                assert_eq!(pool.install(|| Precision::Bf16.product(a, b)), got);
                let mut sum = vec![9.0; rows * columns];
                Precision::Bf16.add_product(&mut sum, a, b);
                compare(&sum, 9.0, a, b);
                let (left, right) = (Widened::new(a), Widened::new(b));
                compare(&matrix::product(left.matrix(), right.matrix()), 0.0, a, b);
            }
        }
    }

    /// What the fastest way for a size would leave untried on this processor.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn every_way_multiplies_every_size() {
        let mut ways = Vec::new();
        if has_bf16_products() {
            ways.push(parts::Way::Registers);
        }
        if crate::amx::available() {
            ways.push(parts::Way::Tiles);
        }
        let pool = ThreadPoolBuilder::new().num_threads(3).build();
        let pool = pool.expect("a few threads");
        for [rows, inner, columns] in SHAPES {
            let (x, w) = (numbers(rows * inner, 0.7), numbers(inner * columns, 1.3));
            for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
                let a = lies(&x, rows, inner, left);
                let b = lies(&w, inner, columns, right);
                for (way, add) in ways.iter().flat_map(|way| [(*way, false), (*way, true)]) {
                    let mut out = vec![9.0; rows * columns];
                    pool.install(|| {
                        parts::multiply(Window::of(&mut out, columns), a, b, add, way);
                    });
                    compare(&out, if add { 9.0 } else { 0.0 }, a, b);
                    let mut both = [(); 2].map(|()| vec![9.0; rows * columns]);
                    let products = both.iter_mut().map(|out| parts::Product {
                        out: Window::of(out, columns),
                        b,
                    });
                    let products: Vec<_> = products.collect();
                    pool.install(|| parts::multiply_all(products, a, add, way));
                    assert_eq!(both, [out.clone(), out]);
                }
            }
        }
    }

    /// Two products at once are those of one after the other, whatever their sizes.
    #[test]
    fn two_products_are_each_by_itself() {
        for precision in [Precision::F32, Precision::Bf16] {
            for [rows, inner, columns] in SHAPES {
                let x = numbers(rows * inner, 0.7);
                let [w, v] = [1.3, 0.9].map(|seed| numbers(inner * columns, seed));
                for (left, right) in [(false, false), (true, true)] {
                    let a = lies(&x, rows, inner, left);
                    let both = [&w, &v].map(|w| lies(w, inner, columns, right));
                    let expected = both.map(|b| precision.product(a, b));
                    assert_eq!(precision.products(a, both), expected);
                    let one = both[1].transposed().row_range(0..1).transposed();
                    let uneven = [both[0], one];
                    let expected = uneven.map(|b| precision.product(a, b));
                    assert_eq!(precision.products(a, uneven), expected);
                }
            }
            let nothing = Matrix::new(&[], 3, 0);
            let none = precision.products(nothing, [nothing.transposed(); 2]);
            assert_eq!(none, [[0.0; 9], [0.0; 9]]);
        }
    }

    /// Parts of larger matrices, and products of nothing.
    #[test]
    fn gaps_and_nothing_are_multiplied() {
        let (x, w) = (numbers(20 * 50, 0.7), numbers(41 * 60, 1.3));
        let a = Matrix::strided(&x[3..], 19, 41, 50);
        let b = Matrix::strided(&w[5..], 41, 37, 60);
        compare(&Precision::Bf16.product(a, b), 0.0, a, b);
        let (a, b) = (b.transposed(), a.transposed());
        compare(&Precision::Bf16.product(a, b), 0.0, a, b);
        let nothing = Matrix::new(&[], 3, 0);
        let product = Precision::Bf16.product(nothing, nothing.transposed());
        assert_eq!(product, [0.0; 9]);
        let product = Precision::Bf16.product(nothing.transposed(), nothing);
        assert!(product.is_empty());
        let mut sum = [5.0; 9];
        Precision::Bf16.add_product(&mut sum, nothing, nothing.transposed());
        assert_eq!(sum, [5.0; 9]);
    }

    #[test]
    fn float32_is_not_rounded() {
        let x = numbers(6 * 5, 0.7);
        let a = Matrix::new(&x, 6, 5);
        let expected = matrix::product(a, a.transposed());
        assert_eq!(Precision::F32.product(a, a.transposed()), expected);
        let mut sum = vec![0.0; 36];
        Precision::F32.add_product(&mut sum, a, a.transposed());
        assert_eq!(sum, expected);
        assert_ne!(Precision::Bf16.product(a, a.transposed()), expected);
        assert_eq!(Precision::default(), Precision::F32);
    }

    /// Holds for the processor's instruction and for the way without it.
    #[test]
    fn subnormal_factors_are_zero() {
        let least = f32::MIN_POSITIVE;
        let x = [1e-39, -1e-39, least.next_down(), least, -least];
        // A power of two, so that the product is exact.
        let large = [2_f32.powi(100)];
        let (a, b) = (Matrix::new(&x, 5, 1), Matrix::new(&large, 1, 1));
        let expected = [0.0, 0.0, 0.0, least * large[0], -least * large[0]];
        assert_eq!(Precision::Bf16.product(a, b), expected);
        assert_eq!(
            Precision::Bf16.product(b, a.transposed()),
            expected,
            "as the right factor"
        );
        let (left, right) = (Widened::new(a), Widened::new(b));
        assert_eq!(matrix::product(left.matrix(), right.matrix()), expected);
    }

    /// Rubbish shows in its row, and nowhere else: in sizes for registers and for tiles.
    #[test]
    fn rubbish_shows() {
        for (rows, columns) in [(14, 20), (37, 50)] {
            let (mut x, w) = (numbers(rows * 40, 0.7), numbers(40 * columns, 1.3));
            x[40 + 7] = f32::NAN;
            x[2 * 40 + 7] = f32::INFINITY;
            let (a, b) = (Matrix::new(&x, rows, 40), Matrix::new(&w, 40, columns));
            let product = Precision::Bf16.product(a, b);
            for (row, numbers) in product.chunks(columns).enumerate() {
                for x in numbers {
                    let expected = match row {
                        1 => x.is_nan(),
                        2 => x.is_infinite(),
                        _ => x.is_finite(),
                    };
                    assert!(expected, "row {row} of {rows}: {x}");
                }
            }
        }
    }
}
