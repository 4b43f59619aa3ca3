//! Loops over rows on all threads.
//!
//! `multiversion` compiles a function for several sets of vector instructions and picks one at run time. A
//! closure takes over the instructions of the function that it is written in, a helper that calls the
//! closure does not, not even if it is inlined (docs/log.md, 2026-11-25). So the loop over the numbers of a
//! row must stand in the closure, and the closure in a function marked `#[multiversion]`.

use std::ops::Range;

use multiversion::multiversion;
use rayon::prelude::*;

/// Numbers of a task: enough that handing the task to a thread costs little beside the work.
// Tasks of four times as many brought nothing that could be told from noise (docs/log.md, 2026-11-23).
const NUMBERS_A_TASK: usize = 8 * 1024;

/// Rows of a task, for rows of `width` numbers.
#[inline]
pub fn rows_a_task(width: usize) -> usize {
    NUMBERS_A_TASK.div_ceil(width.max(1))
}

/// Calls `row(index, out)` for each row of `width` numbers of `out`.
pub fn each_row(out: &mut [f32], width: usize, row: impl Fn(usize, &mut [f32]) + Sync) {
    let step = rows_a_task(width);
    out.par_chunks_mut(step * width)
        .enumerate()
        .for_each(|(task, rows)| {
            for (index, out) in rows.chunks_exact_mut(width).enumerate() {
                row(task * step + index, out);
            }
        });
}

/// Numbers in rows of equal width.
#[derive(Debug)]
pub struct Rows<'a> {
    /// The rows, one after the other.
    pub numbers: &'a mut [f32],
    /// Numbers of a row.
    pub width: usize,
}

/// Calls `row(index, a, b)` for each row of two results with as many rows.
pub fn each_row_of_two(
    a: Rows<'_>,
    b: Rows<'_>,
    row: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let step = rows_a_task(a.width);
    a.numbers
        .par_chunks_mut(step * a.width)
        .zip(b.numbers.par_chunks_mut(step * b.width))
        .enumerate()
        .for_each(|(task, (a_rows, b_rows))| {
            let a_rows = a_rows.chunks_exact_mut(a.width);
            let rows = a_rows.zip(b_rows.chunks_exact_mut(b.width));
            for (index, (a, b)) in rows.enumerate() {
                row(task * step + index, a, b);
            }
        });
}

/// Calls `piece(a, b, c)` for pieces of three arrays of one length, on all threads. What a piece holds at one index is
/// what the arrays hold at one index.
pub fn each_piece_of_three(
    [a, b, c]: [&mut [f32]; 3],
    piece: impl Fn(&mut [f32], &mut [f32], &mut [f32]) + Sync,
) {
    let others = b.par_chunks_mut(NUMBERS_A_TASK);
    let others = others.zip(c.par_chunks_mut(NUMBERS_A_TASK));
    a.par_chunks_mut(NUMBERS_A_TASK)
        .zip(others)
        .for_each(|(a, (b, c))| piece(a, b, c));
}

/// A sum over `count` rows: `add(index, sum)` adds a row to a sum of `width` numbers. Each task has a sum
/// of its own, and these are added in order, so that the result does not depend on the threads.
pub fn sum_rows(count: usize, width: usize, add: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f32> {
    // How rows are cut into tasks follows from their number and width alone. With a sum for each thread the
    // order of additions would change from run to run.
    let step = rows_a_task(width);
    let sums: Vec<Vec<f32>> = (0..count.div_ceil(step))
        .into_par_iter()
        .map(|task| {
            let mut sum = vec![0.0; width];
            for index in task * step..((task + 1) * step).min(count) {
                add(index, &mut sum);
            }
            sum
        })
        .collect();
    let mut total = vec![0.0; width];
    for sum in sums {
        for (total, x) in total.iter_mut().zip(sum) {
            *total += x;
        }
    }
    total
}

/// Calls `row(index, out, sum)` for each row of `width` numbers of `out`: it writes the row and adds to a sum of
/// `sum_width` numbers. The sums of tasks are added in order, as by [`sum_rows`].
pub fn each_row_and_sum(
    out: &mut [f32],
    width: usize,
    sum_width: usize,
    row: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    // A sum may have several times as many numbers as a row. Clearing it and adding it to the others must cost little
    // beside the rows of a task.
    const LEAST_ROWS: usize = 64;
    let step = rows_a_task(width).max(LEAST_ROWS);
    let sums: Vec<Vec<f32>> = out
        .par_chunks_mut(step * width)
        .enumerate()
        .map(|(task, rows)| {
            let mut sum = vec![0.0; sum_width];
            for (index, out) in rows.chunks_exact_mut(width).enumerate() {
                row(task * step + index, out, &mut sum);
            }
            sum
        })
        .collect();
    let mut total = vec![0.0; sum_width];
    for sum in &sums {
        add(&mut total, sum);
    }
    total
}

/// `sum += x`, number by number.
#[multiversion(targets = "simd")]
pub fn add(sum: &mut [f32], x: &[f32]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += x;
    }
}

/// The sum of the rows of `x`, each of `width` numbers. Tasks are added in order, as by [`sum_rows`].
pub fn sum_of_rows(x: &[f32], width: usize) -> Vec<f32> {
    let wide = width * wide_rows(width);
    if wide == 0 {
        return Vec::new();
    }
    let (whole, rest) = x.split_at(x.len() - x.len() % wide);
    let sums = sum_of_wide_rows(whole, wide);
    let mut total = vec![0.0; width];
    for row in sums.chunks_exact(width).chain(rest.chunks_exact(width)) {
        for (total, x) in total.iter_mut().zip(row) {
            *total += x;
        }
    }
    total
}

#[multiversion(targets = "simd")]
fn sum_of_wide_rows(x: &[f32], width: usize) -> Vec<f32> {
    sum_rows(x.len() / width, width, |index, sum| {
        for (sum, x) in sum.iter_mut().zip(&x[index * width..]) {
            *sum += x;
        }
    })
}

/// How many rows are taken for one: as many as fill a few of the widest vector registers.
// A row of fewer numbers than a register has would be added number by number.
fn wide_rows(width: usize) -> usize {
    const WIDE: usize = 64;
    WIDE.div_ceil(width.max(1))
}

/// Adds a bias to each row, on all threads.
pub fn add_to_rows(rows: &mut [f32], bias: &[f32]) {
    let task = rows_a_task(bias.len()) * bias.len();
    rows.par_chunks_mut(task.max(1))
        .for_each(|rows| add_bias(rows, bias));
}

/// Adds a bias to each row, on this thread.
pub fn add_bias(rows: &mut [f32], bias: &[f32]) {
    let together = wide_rows(bias.len());
    // Repeating a narrow bias is worth it for many rows.
    if together == 1 || rows.len() < together * together * bias.len() {
        add_wide_bias(rows, bias);
    } else {
        add_wide_bias(rows, &bias.repeat(together));
    }
}

/// Adds a bias to each row; the last row may be cut off.
#[multiversion(targets = "simd")]
fn add_wide_bias(rows: &mut [f32], bias: &[f32]) {
    for row in rows.chunks_mut(bias.len()) {
        for (x, bias) in row.iter_mut().zip(bias) {
            *x += bias;
        }
    }
}

/// Cuts `rows` into `count` consecutive ranges of about the same length.
pub fn cut(rows: usize, count: usize) -> Vec<Range<usize>> {
    (0..count)
        .map(|index| index * rows / count..(index + 1) * rows / count)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of one task and of several: each is written, and in the sum, whatever the number of threads.
    #[test]
    fn rows_are_written_and_summed() {
        for (count, width) in [(1, 1), (20_001, 1), (613, 67), (130, 300)] {
            let run = || {
                let mut out = vec![9.0; count * width];
                let sums = each_row_and_sum(&mut out, width, 2, |index, out, sum| {
                    out.fill(index as f32);
                    sum[0] += 1.0;
                    sum[1] += index as f32 / 1024.0;
                });
                (out, sums)
            };
            let (out, sums) = run();
            for (index, row) in out.chunks(width).enumerate() {
                assert!(row.iter().all(|x| *x == index as f32), "row {index}");
            }
            assert_eq!(sums[0], count as f32);
            let expected = (count * (count - 1) / 2) as f64 / 1024.0;
            // The sum of at most 20,001 numbers, in tasks: 1e-4 is more than their roundings.
            let error = f64::from(sums[1]) - expected;
            assert!(error.abs() <= 1e-4 * expected.max(1.0), "{error}");
            let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
            assert_eq!(pool.expect("three threads").install(run), (out, sums));
        }
    }

    /// Arrays of one task and of several, the last piece short.
    #[test]
    fn pieces_of_three_arrays_lie_side_by_side() {
        for count in [0, 1, 20_001] {
            let numbers = |factor: f32| (0..count).map(move |i| factor * i as f32);
            let [mut a, mut b, mut c] = [1.0, 2.0, 3.0].map(|f| numbers(f).collect::<Vec<f32>>());
            each_piece_of_three([&mut a, &mut b, &mut c], |a, b, c| {
                for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                    (*a, *b, *c) = (*b, *c, *a);
                }
            });
            // Whole numbers, so all products are exact.
            for (got, factor) in [(a, 2.0), (b, 3.0), (c, 1.0)] {
                assert_eq!(got, numbers(factor).collect::<Vec<f32>>());
            }
        }
    }

    /// Rows of one task and of several, the last one short; narrower than a vector register, and wider.
    #[test]
    fn every_row_gets_the_bias_and_is_in_the_sum() {
        for (count, width) in [(1, 1), (20_001, 1), (3001, 8), (7, 5), (613, 67)] {
            let x: Vec<f32> = (0..count * width).map(|i| (i as f32 * 0.7).sin()).collect();
            let bias: Vec<f32> = (0..width).map(|i| i as f32 - 2.5).collect();
            let mut shifted = x.clone();
            add_to_rows(&mut shifted, &bias);
            for (index, (got, x)) in shifted.iter().zip(&x).enumerate() {
                assert_eq!(
                    *got,
                    x + bias[index % width],
                    "{count} x {width} at {index}"
                );
            }
            let sums = sum_of_rows(&x, width);
            assert_eq!(sums.len(), width);
            for (column, got) in sums.iter().enumerate() {
                let column = x.iter().skip(column).step_by(width);
                let (sum, size) = column.fold((0_f64, 0_f64), |(sum, size), x| {
                    let x = f64::from(*x);
                    (sum + x, size + x.abs())
                });
                // Each number takes part in at most as many roundings of half a unit, 2^-24, as there are rows.
                let bound = count as f64 * size / f64::from(1 << 24);
                assert!((f64::from(*got) - sum).abs() <= bound, "{got} for {sum}");
            }
        }
    }
}
