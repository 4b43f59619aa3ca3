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

/// Gradients of one normalization.
pub(super) struct NormGradients {
    /// Gradient of `x`. The gradient of the residual connection, if given, is included.
    pub(super) x: Vec<f32>,
    /// Gradient of the weight, `[width]`.
    pub(super) weight: Option<Vec<f32>>,
    /// Gradient of the modulation, `[N, parts * width]`, with zeros behind shift and scale.
    pub(super) modulation: Option<Vec<f32>>,
}

/// Gradients from the gradient `dout` of the result. `residual` is the gradient that reaches `x` through a
/// residual connection around the norm; it is added to that of `x`.
#[multiversion(targets = "simd")]
pub(super) fn backward(norm: Norm<'_>, dout: &[f32], residual: Option<&[f32]>) -> NormGradients {
    let Norm {
        x,
        width,
        epsilon,
        affine,
    } = norm;
    // At first `dx` holds the gradient of `n * weight`.
    let (mut dx, modulation) = modulation_gradient(norm, dout);
    // The weight comes first, because the loop behind it overwrites `dx`.
    let weight = affine.weight.map(|_| {
        let dx = &dx;
        sum_rows(x.len() / width, width, |index, sum| {
            let (x, d) = (norm.row(index), &dx[index * width..][..width]);
            // Computed again instead of kept: `x` is read anyway.
            let inverse = inverse_rms(x, epsilon);
            for (sum, (x, d)) in sum.iter_mut().zip(x.iter().zip(d)) {
                *sum += x * inverse * d;
            }
        })
    });
    each_row(&mut dx, width, |index, dx| {
        let x = norm.row(index);
        if let Some(weight) = affine.weight {
            for (dx, weight) in dx.iter_mut().zip(weight) {
                *dx *= weight;
            }
        }
        let inverse = inverse_rms(x, epsilon);
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
    });
    NormGradients {
        x: dx,
        weight,
        modulation,
    }
}

/// The gradients of `n * weight` and of the modulation.
#[multiversion(targets = "simd")]
fn modulation_gradient(norm: Norm<'_>, dout: &[f32]) -> (Vec<f32>, Option<Vec<f32>>) {
    let Norm { width, affine, .. } = norm;
    if affine.modulation.is_none() {
        return (dout.to_vec(), None);
    }
    let parts = affine.parts * width;
    let mut dx = vec![0.0; norm.x.len()];
    let mut modulation = vec![0.0; norm.x.len() / width * parts];
    let dx_rows = Rows {
        numbers: &mut dx,
        width,
    };
    let modulation_rows = Rows {
        numbers: &mut modulation,
        width: parts,
    };
    each_row_of_two(dx_rows, modulation_rows, |index, dx, modulation| {
        let (x, dout) = (norm.row(index), &dout[index * width..][..width]);
        let inverse = inverse_rms(x, norm.epsilon);
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
    });
    (dx, Some(modulation))
}
