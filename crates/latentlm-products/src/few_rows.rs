//! Products of a few rows with a large float32 matrix, on all threads: as fast as the memory gives the matrix. gemm
//! multiplies a row or two on one thread, which cannot take all that the memory gives; of a few more it reads 64 columns at
//! a time, pieces that lie memory pages apart, so that the processor prefetches nothing.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::blocks::column_blocks;

/// Most rows of the plain loops.
const PLAIN_ROWS: usize = 4;
/// Most rows. The memory gives the matrix in about the time that two cores take to multiply it with so many.
const ROWS: usize = 12;
/// Smallest matrix, in numbers: 4 MB, more than a core's caches hold.
const LEAST: usize = 1 << 20;
/// Columns of a block: two pages of each row of the matrix, so that the processor prefetches them.
const COLUMNS: usize = 2048;
/// The same for more rows than [`PLAIN_ROWS`]: a page, so that the rows of the matrix that are added at once and a group of
/// the product's rows fit in the first-level cache.
const COLUMNS_OF_MANY: usize = 1024;
/// Rows of the matrix that are added at once.
const AT_ONCE: usize = 4;
/// Rows of the product that are added to at once, so that numbers of the matrix are loaded once for all of them.
const GROUP: usize = 4;
/// Numbers of the widest register.
const LANES: usize = 16;

/// Whether [`product`] is the way for a product of these sizes.
// It does not depend on the number of threads, so that results don't.
#[inline]
pub fn pays(rows: usize, inputs: usize, outputs: usize) -> bool {
    let most = if has_fused() { ROWS } else { PLAIN_ROWS };
    (1..=most).contains(&rows) && inputs * outputs >= LEAST
}

/// Whether the processor multiplies and adds by one instruction. Without it, `mul_add` is a slow call.
fn has_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    cfg!(target_arch = "aarch64")
}

/// `x weight`.
///
/// # Shapes
/// - `x`: `[N, inputs]`; `weight`: `[inputs, outputs]`
/// - result: `[N, outputs]`
///
/// # Panics
/// If the number of `weight`'s numbers does not fit.
pub fn product(x: &[f32], weight: &[f32], inputs: usize, outputs: usize) -> Vec<f32> {
    let rows = x.len().checked_div(inputs).unwrap_or(0);
    let mut out = vec![0.0; rows * outputs];
    add_product(&mut out, x, weight, [inputs, outputs]);
    out
}

/// `out = x weight`, as [`product`].
///
/// # Panics
/// If the number of `weight`'s numbers, or that of `out`'s, does not fit.
pub(crate) fn product_over(out: &mut [f32], x: &[f32], weight: &[f32], sizes: [usize; 2]) {
    out.fill(0.0);
    add_product(out, x, weight, sizes);
}

fn add_product(out: &mut [f32], x: &[f32], weight: &[f32], [inputs, outputs]: [usize; 2]) {
    assert_eq!(weight.len(), inputs * outputs, "a matrix's numbers");
    if weight.is_empty() {
        return;
    }
    let rows = x.len() / inputs;
    assert_eq!(out.len(), rows * outputs, "the product's size");
    let (columns, add) = if rows > PLAIN_ROWS {
        (COLUMNS_OF_MANY, add_columns_to_groups as AddColumns)
    } else {
        (COLUMNS, add_columns as AddColumns)
    };
    let threads = rayon::current_num_threads();
    let count = outputs.div_ceil(columns).next_multiple_of(threads);
    let step = outputs.div_ceil(count).next_multiple_of(LANES);
    let blocks = column_blocks(out, outputs, step);
    blocks
        .into_par_iter()
        .enumerate()
        .for_each(|(index, mut block)| {
            add(&mut block, x, &weight[index * step..], inputs, outputs);
        });
}

/// [`add_columns`].
type AddColumns = fn(&mut [&mut [f32]], &[f32], &[f32], usize, usize);

/// Adds the product with as many columns of the matrix as a row of `out` has numbers. `weight` begins with the first
/// of them. The order of sums does not depend on how columns are cut into blocks.
#[multiversion(targets = "simd")]
fn add_columns(out: &mut [&mut [f32]], x: &[f32], weight: &[f32], inputs: usize, outputs: usize) {
    let columns = out.first().map_or(0, |row| row.len());
    let line = |input: usize| &weight[input * outputs..][..columns];
    let whole = inputs - inputs % AT_ONCE;
    for input in (0..whole).step_by(AT_ONCE) {
        let [first, second, third, fourth] = [0, 1, 2, 3].map(|more| line(input + more));
        for (out, x) in out.iter_mut().zip(x.chunks_exact(inputs)) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|more| x[input + more]);
            let left = first.iter().zip(second);
            let right = third.iter().zip(fourth);
            for (out, ((first, second), (third, fourth))) in out.iter_mut().zip(left.zip(right)) {
                *out += (a * first + b * second) + (c * third + d * fourth);
            }
        }
    }
    for input in whole..inputs {
        let line = line(input);
        for (out, x) in out.iter_mut().zip(x.chunks_exact(inputs)) {
            for (out, weight) in out.iter_mut().zip(line) {
                *out += x[input] * weight;
            }
        }
    }
}

/// [`add_columns`] for more rows, with one instruction for a product and its sum. The numbers of a row do not depend on the
/// other rows.
#[multiversion(targets = "simd")]
fn add_columns_to_groups(
    out: &mut [&mut [f32]],
    x: &[f32],
    weight: &[f32],
    inputs: usize,
    outputs: usize,
) {
    let columns = out.first().map_or(0, |row| row.len());
    let line = |input: usize| &weight[input * outputs..][..columns];
    let whole = inputs - inputs % AT_ONCE;
    for input in (0..whole).step_by(AT_ONCE) {
        let lines = [0, 1, 2, 3].map(|more| line(input + more));
        for (rows, x) in out.chunks_mut(GROUP).zip(x.chunks(GROUP * inputs)) {
            let factors = |row: usize| [0, 1, 2, 3].map(|more| x[row * inputs + input + more]);
            if let Ok(rows) = <&mut [&mut [f32]; GROUP]>::try_from(&mut *rows) {
                add_lines(rows, [0, 1, 2, 3].map(factors), lines);
                continue;
            }
            for (index, row) in rows.iter_mut().enumerate() {
                add_lines(std::array::from_mut(row), [factors(index)], lines);
            }
        }
    }
    for input in whole..inputs {
        let line = line(input);
        for (out, x) in out.iter_mut().zip(x.chunks_exact(inputs)) {
            for (out, weight) in out.iter_mut().zip(line) {
                *out = x[input].mul_add(*weight, *out);
            }
        }
    }
}

/// Adds rows of the matrix to rows of the product, each times a factor.
// The loop over lanes stands innermost and works on arrays of its own: the compiler knows that they do not overlap.
#[inline(always)]
fn add_lines<const R: usize>(
    rows: &mut [&mut [f32]; R],
    factors: [[f32; AT_ONCE]; R],
    lines: [&[f32]; AT_ONCE],
) {
    let columns = lines[0].len();
    let whole = columns - columns % LANES;
    for at in (0..whole).step_by(LANES) {
        let mut weights = [[0.0_f32; LANES]; AT_ONCE];
        for (own, line) in weights.iter_mut().zip(lines) {
            own.copy_from_slice(&line[at..at + LANES]);
        }
        for (row, factors) in rows.iter_mut().zip(factors) {
            let mut sums = [0.0_f32; LANES];
            sums.copy_from_slice(&row[at..at + LANES]);
            for (factor, weights) in factors.iter().zip(&weights) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum = factor.mul_add(*weight, *sum);
                }
            }
            row[at..at + LANES].copy_from_slice(&sums);
        }
    }
    for at in whole..columns {
        for (row, factors) in rows.iter_mut().zip(factors) {
            for (factor, line) in factors.iter().zip(lines) {
                row[at] = factor.mul_add(line[at], row[at]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::ThreadPoolBuilder;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    /// Several blocks and one, inputs that are no multiple of those added at once; on one thread and on several.
    #[test]
    fn products_are_those_of_exact_sums() {
        for (rows, inputs, outputs) in [
            (1, 9, 5000),
            (3, 50, 2049),
            (4, 131, 7),
            (2, 1, 33),
            (5, 9, 5000),
            (8, 131, 1041),
            (11, 50, 33),
            (12, 3, 7),
        ] {
            let (x, w) = (numbers(rows * inputs, 0.7), numbers(inputs * outputs, 1.3));
            let got = product(&x, &w, inputs, outputs);
            assert_eq!(got.len(), rows * outputs);
            for (index, got) in got.iter().enumerate() {
                let (row, output) = (index / outputs, index % outputs);
                let products = (0..inputs)
                    .map(|k| f64::from(x[row * inputs + k]) * f64::from(w[k * outputs + output]));
                let size: f64 = products.clone().map(f64::abs).sum();
                let expected: f64 = products.sum();
                // In a float32 sum of n products, in any order, each product takes part in at most n + 1 roundings of
                // half a unit, 2^-24.
                let bound = (inputs + 2) as f64 * size / f64::from(1 << 24);
                let error = (f64::from(*got) - expected).abs();
                assert!(
                    error <= bound,
                    "{rows} x {inputs} x {outputs} at {index}: {got} for {expected}"
                );
            }
            for threads in [1, 3] {
                let pool = ThreadPoolBuilder::new().num_threads(threads).build();
                let pool = pool.expect("a few threads");
                assert_eq!(pool.install(|| product(&x, &w, inputs, outputs)), got);
            }
        }
    }

    #[test]
    fn it_is_for_few_rows_and_large_matrices() {
        assert!(pays(1, 1024, 1024) && pays(4, 1536, 8960));
        assert!(!pays(0, 1024, 1024) && !pays(13, 1024, 1024) && !pays(1, 1023, 1024));
        assert_eq!(pays(12, 1024, 1024), has_fused());
    }

    /// A row alone in its group, and with others.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (inputs, outputs) = (50, 2050);
        let (x, w) = (numbers(12 * inputs, 0.7), numbers(inputs * outputs, 1.3));
        let expected = product(&x, &w, inputs, outputs);
        for rows in PLAIN_ROWS + 1..12 {
            let got = product(&x[..rows * inputs], &w, inputs, outputs);
            assert_eq!(got, expected[..rows * outputs], "{rows} rows");
        }
    }
}
