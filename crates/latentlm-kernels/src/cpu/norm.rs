//! RMSNorm, with weight and modulation, and its gradient.

use super::math::sum_pairs;
use super::rows::{each_row, each_row_of_two, sum_rows};
use multiversion::multiversion;

/// What is applied to normalized rows: `n * weight`, then `* (1 + scale) + shift`, where shift and
/// scale are the first two parts of each row of `modulation`.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a> {
    pub(super) weight: Option<&'a [f32]>,
    /// Rows of `parts * width`.
    pub(super) modulation: Option<&'a [f32]>,
    pub(super) parts: usize,
}

impl<'a> Affine<'a> {
    /// Shift and scale of a row.
    fn row(&self, index: usize, width: usize) -> Option<(&'a [f32], &'a [f32])> {
        let row = &self.modulation?[index * self.parts * width..];
        Some((&row[..width], &row[width..2 * width]))
    }
}

/// `1 / sqrt(mean(x^2) + epsilon)`.
#[inline(always)]
fn inverse_rms(x: &[f32], epsilon: f32) -> f32 {
    let mean = sum_pairs(x, x, |a, b| a * b) / x.len() as f32;
    1.0 / (mean + epsilon).sqrt()
}

/// A normalized row, the `index`-th of those that are modulated.
#[inline(always)]
pub(super) fn normalize(
    out: &mut [f32],
    x: &[f32],
    index: usize,
    epsilon: f32,
    affine: Affine<'_>,
) {
    let inverse = inverse_rms(x, epsilon);
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
pub(super) fn forward(x: &[f32], width: usize, epsilon: f32, affine: Affine<'_>) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    each_row(&mut out, width, |index, out| {
        normalize(out, &x[index * width..][..width], index, epsilon, affine);
    });
    out
}

/// Gradients of one normalization.
pub(super) struct NormGradients {
    /// Of `x`; `residual`, where given, is already added.
    pub(super) x: Vec<f32>,
    pub(super) weight: Option<Vec<f32>>,
    /// Of shift and scale, in rows of `parts * width`; further parts are zero.
    pub(super) modulation: Option<Vec<f32>>,
}

/// Gradients for `out`'s gradient, with the gradient `residual` of a way around the norm added to
/// that of `x`.
#[multiversion(targets = "simd")]
pub(super) fn backward(
    x: &[f32],
    width: usize,
    epsilon: f32,
    affine: Affine<'_>,
    out: &[f32],
    residual: Option<&[f32]>,
) -> NormGradients {
    let count = x.len() / width;
    let mut dx = vec![0.0; x.len()];
    let parts = affine.parts * width;
    let mut modulation = affine.modulation.map(|_| vec![0.0; count * parts]);
    let row = |index: usize| &x[index * width..][..width];
    let gradient = |index: usize| &out[index * width..][..width];
    if let Some(modulation) = &mut modulation {
        each_row_of_two(
            (&mut dx, width),
            (modulation, parts),
            |index, dx, modulation| {
                let (x, dout) = (row(index), gradient(index));
                let inverse = inverse_rms(x, epsilon);
                let (dshift, rest) = modulation.split_at_mut(width);
                let dscale = &mut rest[..width];
                dshift.copy_from_slice(dout);
                for (dscale, (dout, x)) in dscale.iter_mut().zip(dout.iter().zip(x)) {
                    *dscale = dout * x * inverse;
                }
                for (dscale, weight) in dscale.iter_mut().zip(affine.weight.unwrap_or_default()) {
                    *dscale *= weight;
                }
                if let Some((_, scale)) = affine.row(index, width) {
                    for (dx, (dout, scale)) in dx.iter_mut().zip(dout.iter().zip(scale)) {
                        *dx = dout * (1.0 + scale);
                    }
                }
            },
        );
    } else {
        each_row(&mut dx, width, |index, dx| {
            dx.copy_from_slice(gradient(index))
        });
    }
    // Now `dx` holds the gradient of `n * weight`.
    let weight = affine.weight.map(|_| {
        let dx = &dx;
        sum_rows(count, width, |index, sum| {
            let (x, d) = (row(index), &dx[index * width..][..width]);
            let inverse = inverse_rms(x, epsilon);
            for (sum, (x, d)) in sum.iter_mut().zip(x.iter().zip(d)) {
                *sum += x * inverse * d;
            }
        })
    });
    each_row(&mut dx, width, |index, dx| {
        let x = row(index);
        if let Some(weight) = affine.weight {
            for (dx, weight) in dx.iter_mut().zip(weight) {
                *dx *= weight;
            }
        }
        let inverse = inverse_rms(x, epsilon);
        let along = sum_pairs(dx, x, |d, x| d * x) / width as f32 * inverse * inverse;
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = (*dx - x * along) * inverse;
        }
        if let Some(residual) = residual {
            for (dx, way) in dx.iter_mut().zip(&residual[index * width..][..width]) {
                *dx += way;
            }
        }
    });
    NormGradients {
        x: dx,
        weight,
        modulation,
    }
}
