//! Products of a few rows with a large float32 matrix, on all threads: as fast as the memory gives the matrix. gemm
//! multiplies a row or two on one thread, which cannot take all that the memory gives; of a few more it reads 64 columns at
//! a time, pieces that lie memory pages apart, so that the processor prefetches nothing. Here the next rows of the matrix are
//! asked for while these are multiplied.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::array::from_fn;

use multiversion::multiversion;
use rayon::prelude::*;

use crate::blocks::column_blocks;
use crate::matrix::PARALLEL;

/// Most rows where a product and its sum take two instructions.
const PLAIN_ROWS: usize = 4;
/// Most rows. The memory gives the matrix in about the time that two cores take to multiply it with so many.
const ROWS: usize = 12;
/// Most rows where registers are wide and many. They multiply as fast as gemm's loops, which read 64 columns of such a matrix
/// anew for every six rows: if rows of the matrix lie a power of two apart, no cache has kept them.
const ROWS_OF_WIDE: usize = 48;
/// Smallest matrix, in numbers: 4 MB, more than a core's caches hold.
const LEAST: usize = 1 << 20;
/// Smallest matrix for so few rows that gemm multiplies them on one thread, see [`PARALLEL`].
const LEAST_ALONE: usize = 1 << 19;
/// Sums of a block of columns: 16 KB, which stay in the first-level cache beside the rows of the matrix that are added. With
/// many rows they are 24 KB.
const SUMS: usize = 1 << 12;
/// Most columns of a block: two pages of each row of the matrix.
const COLUMNS: usize = 2048;
/// Fewest columns of a block, if the matrix has so many: with fewer, more time goes into beginning a row of them.
const LEAST_COLUMNS: usize = 128;
/// Rows of the matrix that are added at once.
const AT_ONCE: usize = 4;
/// Rows of the product that are added to at once, so that numbers of the matrix are loaded once for all of them.
const GROUP: usize = 4;
/// Numbers of the widest register: those of a cache line.
const LANES: usize = 16;

/// Whether [`product`] is the way for a product of these sizes.
// It does not depend on the number of threads, so that results don't.
#[inline]
pub fn pays(rows: usize, inputs: usize, outputs: usize) -> bool {
    let most = match (has_fused(), has_wide_registers()) {
        (true, true) => ROWS_OF_WIDE,
        (true, false) => ROWS,
        (false, _) => PLAIN_ROWS,
    };
    let numbers = inputs * outputs;
    let least = if rows * numbers < PARALLEL {
        LEAST_ALONE
    } else {
        LEAST
    };
    (1..=most).contains(&rows) && numbers >= least
}

/// Whether the processor multiplies and adds by one instruction. Without it, `mul_add` is a slow call.
fn has_fused() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    cfg!(target_arch = "aarch64")
}

/// Whether the loops are compiled for registers of [`LANES`] numbers: by AVX-512, which also has enough of them for all
/// factors of a group.
fn has_wide_registers() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    #[cfg(not(target_arch = "x86_64"))]
    false
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
    product_over(&mut out, x, weight, [inputs, outputs]);
    out
}

/// `out = x weight`, as [`product`].
///
/// # Panics
/// If the number of `weight`'s numbers, or that of `out`'s, does not fit.
pub(crate) fn product_over(out: &mut [f32], x: &[f32], weight: &[f32], sizes: [usize; 2]) {
    product_by(out, x, weight, sizes, has_fused());
}

/// [`product_over`]. If `fused`, a product and its sum are one instruction, and rounded once.
fn product_by(
    out: &mut [f32],
    x: &[f32],
    weight: &[f32],
    [inputs, outputs]: [usize; 2],
    fused: bool,
) {
    assert_eq!(weight.len(), inputs * outputs, "a matrix's numbers");
    if weight.is_empty() {
        return out.fill(0.0);
    }
    let rows = x.len() / inputs;
    assert_eq!(out.len(), rows * outputs, "the product's size");
    if rows == 0 {
        return;
    }
    let step = columns_of_a_block(rows, outputs);
    let blocks = column_blocks(out, outputs, step).into_par_iter();
    // Each block is a task: a thread that comes late leaves its blocks to the others.
    let blocks = blocks.enumerate().with_max_len(1);
    blocks.for_each(|(index, mut block)| {
        let columns = block[0].len();
        let part = Part {
            x,
            inputs,
            weight: &weight[index * step..],
            outputs,
            columns,
        };
        // Sums have memory of their own. Rows of `out` may lie a power of two apart, and the first-level cache keeps only a
        // few numbers at such distances.
        let mut sums = vec![0.0; rows * columns];
        add_product(part, &mut sums, fused);
        for (out, sums) in block.iter_mut().zip(sums.chunks_exact(columns)) {
            out.copy_from_slice(sums);
        }
    });
}

/// Columns of a block: whole cache lines, and as many blocks for each thread.
fn columns_of_a_block(rows: usize, outputs: usize) -> usize {
    let most = (SUMS / rows).clamp(LEAST_COLUMNS, COLUMNS);
    let threads = rayon::current_num_threads();
    let count = outputs.div_ceil(most).next_multiple_of(threads);
    outputs.div_ceil(count).next_multiple_of(LANES)
}

/// Some columns of the matrix, and the rows that are multiplied with them.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// `[rows, inputs]`
    x: &'a [f32],
    inputs: usize,
    /// The matrix from the first of the columns on.
    weight: &'a [f32],
    /// Numbers from one row of the matrix to the next.
    outputs: usize,
    columns: usize,
}

/// Adds the product to `sums`, `[rows, columns]`. The numbers of a row depend neither on the other rows nor on how columns are
/// cut into blocks.
#[multiversion(targets = "simd")]
fn add_product(part: Part<'_>, sums: &mut [f32], fused: bool) {
    if fused {
        part.add_all::<true>(sums);
    } else {
        part.add_all::<false>(sums);
    }
}

impl<'a> Part<'a> {
    /// The part's columns of a row of the matrix.
    #[inline(always)]
    fn line(self, input: usize) -> &'a [f32] {
        &self.weight[input * self.outputs..][..self.columns]
    }

    #[inline(always)]
    fn add_all<const FUSED: bool>(self, sums: &mut [f32]) {
        let whole = self.inputs - self.inputs % AT_ONCE;
        for input in (0..whole).step_by(AT_ONCE) {
            let groups = sums.chunks_mut(GROUP * self.columns);
            let groups = groups.zip(self.x.chunks(GROUP * self.inputs));
            for (index, (sums, x)) in groups.enumerate() {
                // The first group asks for memory for all.
                if index == 0 {
                    self.add_group::<FUSED, true>(sums, x, input);
                } else {
                    self.add_group::<FUSED, false>(sums, x, input);
                }
            }
        }
        for input in whole..self.inputs {
            let line = self.line(input);
            let rows = sums.chunks_exact_mut(self.columns);
            for (sums, x) in rows.zip(self.x.chunks_exact(self.inputs)) {
                for (sum, weight) in sums.iter_mut().zip(line) {
                    *sum = multiplied_and_added::<FUSED>(x[input], *weight, *sum);
                }
            }
        }
    }

    /// Adds [`AT_ONCE`] rows of the matrix, from `input` on, to at most [`GROUP`] rows of sums.
    #[inline(always)]
    fn add_group<const FUSED: bool, const ASKS: bool>(
        self,
        sums: &mut [f32],
        x: &[f32],
        input: usize,
    ) {
        match sums.len() / self.columns {
            1 => self.add_lines::<1, FUSED, ASKS>(sums, x, input),
            2 => self.add_lines::<2, FUSED, ASKS>(sums, x, input),
            3 => self.add_lines::<3, FUSED, ASKS>(sums, x, input),
            _ => self.add_lines::<GROUP, FUSED, ASKS>(sums, x, input),
        }
    }

    /// [`Self::add_group`] for `R` rows, each times numbers of a row of `x`. If `ASKS`, the rows of the matrix that are next are
    /// asked for.
    // The loop over lanes stands innermost and works on arrays of its own: the compiler knows that they do not overlap.
    #[inline(always)]
    fn add_lines<const R: usize, const FUSED: bool, const ASKS: bool>(
        self,
        sums: &mut [f32],
        x: &[f32],
        input: usize,
    ) {
        let lines = [0, 1, 2, 3].map(|more| self.line(input + more));
        let factors: [[f32; AT_ONCE]; R] =
            from_fn(|row| [0, 1, 2, 3].map(|more| x[row * self.inputs + input + more]));
        let mut each = sums.chunks_exact_mut(self.columns);
        let mut rows: [&mut [f32]; R] = from_fn(|_| each.next().expect("the caller counts rows"));
        let count = self.columns / LANES;
        let registers = lines.map(|line| &line.as_chunks::<LANES>().0[..count]);
        let mut row_registers = rows.each_mut().map(|row| {
            let (registers, _) = row.as_chunks_mut::<LANES>();
            &mut registers[..count]
        });
        for at in 0..count {
            let mut weights = [[0.0_f32; LANES]; AT_ONCE];
            for (own, registers) in weights.iter_mut().zip(registers) {
                *own = registers[at];
                if ASKS {
                    // What is multiplied next with the same sums.
                    ask_for(registers[at].as_ptr().wrapping_add(AT_ONCE * self.outputs));
                }
            }
            for (row, factors) in row_registers.iter_mut().zip(factors) {
                let mut sums = row[at];
                for (factor, weights) in factors.iter().zip(&weights) {
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = multiplied_and_added::<FUSED>(*factor, *weight, *sum);
                    }
                }
                row[at] = sums;
            }
        }
        for at in count * LANES..self.columns {
            for (row, factors) in rows.iter_mut().zip(factors) {
                for (factor, line) in factors.iter().zip(lines) {
                    row[at] = multiplied_and_added::<FUSED>(*factor, line[at], row[at]);
                }
            }
        }
    }
}

/// `a b + c`, rounded once if `FUSED`.
#[inline(always)]
fn multiplied_and_added<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Asks the memory for a cache line, which goes to the second-level cache. Nobody waits for it.
#[inline(always)]
#[allow(unsafe_code)]
fn ask_for(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch reads nothing, wherever it points.
    unsafe {
        _mm_prefetch::<_MM_HINT_T1>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::ThreadPoolBuilder;

    fn numbers(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * seed).sin()).collect()
    }

    /// Several blocks and one, inputs that are no multiple of those added at once, all numbers of rows in a group; with fused
    /// instructions and without; on one thread and on several.
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
            (13, 17, 301),
            (40, 33, 260),
            (48, 6, 128),
        ] {
            let (x, w) = (numbers(rows * inputs, 0.7), numbers(inputs * outputs, 1.3));
            for fused in [true, false] {
                let run = || {
                    let mut out = vec![9.0; rows * outputs];
                    product_by(&mut out, &x, &w, [inputs, outputs], fused);
                    out
                };
                let got = run();
                for (index, got) in got.iter().enumerate() {
                    let (row, output) = (index / outputs, index % outputs);
                    let products = (0..inputs).map(|k| {
                        f64::from(x[row * inputs + k]) * f64::from(w[k * outputs + output])
                    });
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
                    assert_eq!(pool.expect("a few threads").install(run), got);
                }
            }
        }
    }

    /// No rows, no inputs, no outputs.
    #[test]
    fn products_of_nothing_are_zeros() {
        assert!(product(&[], &[1.0, 2.0], 1, 2).is_empty());
        assert!(product(&[1.0], &[], 1, 0).is_empty());
        let mut out = [9.0; 4];
        product_over(&mut out, &[], &[], [0, 2]);
        assert_eq!(out, [0.0; 4]);
    }

    #[test]
    fn it_is_for_few_rows_and_large_matrices() {
        assert!(pays(1, 1024, 1024) && pays(4, 1536, 8960));
        assert!(!pays(0, 1024, 1024) && !pays(49, 1024, 1024) && !pays(1, 511, 1024));
        // gemm multiplies 6 rows on one thread, 7 on all.
        assert!(pays(1, 1023, 1024) && !pays(7, 1023, 1024));
        assert_eq!(pays(6, 1023, 1024), has_fused());
        assert_eq!(pays(12, 1024, 1024), has_fused());
        let wide = has_fused() && has_wide_registers();
        for rows in [13, 48] {
            assert_eq!(pays(rows, 1024, 1024), wide, "{rows} rows");
        }
    }

    /// A row alone in its group, and with others.
    #[test]
    fn a_row_does_not_depend_on_its_neighbours() {
        let (inputs, outputs) = (50, 2050);
        let (x, w) = (numbers(48 * inputs, 0.7), numbers(inputs * outputs, 1.3));
        let expected = product(&x, &w, inputs, outputs);
        for rows in 1..48 {
            let got = product(&x[..rows * inputs], &w, inputs, outputs);
            assert_eq!(got, expected[..rows * outputs], "{rows} rows");
        }
    }
}
