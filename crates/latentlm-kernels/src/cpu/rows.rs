//! Loops over rows on all threads.
//!
//! `multiversion` compiles a function for several sets of vector instructions and picks one at run time. A
//! closure takes over the instructions of the function that it is written in, a helper that calls the
//! closure does not, not even if it is inlined (docs/log.md, 2026-11-25). So the loop over the numbers of a
//! row must stand in the closure, and the closure in a function marked `#[multiversion]`.

use rayon::prelude::*;

/// Numbers of a task: enough that handing the task to a thread costs little beside the work.
// Tasks of four times as many brought nothing that could be told from noise (docs/log.md, 2026-11-23).
const NUMBERS_A_TASK: usize = 8 * 1024;

/// Rows of a task, for rows of `width` numbers.
pub(super) fn rows_a_task(width: usize) -> usize {
    NUMBERS_A_TASK.div_ceil(width.max(1))
}

/// Calls `row(index, out)` for each row of `out`.
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

/// Numbers in rows of equal width.
pub(super) struct Rows<'a> {
    pub(super) numbers: &'a mut [f32],
    pub(super) width: usize,
}

/// Calls `row(index, a, b)` for each row of two results with as many rows.
pub(super) fn each_row_of_two(
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

/// A sum over `count` rows: `add(index, sum)` adds a row to a sum of `width` numbers. Each task has a sum
/// of its own, and these are added in order, so that the result does not depend on the threads.
pub(super) fn sum_rows(
    count: usize,
    width: usize,
    add: impl Fn(usize, &mut [f32]) + Sync,
) -> Vec<f32> {
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
