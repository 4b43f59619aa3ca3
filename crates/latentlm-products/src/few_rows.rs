//! Products of a few rows with a large float32 matrix, on all threads: as fast as the memory gives the matrix. gemm
//! multiplies a row or two on one thread, which cannot take all that the memory gives.

use multiversion::multiversion;
use rayon::prelude::*;

use crate::blocks::column_blocks;

/// Most rows. With more, gemm's products use threads too.
const ROWS: usize = 4;
/// Smallest matrix, in numbers: 4 MB, more than a core's caches hold.
const LEAST: usize = 1 << 20;
/// Columns of a block: two pages of each row of the matrix, so that the processor prefetches them.
const COLUMNS: usize = 2048;
/// Rows of the matrix that are added at once.
const AT_ONCE: usize = 4;
/// Numbers of the widest register.
const LANES: usize = 16;

/// Whether [`product`] is the way for a product of these sizes.
// It does not depend on the number of threads, so that results don't.
#[inline]
pub fn pays(rows: usize, inputs: usize, outputs: usize) -> bool {
    (1..=ROWS).contains(&rows) && inputs * outputs >= LEAST
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
    assert_eq!(weight.len(), inputs * outputs, "a matrix's numbers");
    if inputs == 0 || outputs == 0 {
        return Vec::new();
    }
    let mut out = vec![0.0; x.len() / inputs * outputs];
    let threads = rayon::current_num_threads();
    let count = outputs.div_ceil(COLUMNS).next_multiple_of(threads);
    let step = outputs.div_ceil(count).next_multiple_of(LANES);
    let blocks = column_blocks(&mut out, outputs, step);
    blocks
        .into_par_iter()
        .enumerate()
        .for_each(|(index, mut block)| {
            add_columns(&mut block, x, &weight[index * step..], inputs, outputs);
        });
    out
}

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
        for (rows, inputs, outputs) in [(1, 9, 5000), (3, 50, 2049), (4, 131, 7), (2, 1, 33)] {
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
        assert!(!pays(0, 1024, 1024) && !pays(5, 1024, 1024) && !pays(1, 1023, 1024));
    }
}
