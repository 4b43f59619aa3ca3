//! Rows on all threads.
//!
//! What is done with a row is compiled for the vector instructions that the processor turns out to have
//! if the closure stands in a function marked `#[multiversion]`: only there it takes over its features.

use rayon::prelude::*;

/// Numbers a task should have at least, so that handing it out costs little beside it.
const NUMBERS_A_TASK: usize = 8 * 1024;

/// Rows of one task.
pub(super) fn rows_a_task(width: usize) -> usize {
    NUMBERS_A_TASK.div_ceil(width.max(1))
}

/// Gives every row of `out` to `row(index, out)`.
pub(super) fn each_row(out: &mut [f32], width: usize, row: impl Fn(usize, &mut [f32]) + Sync) {
    let step = rows_a_task(width);
    out.par_chunks_mut(step * width)
        .enumerate()
        .for_each(|(task, rows)| {
            for (index, out) in rows.chunks_exact_mut(width).enumerate() {
                row(task * step + index, out);
            }
        });
}

/// Gives every row of two results of `count` rows each to `row(index, a, b)`.
pub(super) fn each_row_of_two(
    (a, a_width): (&mut [f32], usize),
    (b, b_width): (&mut [f32], usize),
    row: impl Fn(usize, &mut [f32], &mut [f32]) + Sync,
) {
    let step = rows_a_task(a_width);
    a.par_chunks_mut(step * a_width)
        .zip(b.par_chunks_mut(step * b_width))
        .enumerate()
        .for_each(|(task, (a, b))| {
            let rows = a.chunks_exact_mut(a_width).zip(b.chunks_exact_mut(b_width));
            for (index, (a, b)) in rows.enumerate() {
                row(task * step + index, a, b);
            }
        });
}

/// Sums over rows: every task adds its rows into a vector of `width` zeros by `add(index, sum)`;
/// the tasks' sums are added in order, so that the result does not depend on the threads.
pub(super) fn sum_rows(
    count: usize,
    width: usize,
    add: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
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
        for (total, part) in total.iter_mut().zip(sum) {
            *total += part;
        }
    }
    total
}
