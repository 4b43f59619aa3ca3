//! Products with stored weights by the processor's [tiles](crate::amx). The weights are the left factor: their rows are
//! tiles where they lie. So what comes out has outputs below each other, and is turned as it is written.

use std::arch::x86_64::{__m512i, _mm512_loadu_si512, _mm512_mask_storeu_epi32};

use half::bf16;
use rayon::prelude::*;

use crate::amx::{Columns, Lines, SIDE, Sums, Tiles, WIDTH};
use crate::layout::{self, first_lanes, transposed};
use crate::matrix::Matrix;

/// Rows that are turned number by number: fewer do not fill a square.
const FEW: usize = 4;

/// Columns of a panel of so many rows.
fn panel_width(rows: usize) -> usize {
    if rows <= SIDE { SIDE } else { WIDTH }
}

/// Rounds rows of `inputs` numbers and lays them out as panels of columns: `[panel, pair, row]`. Zeros fill up the last
/// panel.
pub(super) fn lay_out(out: &mut Vec<u32>, x: &[f32], inputs: usize, parallel: bool) {
    lay_out_panels(out, x, inputs, panel_width(x.len() / inputs), parallel);
}

/// [`lay_out`] in panels of `width` columns: [`SIDE`] or [`WIDTH`].
pub(crate) fn lay_out_panels(
    out: &mut Vec<u32>,
    x: &[f32],
    inputs: usize,
    width: usize,
    parallel: bool,
) {
    let pairs = inputs / 2;
    let rows = x.len() / inputs;
    out.clear();
    out.resize(rows.next_multiple_of(width) * pairs, 0);
    let panels = out.chunks_exact_mut(width * pairs);
    let panels = panels.zip(x.chunks(width * inputs));
    if parallel {
        panels
            .collect::<Vec<_>>()
            .into_par_iter()
            .for_each(|(panel, x)| {
                lay_out_panel(panel, x, inputs);
            });
    } else {
        panels.for_each(|(panel, x)| lay_out_panel(panel, x, inputs));
    }
}

#[allow(unsafe_code)]
fn lay_out_panel(panel: &mut [u32], x: &[f32], inputs: usize) {
    assert!(crate::amx::available(), "this processor has no tiles");
    let pairs = inputs / 2;
    let rows = Matrix::new(x, x.len() / inputs, inputs);
    // SAFETY: the processor has the features: whatever has tiles has them, see `available`.
    unsafe {
        if panel.len() == SIDE * pairs {
            layout::lay_out::<SIDE>(panel, rows, pairs);
        } else {
            layout::lay_out::<WIDTH>(panel, rows, pairs);
        }
    }
}

/// Inner products of all rows of [`lay_out`] with the first rows of `weights`, as many as a row of `out` has numbers.
pub(super) fn multiply(weights: &[bf16], inputs: usize, x: &[u32], out: &mut [&mut [f32]]) {
    let outputs = out.first().map_or(0, |row| row.len());
    let tiles = Tiles::new();
    let mut last = Vec::new();
    for first in (0..outputs).step_by(WIDTH) {
        let mut weights = &weights[first * inputs..];
        if weights.len() < WIDTH * inputs {
            // Tiles are whole.
            last.extend_from_slice(weights);
            last.resize(WIDTH * inputs, bf16::ZERO);
            weights = &last;
        }
        let left = Lines::of_numbers(weights, inputs);
        multiply_outputs(&tiles, left, x, inputs / 2, out, first);
    }
}

/// At most [`WIDTH`] outputs of a product, from `first` on.
#[allow(unsafe_code)]
fn multiply_outputs(
    tiles: &Tiles,
    left: Lines<'_>,
    x: &[u32],
    pairs: usize,
    out: &mut [&mut [f32]],
    first: usize,
) {
    let mut sums = Sums::new();
    let width = panel_width(out.len());
    for (x, out) in x.chunks_exact(width * pairs).zip(out.chunks_mut(width)) {
        if width == SIDE {
            tiles.multiply_narrow(&mut sums, left, Columns::narrow(x));
        } else {
            tiles.multiply_part(&mut sums, left, Columns::panel(x), true);
        }
        if out.len() < FEW {
            for (row, out) in out.iter_mut().enumerate() {
                for (out, sums) in out[first..].iter_mut().zip(&sums.0) {
                    *out = sums[row];
                }
            }
        } else {
            // SAFETY: the processor has tiles, and whatever has them has AVX-512.
            unsafe { turn(&sums, out, first) };
        }
    }
}

/// Writes sums `[output, row]` to rows, from `first` on.
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
pub(crate) fn turn(sums: &Sums, out: &mut [&mut [f32]], first: usize) {
    for (row, out) in out.chunks_mut(SIDE).enumerate() {
        let sums = sums.0.chunks_exact(SIDE);
        for (output, sums) in sums.enumerate() {
            let square: [__m512i; SIDE] = std::array::from_fn(|output| {
                let sums = &sums[output][row * SIDE..][..SIDE];
                // SAFETY: sixteen numbers of four bytes are 64 bytes.
                unsafe { _mm512_loadu_si512(sums.as_ptr().cast()) }
            });
            for (out, line) in out.iter_mut().zip(transposed(square)) {
                let Some(out) = out.get_mut(first + output * SIDE..) else {
                    continue;
                };
                if !out.is_empty() {
                    // SAFETY: the mask covers the numbers there are.
                    unsafe {
                        _mm512_mask_storeu_epi32(
                            out.as_mut_ptr().cast(),
                            first_lanes(out.len()),
                            line,
                        );
                    }
                }
            }
        }
    }
}
