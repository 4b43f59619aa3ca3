//! RMSNorm with weight and modulation, and its gradient.

use latentlm_products::math::{inverse_rms, sum_pairs};
use latentlm_products::tasks::{Rows, each_row, each_row_of_two, sum_rows};
use multiversion::multiversion;

/// The affine map behind a normalization: `n * weight`, then `* (1 + scale) + shift`. A row of the
/// modulation holds shift, scale and, for some blocks, a gate that the norm does not use.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    /// `[width]`
    pub(super) weight: Option<&'a [f32]>,
    /// `[N, parts * width]`
    pub(super) modulation: Option<&'a [f32]>,
    /// Vectors in a row of the modulation.
    pub(super) parts: usize,
}

impl<'a> Affine<'a> {
    /// Shift and scale of a row.
    fn row(&self, index: usize, width: usize) -> Option<(&'a [f32], &'a [f32])> {
        let row = &self.modulation?[index * self.parts * width..];
        Some((&row[..width], &row[width..2 * width]))
    }
}

/// A normalization and its input.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    /// `[N, width]`
    pub(super) x: &'a [f32],
    pub(super) width: usize,
    pub(super) epsilon: f32,
    pub(super) affine: Affine<'a>,
}

impl<'a> Norm<'a> {
    /// A row of the input.
    fn row(&self, index: usize) -> &'a [f32] {
        &self.x[index * self.width..][..self.width]
    }
}

/// Normalizes a row. `index` is the row of the modulation that belongs to it.
#[inline(always)]
pub(super) fn normalize(
    out: &mut [f32],
    x: &[f32],
    index: usize,
    epsilon: f32,
    affine: Affine<'_>,
) {
    let inverse = inverse_rms(x, epsilon);
    // A loop for each part of the map: none has a branch, and a row stays in the first-level cache between them.
    for (out, x) in out.iter_mut().zip(x) {
        *out = x * inverse;
    }
    if let Some(weight) = affine.weight {
        for (out, weight) in out.iter_mut().zip(weight) {
            *out *= weight;
        }
    }
    if let Some((shift, scale)) = affine.row(index, x.len()) {
        for (out, (shift, scale)) in out.iter_mut().zip(shift.iter().zip(scale)) {
            *out = *out * (1.0 + scale) + shift;
        }
    }
}

/// Normalized rows of `x`.
#[multiversion(targets = "simd")]
pub(super) fn forward(norm: Norm<'_>) -> Vec<f32> {
    let mut out = vec![0.0; norm.x.len()];
    each_row(&mut out, norm.width, |index, out| {
        normalize(out, norm.row(index), index, norm.epsilon, norm.affine);
    });
    out
}

/// What the gradients of a normalization are computed from, and written over.
pub(super) struct Gradients<'a> {
    /// The gradient of the result, which becomes that of `x`, `[N, width]`.
    pub(super) x: &'a mut [f32],
    /// The modulation. Its shifts and scales become their gradients; numbers behind them stay.
    pub(super) modulation: Option<Rows<'a>>,
}

/// Computes the gradients in place, and returns that of the weight, `[width]`. The modulation is that of `gradients`, not
/// of `norm`. `residual` is the gradient that reaches `x` through a residual connection around the norm; it is added to
/// that of `x`.
#[multiversion(targets = "simd")]
pub(super) fn backward(
    norm: Norm<'_>,
    gradients: Gradients<'_>,
    residual: Option<&[f32]>,
) -> Option<Vec<f32>> {
    let Gradients { x: dx, modulation } = gradients;
    let width = norm.width;
    // The weight comes first, because the loop behind it overwrites what it reads.
    let weight = norm.affine.weight.map(|_| {
        let (dout, modulation) = (&*dx, modulation.as_ref());
        let modulation = modulation.map(|rows| (&*rows.numbers, rows.width));
        sum_rows(norm.x.len() / width, width, |index, sum| {
            let (x, dout) = (norm.row(index), &dout[index * width..][..width]);
            // Computed again instead of kept: `x` is read anyway.
            let inverse = inverse_rms(x, norm.epsilon);
            let terms = sum.iter_mut().zip(x.iter().zip(dout));
            match modulation {
                Some((rows, line)) => {
                    for ((sum, (x, d)), scale) in terms.zip(&rows[index * line + width..]) {
                        *sum += x * inverse * (d * (1.0 + scale));
                    }
                }
                None => {
                    for (sum, (x, d)) in terms {
                        *sum += x * inverse * d;
                    }
                }
            }
        })
    });
    match modulation {
        Some(modulation) => {
            let dx = Rows { numbers: dx, width };
            each_row_of_two(dx, modulation, |index, dx, modulation| {
                let inverse = inverse_rms(norm.row(index), norm.epsilon);
                modulation_gradient(norm, index, inverse, dx, modulation);
                row_gradient(norm, index, inverse, dx, residual);
            });
        }
        None => each_row(dx, width, |index, dx| {
            let inverse = inverse_rms(norm.row(index), norm.epsilon);
            row_gradient(norm, index, inverse, dx, residual);
        }),
    }
    weight
}

/// Replaces shift and scale of a row by their gradients, and the gradient `dx` of the row's result by that of
/// `n * weight`.
#[inline(always)]
fn modulation_gradient(
    norm: Norm<'_>,
    index: usize,
    inverse: f32,
    dx: &mut [f32],
    modulation: &mut [f32],
) {
    let (shift, rest) = modulation.split_at_mut(norm.width);
    let scale = &mut rest[..norm.width];
    shift.copy_from_slice(dx);
    for (scale, (dx, x)) in scale.iter_mut().zip(dx.iter_mut().zip(norm.row(index))) {
        let factor = 1.0 + *scale;
        *scale = *dx * x * inverse;
        *dx *= factor;
    }
    for (dscale, weight) in scale.iter_mut().zip(norm.affine.weight.unwrap_or_default()) {
        *dscale *= weight;
    }
}

/// Replaces the gradient `dx` of a row of `n * weight` by that of the row of `x`.
#[inline(always)]
fn row_gradient(
    norm: Norm<'_>,
    index: usize,
    inverse: f32,
    dx: &mut [f32],
    residual: Option<&[f32]>,
) {
    let (x, width) = (norm.row(index), norm.width);
    if let Some(weight) = norm.affine.weight {
        for (dx, weight) in dx.iter_mut().zip(weight) {
            *dx *= weight;
        }
    }
    // A longer `x` gives the same result (but for epsilon), so the gradient has no part along `x`.
    let along = sum_pairs(dx, x, |d, x| d * x) / width as f32 * inverse * inverse;
    for (dx, x) in dx.iter_mut().zip(x) {
        *dx = (*dx - x * along) * inverse;
    }
    if let Some(residual) = residual {
        for (dx, residual) in dx.iter_mut().zip(&residual[index * width..][..width]) {
            *dx += residual;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every gradient is what the formulas give, to the last bit, and numbers behind the scales stay.
    #[test]
    fn gradients_in_place_are_those_of_the_formulas() {
        let (rows, width, epsilon) = (700, 19, 1e-5);
        let numbers = |count: usize, seed: f32| -> Vec<f32> {
            (0..count).map(|i| (i as f32 * seed).sin()).collect()
        };
        let (x, dout) = (numbers(rows * width, 0.7), numbers(rows * width, 1.3));
        let (residual, given) = (numbers(rows * width, 0.3), numbers(rows * 3 * width, 1.1));
        let weight = numbers(width, 1.7);
        for (weight, modulated) in [(None, false), (None, true), (Some(&*weight), true)] {
            let affine = Affine {
                weight,
                modulation: None,
                parts: 3,
            };
            let norm = Norm {
                x: &x,
                width,
                epsilon,
                affine,
            };
            let (mut dx, mut modulation) = (dout.clone(), given.clone());
            let gradients = Gradients {
                x: &mut dx,
                modulation: modulated.then_some(Rows {
                    numbers: &mut modulation,
                    width: 3 * width,
                }),
            };
            let dw = backward(norm, gradients, Some(&residual));
            assert_eq!(dw.is_some(), weight.is_some());
            for row in 0..rows {
                let at = row * width..(row + 1) * width;
                let (x, dout) = (&x[at.clone()], &dout[at.clone()]);
                let inverse = inverse_rms(x, epsilon);
                let weight = |i: usize| weight.map_or(1.0, |weight| weight[i]);
                let (now, before) = (&modulation[3 * at.start..], &given[3 * at.start..]);
                let scale = |i: usize| if modulated { before[width + i] } else { 0.0 };
                let along = (0..width).map(|i| dout[i] * (1.0 + scale(i)) * weight(i));
                let along: Vec<f32> = along.collect();
                let sum = sum_pairs(&along, x, |d, x| d * x);
                let sum = sum / width as f32 * inverse * inverse;
                for i in 0..width {
                    let expected = (along[i] - x[i] * sum) * inverse + residual[at.start + i];
                    assert_eq!(dx[at.start + i], expected, "row {row}");
                    let dscale = dout[i] * x[i] * inverse * weight(i);
                    let expected = [dout[i], dscale, before[2 * width + i]];
                    let got = [now[i], now[width + i], now[2 * width + i]];
                    if modulated {
                        assert_eq!(got, expected, "row {row}");
                    }
                }
            }
        }
    }
}
