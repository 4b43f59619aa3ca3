//! Attention over short documents. A general matrix product packs its factors and chooses among kernels, which takes
//! longer than the multiplications of a head with 16 positions, and a training step has thousands of such products. Here
//! nothing is packed: queries lie side by side in the lanes of registers, so that softmax and its gradient sum over keys
//! without sums across lanes, and all that belongs to these queries stays in the first-level cache.
//!
//! Letters in shapes: `P` positions of a document, `E` width of a head, `W` keys that some of the queries see.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_mul_ps, _mm512_set1_ps, _mm512_setzero_ps,
};
use std::ops::Range;

use multiversion::multiversion;

#[cfg(target_arch = "x86_64")]
use crate::layout::first_lanes;
use crate::math::exp;
use crate::matrix::{self, Matrix, Output};

/// Most positions of a document. More are worth a general product.
const POSITIONS: usize = 64;
/// Widest head.
const WIDTH: usize = 128;
/// Numbers of the widest register, and queries that lie side by side.
const LANES: usize = 16;
/// Rows that are interleaved at once.
const QUARTER: usize = 4;

/// Whether [`attend`] and [`gradients`] are the way for a document of so many positions, with heads of a width.
// It does not depend on the number of threads, so that results don't.
#[inline]
pub fn pays(positions: usize, head_dim: usize) -> bool {
    (1..=POSITIONS).contains(&positions) && (1..=WIDTH).contains(&head_dim) && has_registers()
}

/// `out = factor a b`, or `out += factor a b`, as [`matrix::product_into`], for small matrices whose right one is not
/// transposed. A row's numbers do not depend on other rows.
///
/// # Shapes
/// - `a`: `[N, I]`; `b`: `[I, O]`
/// - `out`: `[N, O]`, with gaps between its rows if `output` says so
///
/// # Panics
/// If sizes do not fit each other, or if the numbers of a row of `b` do not lie side by side.
#[allow(unsafe_code)]
fn product_into(out: &mut [f32], output: Output, a: Matrix<'_>, b: Matrix<'_>) {
    assert_eq!(a.columns, b.rows, "inner sizes of a product");
    assert_eq!(b.column_stride, 1, "a right factor by rows");
    assert!(b.columns <= output.row_stride, "the product's size");
    #[cfg(target_arch = "x86_64")]
    if has_registers() {
        // SAFETY: the processor has AVX-512.
        return unsafe { Product { a, b, output }.multiply(out) };
    }
    matrix::product_into(out, output, a, b);
}

/// Whether the processor has registers of [`LANES`] numbers.
fn has_registers() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Factors of a product, and how it is written.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
struct Product<'a> {
    a: Matrix<'a>,
    b: Matrix<'a>,
    output: Output,
}

// By intrinsics: loops over arrays of sums became shuffles of parts of registers, and took five times as long.
#[cfg(target_arch = "x86_64")]
impl Product<'_> {
    #[target_feature(enable = "avx512f")]
    fn multiply(self, out: &mut [f32]) {
        let columns = self.b.columns;
        let mut column = 0;
        while column < columns {
            if columns - column > LANES {
                self.rows::<2>(out, column, 0);
                column += 2 * LANES;
            } else {
                self.rows::<1>(out, column, 0);
                column += LANES;
            }
        }
    }

    /// The rows from `row` on, in `P` registers of columns. Numbers of rows without a function of their own are split into
    /// larger and smaller ones that have one.
    #[target_feature(enable = "avx512f")]
    fn rows<const P: usize>(self, out: &mut [f32], column: usize, mut row: usize) {
        while row < self.a.rows {
            row += match self.a.rows - row {
                8.. => self.sums::<8, P>(out, column, row),
                4.. => self.sums::<4, P>(out, column, row),
                3 => self.sums::<3, P>(out, column, row),
                2 => self.sums::<2, P>(out, column, row),
                _ => self.sums::<1, P>(out, column, row),
            };
        }
    }

    /// `R` rows in `P` registers of columns. Both are constants, so that all sums stay in registers until the end. Returns `R`.
    #[target_feature(enable = "avx512f")]
    #[allow(unsafe_code)]
    fn sums<const R: usize, const P: usize>(
        self,
        out: &mut [f32],
        column: usize,
        row: usize,
    ) -> usize {
        let Self { a, b, output } = self;
        let (x, lines) = (
            &a.data[row * a.row_stride..],
            &b.data[column.min(b.data.len())..],
        );
        let width = (b.columns - column).min(P * LANES);
        let last = a.columns.saturating_sub(1);
        assert!(a.columns == 0 || (R - 1) * a.row_stride + last * a.column_stride < x.len());
        assert!(a.columns == 0 || last * b.row_stride + width <= lines.len());
        let masks: [u16; P] = std::array::from_fn(|part| first_lanes(width - part * LANES));
        let mut sums = [[_mm512_setzero_ps(); P]; R];
        for k in 0..a.columns {
            // SAFETY: the last number of both factors is there: asserted. Masks cover the columns there are.
            unsafe {
                let line: [__m512; P] = std::array::from_fn(|part| {
                    let at = lines.as_ptr().add(k * b.row_stride + part * LANES);
                    _mm512_maskz_loadu_ps(masks[part], at)
                });
                for (row, sums) in sums.iter_mut().enumerate() {
                    let at = row * a.row_stride + k * a.column_stride;
                    let x = _mm512_set1_ps(*x.get_unchecked(at));
                    for (sum, line) in sums.iter_mut().zip(line) {
                        *sum = _mm512_fmadd_ps(x, line, *sum);
                    }
                }
            }
        }
        let factor = _mm512_set1_ps(output.factor);
        for (more, sums) in sums.into_iter().enumerate() {
            let out = &mut out[(row + more) * output.row_stride + column..][..width];
            for ((out, sum), mask) in out.chunks_mut(LANES).zip(sums).zip(masks) {
                let mut sum = _mm512_mul_ps(sum, factor);
                let at = out.as_mut_ptr();
                // SAFETY: the mask covers the columns there are.
                unsafe {
                    if output.add {
                        sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, at), sum);
                    }
                    _mm512_mask_storeu_ps(at, mask, sum);
                }
            }
        }
        R
    }
}

/// A row of a matrix whose rows have no gaps.
#[inline(always)]
fn row_of(matrix: Matrix<'_>, row: usize) -> &[f32] {
    &matrix.data[row * matrix.row_stride..][..matrix.columns]
}

/// Queries, keys and values of one head of a document.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    queries: Matrix<'a>,
    keys: Matrix<'a>,
    values: Matrix<'a>,
}

impl<'a> Head<'a> {
    /// Queries and keys are rotated already, if they are to be. Scores are divided by the root of `E`.
    ///
    /// # Shapes
    /// - `queries`, `keys`, `values`: `[P, E]`
    ///
    /// # Panics
    /// If sizes do not fit each other, or if the numbers of a row of values do not lie side by side.
    pub fn new(queries: &'a [f32], keys: &'a [f32], values: Matrix<'a>) -> Self {
        let Matrix { rows, columns, .. } = values;
        assert_eq!(values.column_stride, 1, "values by rows");
        Self {
            queries: Matrix::new(queries, rows, columns),
            keys: Matrix::new(keys, rows, columns),
            values,
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.values.columns as f32).sqrt()
    }

    /// Ranges of queries that lie side by side.
    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let positions = self.queries.rows;
        let starts = (0..positions).step_by(LANES);
        starts.map(move |start| start..(start + LANES).min(positions))
    }
}

/// Memory that [`attend`] and [`gradients`] reuse. Nothing of it is cleared.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Each fourth of the rows that become lanes, interleaved.
    halfway: Vec<[f32; QUARTER]>,
    /// Queries, or gradients of their results, side by side: `[E, LANES]`.
    panel: Vec<[f32; LANES]>,
    /// Scores of queries side by side, then their probabilities: `[W, LANES]`.
    p: Vec<[f32; LANES]>,
    /// The gradients of these.
    ds: Vec<[f32; LANES]>,
}

impl Scratch {
    /// Lays rows side by side into the panel.
    fn lay(&mut self, rows: Matrix<'_>) {
        self.halfway.resize(QUARTER * rows.columns, [0.0; QUARTER]);
        self.panel.resize(rows.columns, [0.0; LANES]);
        lay_side_by_side(&mut self.panel, &mut self.halfway, rows);
    }

    /// The probabilities of some queries. Returns `W`.
    fn attend(
        &mut self,
        head: Head<'_>,
        queries: Range<usize>,
        seen: &impl Fn(usize) -> usize,
    ) -> usize {
        let mut counts = [0_u32; LANES];
        let mut width = 0;
        for (lane, count) in counts.iter_mut().enumerate() {
            // A lane without a query repeats the last one, so that its numbers are as finite. Nothing reads them.
            let own = seen((queries.start + lane).min(queries.end - 1));
            *count = own as u32;
            width = width.max(own);
        }
        self.lay(head.queries.row_range(queries));
        self.p.resize(width, [0.0; LANES]);
        times_panel(&mut self.p, head.keys.row_range(0..width), &self.panel);
        softmax(&mut self.p, &counts, head.scale());
        width
    }
}

/// `a panel`.
fn times_panel(out: &mut [[f32; LANES]], a: Matrix<'_>, panel: &[[f32; LANES]]) {
    let panel = Matrix::new(panel.as_flattened(), panel.len(), LANES);
    product_into(out.as_flattened_mut(), Output::replace(LANES), a, panel);
}

/// The result of attention. `seen` tells how many keys a position sees, at least one; they are the first ones.
///
/// # Shapes
/// - `out`: `[P, E]`, with `row_stride` numbers from one row to the next
///
/// # Panics
/// If a position sees more keys than there are, or if `out` is too small.
pub fn attend(
    out: &mut [f32],
    row_stride: usize,
    head: Head<'_>,
    seen: impl Fn(usize) -> usize,
    work: &mut Scratch,
) {
    for queries in head.blocks() {
        let width = work.attend(head, queries.clone(), &seen);
        let p = Matrix::strided(work.p.as_flattened(), width, queries.len(), LANES);
        let out = &mut out[queries.start * row_stride..];
        let values = head.values.row_range(0..width);
        product_into(out, Output::replace(row_stride), p.transposed(), values);
    }
}

/// The gradients of queries, keys and values from the gradient `dout` of the result; `seen` as in [`attend`].
///
/// # Shapes
/// - `gradients`: of queries, keys and values, `[P, E]` each; they are overwritten
/// - `dout`: `[P, E]`
///
/// # Panics
/// If sizes do not fit each other, or a position sees more keys than there are.
pub fn gradients(
    gradients: [&mut [f32]; 3],
    dout: Matrix<'_>,
    head: Head<'_>,
    seen: impl Fn(usize) -> usize,
    work: &mut Scratch,
) {
    let [dq, dk, dv] = gradients;
    let head_dim = head.values.columns;
    dk.fill(0.0);
    dv.fill(0.0);
    for queries in head.blocks() {
        let width = work.attend(head, queries.clone(), &seen);
        let dout = dout.row_range(queries.clone());
        work.lay(dout);
        work.ds.resize(width, [0.0; LANES]);
        times_panel(&mut work.ds, head.values.row_range(0..width), &work.panel);
        softmax_gradient(&work.p, &mut work.ds, head.scale());
        let [p, ds] = [&work.p, &work.ds].map(|x| {
            // Without the lanes that have no query.
            Matrix::strided(x.as_flattened(), width, queries.len(), LANES)
        });
        let dq = &mut dq[queries.start * head_dim..];
        let keys = head.keys.row_range(0..width);
        product_into(dq, Output::replace(head_dim), ds.transposed(), keys);
        let q = head.queries.row_range(queries);
        product_into(dk, Output::add(head_dim), ds, q);
        product_into(dv, Output::add(head_dim), p, dout);
    }
}

/// `panel[column][lane] = rows[lane][column]`. Lanes behind the last row repeat it.
///
/// # Shapes
/// - `panel`: `[E, LANES]`; `halfway`: `[QUARTER * E, QUARTER]`
// In two steps of interleaving, which the compiler makes of loads, shuffles and stores of whole registers. A single step
// would store each number for itself, and take as long as a product.
#[multiversion(targets = "simd")]
fn lay_side_by_side(panel: &mut [[f32; LANES]], halfway: &mut [[f32; QUARTER]], rows: Matrix<'_>) {
    assert_eq!(rows.column_stride, 1, "rows without gaps");
    let width = rows.columns;
    let row = |lane: usize| row_of(rows, lane.min(rows.rows - 1));
    for (lane, fourth) in halfway.chunks_exact_mut(width).enumerate() {
        let lanes = [row(lane), row(lane + 4), row(lane + 8), row(lane + 12)];
        interleave(fourth, lanes);
    }
    let halfway = &*halfway;
    let fourth = |index: usize| halfway[index * width..][..width].as_flattened();
    let panel = panel.as_flattened_mut().as_chunks_mut::<QUARTER>().0;
    interleave(panel, [fourth(0), fourth(1), fourth(2), fourth(3)]);
}

/// Each entry gets the next number of each of the rows.
#[inline(always)]
fn interleave(out: &mut [[f32; QUARTER]], [a, b, c, d]: [&[f32]; QUARTER]) {
    let four = a.iter().zip(b).zip(c.iter().zip(d));
    for (out, ((a, b), (c, d))) in out.iter_mut().zip(four) {
        *out = [*a, *b, *c, *d];
    }
}

/// The softmax of each lane over the first `seen` scores, times a factor. Probabilities behind them are 0.
#[multiversion(targets = "simd")]
fn softmax(scores: &mut [[f32; LANES]], seen: &[u32; LANES], scale: f32) {
    let mut most = [f32::NEG_INFINITY; LANES];
    for (key, scores) in scores.iter().enumerate() {
        let key = key as u32;
        for ((most, score), seen) in most.iter_mut().zip(scores).zip(seen) {
            let score = if key < *seen {
                *score
            } else {
                f32::NEG_INFINITY
            };
            *most = most.max(score);
        }
    }
    // The largest becomes e^0, so that no exponential overflows and the sum is at least 1. Hidden scores may be larger:
    // `exp` clamps them, and what comes out is not used.
    let mut sums = [0.0_f32; LANES];
    for (key, scores) in scores.iter_mut().enumerate() {
        let key = key as u32;
        let lanes = most.iter().zip(&mut sums).zip(seen);
        for (score, ((most, sum), seen)) in scores.iter_mut().zip(lanes) {
            let power = exp((*score - most) * scale);
            let power = if key < *seen { power } else { 0.0 };
            *score = power;
            *sum += power;
        }
    }
    for sum in &mut sums {
        *sum = 1.0 / *sum;
    }
    for scores in scores {
        for (score, inverse) in scores.iter_mut().zip(&sums) {
            *score *= inverse;
        }
    }
}

/// Turns the gradient of probabilities into that of scores before their factor: `scale * p * (dp - sum(p * dp))`, with a
/// sum for each lane.
#[multiversion(targets = "simd")]
fn softmax_gradient(p: &[[f32; LANES]], dp: &mut [[f32; LANES]], scale: f32) {
    let mut along = [0.0_f32; LANES];
    for (p, dp) in p.iter().zip(dp.iter()) {
        for ((along, p), dp) in along.iter_mut().zip(p).zip(dp) {
            *along = p.mul_add(*dp, *along);
        }
    }
    // Keys that are not seen have p = 0, so their gradient is 0 without a mask.
    for (p, dp) in p.iter().zip(dp) {
        for ((dp, p), along) in dp.iter_mut().zip(p).zip(&along) {
            *dp = scale * p * (*dp - along);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    /// Half a unit in the last place of a number around 1.
    const HALF_UNIT: f64 = 1.0 / (1 << 24) as f64;

    fn at(matrix: Matrix<'_>, row: usize, column: usize) -> f64 {
        f64::from(matrix.data[row * matrix.row_stride + column * matrix.column_stride])
    }

    /// Compares a product of `[rows, inner, columns]`, where the rows of all matrices have gaps, and nothing lies behind
    /// the last one.
    fn check_product([rows, inner, columns]: [usize; 3], gap: usize, turned: bool) {
        let (lines, width) = if turned { (inner, rows) } else { (rows, inner) };
        let x = numbers(lines * (width + gap) - gap, 0.7);
        let a = Matrix::strided(&x, lines, width, width + gap);
        let a = if turned { a.transposed() } else { a };
        let stride = columns + gap;
        let y = numbers(inner * stride - gap, 1.3);
        let b = Matrix::strided(&y, inner, columns, stride);
        let before = numbers(rows * stride - gap, 0.3);
        for (add, factor) in [(false, 1.0_f32), (false, 0.5), (true, 1.0), (true, 0.5)] {
            let output = if add {
                Output::add(stride)
            } else {
                Output::replace(stride)
            };
            let mut got = before.clone();
            product_into(&mut got, output.scaled(factor), a, b);
            for (index, (got, before)) in got.iter().zip(&before).enumerate() {
                let (row, column) = (index / stride, index % stride);
                if column >= columns {
                    assert_eq!(got, before, "a gap");
                    continue;
                }
                let products = (0..inner).map(|k| at(a, row, k) * at(b, k, column));
                let size: f64 = products.clone().map(f64::abs).sum();
                let old = if add { f64::from(*before) } else { 0.0 };
                let expected = f64::from(factor) * products.sum::<f64>() + old;
                // In a float32 sum of n products, in any order, each product takes part in at most n + 1 roundings of
                // half a unit. The factor is a power of two; adding to what was there is one more.
                let bound = (inner + 3) as f64 * (size + old.abs()) * HALF_UNIT;
                let error = (f64::from(*got) - expected).abs();
                assert!(
                    error <= bound,
                    "{rows} x {inner} x {columns} at {index}: {got} for {expected}"
                );
            }
        }
    }

    /// Whole registers and less, in rows and columns; left factors by rows and by columns.
    #[test]
    fn products_are_those_of_exact_sums() {
        for size in (1..=65).step_by(2) {
            for sizes in [[size, 7, 21], [9, size, 20], [16, 5, size], [size; 3]] {
                for gap in [0, 3] {
                    check_product(sizes, gap, false);
                    check_product(sizes, gap, true);
                }
            }
        }
        // Those of heads.
        for sizes in [[16, 32, 16], [16, 16, 32], [28, 32, 16], [12, 28, 32]] {
            check_product(sizes, 4, false);
            check_product(sizes, 4, true);
        }
    }

    /// A row alone, and with others before and behind it.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (most, inner, columns) = (29, 33, 37);
        let (x, y) = (numbers(most * inner, 0.7), numbers(inner * columns, 1.3));
        let b = Matrix::new(&y, inner, columns);
        let by_columns = Matrix::new(&x, inner, most).transposed();
        for a in [Matrix::new(&x, most, inner), by_columns] {
            let product = |rows: Range<usize>| {
                let mut out = vec![9.0; rows.len() * columns];
                product_into(&mut out, Output::replace(columns), a.row_range(rows), b);
                out
            };
            let all = product(0..most);
            for end in 1..=most {
                assert_eq!(product(0..end), all[..end * columns], "{end} rows");
                assert_eq!(
                    product(end - 1..end),
                    all[(end - 1) * columns..end * columns]
                );
            }
        }
    }

    /// How many keys each position sees: causal, all, and causal with a range whose positions see each other.
    fn masks(positions: usize) -> [Vec<usize>; 3] {
        let mutual = positions / 4..positions - positions / 5;
        let seen = |position: usize| {
            if mutual.contains(&position) {
                mutual.end
            } else {
                position + 1
            }
        };
        [
            (1..=positions).collect(),
            vec![positions; positions],
            (0..positions).map(seen).collect(),
        ]
    }

    /// Queries, keys and values in double precision.
    #[derive(Clone)]
    struct Exact {
        numbers: [Vec<f64>; 3],
        head_dim: usize,
    }

    impl Exact {
        fn new(numbers: [&[f32]; 3], head_dim: usize) -> Self {
            let numbers = numbers.map(|x| x.iter().map(|x| f64::from(*x)).collect());
            Self { numbers, head_dim }
        }

        /// Attention by its formula.
        fn attend(&self, seen: &[usize]) -> Vec<f64> {
            let ([queries, keys, values], width) = (&self.numbers, self.head_dim);
            let mut all = vec![0.0; queries.len()];
            let rows = all.chunks_mut(width).zip(queries.chunks(width));
            for ((out, query), seen) in rows.zip(seen) {
                let weight = |key: &[f64]| {
                    let products = query.iter().zip(key).map(|(q, k)| q * k);
                    (products.sum::<f64>() / (width as f64).sqrt()).exp()
                };
                let weights: Vec<f64> = keys.chunks(width).take(*seen).map(weight).collect();
                let sum: f64 = weights.iter().sum();
                for (weight, value) in weights.iter().zip(values.chunks(width)) {
                    for (out, value) in out.iter_mut().zip(value) {
                        *out += weight / sum * value;
                    }
                }
            }
            all
        }
    }

    /// Numbers with `gap` others between their rows.
    fn with_gaps(numbers: &[f32], width: usize, gap: usize) -> Vec<f32> {
        let rows = numbers.chunks(width);
        let mut spread: Vec<f32> = rows
            .flat_map(|row| [row, &[7.0; 9][..gap]].concat())
            .collect();
        spread.truncate(spread.len() - gap);
        spread
    }

    /// The result of [`attend`], whose rows lie in a wider matrix, as its values do.
    fn attended(inputs: [&[f32]; 3], head_dim: usize, seen: &[usize]) -> Vec<f32> {
        let (positions, stride) = (seen.len(), head_dim + 5);
        let values = with_gaps(inputs[2], head_dim, 5);
        let values = Matrix::strided(&values, positions, head_dim, stride);
        let head = Head::new(inputs[0], inputs[1], values);
        let mut out = vec![9.0; positions * stride];
        // What other heads have left must not matter.
        let mut work = Scratch::default();
        work.p.resize(3, [f32::NAN; LANES]);
        work.panel.resize(200, [f32::NAN; LANES]);
        attend(&mut out, stride, head, |position| seen[position], &mut work);
        for row in out.chunks(stride) {
            assert_eq!(row[head_dim..], [9.0; 5], "a gap");
        }
        out.chunks(stride)
            .flat_map(|row| &row[..head_dim])
            .copied()
            .collect()
    }

    const SIZES: [[usize; 2]; 10] = [
        [1, 4],
        [2, 1],
        [5, 6],
        [15, 16],
        [16, 32],
        [17, 20],
        [28, 32],
        [33, 8],
        [64, 64],
        [64, 128],
    ];

    #[test]
    fn attention_is_its_formula() {
        for [positions, head_dim] in SIZES {
            let count = positions * head_dim;
            let [q, k, v] = [0.37, 0.7, 1.3].map(|seed| numbers(count, seed));
            let exact = Exact::new([&q, &k, &v], head_dim);
            // A sum of `head_dim` products of numbers up to 1 takes part in as many roundings, and the difference of two
            // scores, up to twice the width, in two more. Both are scaled then.
            let (width, root) = (head_dim as f64, (head_dim as f64).sqrt());
            let of_score = ((width + 2.0) * width + 4.0 * width) / root * HALF_UNIT;
            // A probability has the errors of its own score and of the others, of the exponential (two units), of a sum
            // and a division; the result those of another sum.
            let bound = 2.0 * of_score + (2 * positions + 16) as f64 * HALF_UNIT;
            for seen in masks(positions) {
                let got = attended([&q, &k, &v], head_dim, &seen);
                for (got, expected) in got.iter().zip(exact.attend(&seen)) {
                    let error = (f64::from(*got) - expected).abs();
                    assert!(
                        error <= bound,
                        "{positions} x {head_dim}, {seen:?}: {got} for {expected}"
                    );
                }
            }
        }
    }

    /// Against finite differences of the formula in double precision.
    #[test]
    fn gradients_are_slopes() {
        for [positions, head_dim] in [[1, 4], [5, 6], [9, 32], [17, 20], [28, 7]] {
            let count = positions * head_dim;
            let [q, k, v, dout] = [0.37, 0.7, 1.3, 2.9].map(|seed| numbers(count, seed));
            let [wide_v, wide_dout] = [&v, &dout].map(|x| with_gaps(x, head_dim, 3));
            let matrix = |x| Matrix::strided(x, positions, head_dim, head_dim + 3);
            let head = Head::new(&q, &k, matrix(&wide_v));
            for seen in masks(positions) {
                let mut got = [(); 3].map(|()| vec![7.0_f32; count]);
                let [dq, dk, dv] = &mut got;
                let mask = |position: usize| seen[position];
                let mut work = Scratch::default();
                gradients([dq, dk, dv], matrix(&wide_dout), head, mask, &mut work);
                let loss = |exact: &Exact| -> f64 {
                    let out = exact.attend(&seen);
                    out.iter().zip(&dout).map(|(x, d)| x * f64::from(*d)).sum()
                };
                let mut exact = Exact::new([&q, &k, &v], head_dim);
                for (which, got) in got.iter().enumerate() {
                    for (index, got) in got.iter().enumerate() {
                        let x = exact.numbers[which][index];
                        let [more, less] = [1e-5, -1e-5].map(|h| {
                            exact.numbers[which][index] = x + h;
                            loss(&exact)
                        });
                        exact.numbers[which][index] = x;
                        let slope = (more - less) / 2e-5;
                        // Roundings of 6e-8 in sums of at most 32 products, and in exponentials of scores of up to 6; the
                        // differences of the loss are exact to 1e-9.
                        let error = (f64::from(*got) - slope).abs();
                        assert!(
                            error <= 2e-5 * slope.abs().max(1.0),
                            "{positions} x {head_dim}, {seen:?}, {which} at {index}: {got} for {slope}"
                        );
                    }
                }
            }
        }
    }

    /// A causal document gives the same numbers as its beginning alone.
    #[test]
    fn a_position_does_not_depend_on_those_behind() {
        let (positions, head_dim) = (37, 20);
        let count = positions * head_dim;
        let [q, k, v] = [0.37, 0.7, 1.3].map(|seed| numbers(count, seed));
        let [seen, ..] = masks(positions);
        let all = attended([&q, &k, &v], head_dim, &seen);
        for end in 1..positions {
            let first = [&q, &k, &v].map(|x| &x[..end * head_dim]);
            let got = attended(first, head_dim, &seen[..end]);
            assert_eq!(got, all[..end * head_dim], "{end} positions");
        }
    }

    /// Scores far apart, and hidden ones far larger, neither overflow nor leak.
    #[test]
    fn large_scores_are_shifted() {
        let q = [30.0, 30.0, 30.0];
        let k = [-30.0, 1.0, 30.0];
        let v = [1.0, 2.0, 4.0];
        let got = attended([&q, &k, &v], 1, &[1, 2, 3]);
        // The scores -900, 30 and 900: each position that sees a larger one sees nothing else.
        assert_eq!(got, [1.0, 2.0, 4.0]);
    }

    #[test]
    fn it_is_for_short_documents() {
        assert_eq!(pays(64, 128), has_registers());
        assert_eq!(pays(1, 1), has_registers());
        assert!(!pays(65, 32) && !pays(16, 129) && !pays(0, 32) && !pays(16, 0));
    }
}
