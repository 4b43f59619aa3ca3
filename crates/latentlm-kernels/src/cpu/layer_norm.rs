//! LayerNorm and its gradient.

use latentlm_products::math::sum_pairs;
use latentlm_products::tasks::{each_row, sum_rows};
use multiversion::multiversion;

/// Mean and inverse standard deviation of a row.
#[inline(always)]
pub(super) fn moments(x: &[f32], epsilon: f32) -> (f32, f32) {
    let width = x.len() as f32;
    let mean = sum_pairs(x, x, |a, _| a) / width;
    // Deviations from the mean are squared in a second pass. The mean of squares minus the square of the mean
    // needs only one pass, but loses all digits if the mean is large compared with the deviation.
    let variance = sum_pairs(x, x, |a, _| (a - mean) * (a - mean)) / width;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

/// Normalized rows of `x`, times `weight`, plus `bias`.
#[multiversion(targets = "simd")]
pub(super) fn forward(
    x: &[f32],
    width: usize,
    epsilon: f32,
    weight: &[f32],
    bias: &[f32],
) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    each_row(&mut out, width, |index, out| {
        let x = &x[index * width..][..width];
        let (mean, inverse) = moments(x, epsilon);
        let affine = weight.iter().zip(bias);
        for (out, (x, (weight, bias))) in out.iter_mut().zip(x.iter().zip(affine)) {
            *out = (x - mean) * inverse * weight + bias;
        }
    });
    out
}

/// Gradients of `x`, weight and bias.
#[multiversion(targets = "simd")]
pub(super) fn backward(
    x: &[f32],
    width: usize,
    epsilon: f32,
    weight: &[f32],
    dout: &[f32],
) -> [Vec<f32>; 3] {
    let count = x.len() / width;
    let row = |index: usize| index * width..(index + 1) * width;
    let mut dx = vec![0.0; x.len()];
    each_row(&mut dx, width, |index, dx| {
        let (x, dout) = (&x[row(index)], &dout[row(index)]);
        let (mean, inverse) = moments(x, epsilon);
        for (dx, (dout, weight)) in dx.iter_mut().zip(dout.iter().zip(weight)) {
            *dx = dout * weight;
        }
        // A row that is shifted or scaled gives the same normalized row (but for epsilon), so the gradient has no
        // part along these two directions.
        let inverse_width = 1.0 / width as f32;
        let level = sum_pairs(dx, dx, |d, _| d) * inverse_width;
        let along = sum_pairs(dx, x, |d, x| d * (x - mean)) * inverse_width * inverse * inverse;
        for (dx, x) in dx.iter_mut().zip(x) {
            *dx = (*dx - level - (x - mean) * along) * inverse;
        }
    });
    // A second loop over the rows: `each_row` adds up nothing.
    // The first half of each sum is the gradient of the weight, the second half that of the bias.
    let mut sums = sum_rows(count, 2 * width, |index, sum| {
        let (x, dout) = (&x[row(index)], &dout[row(index)]);
        let (mean, inverse) = moments(x, epsilon);
        let (dweight, dbias) = sum.split_at_mut(width);
        for (sum, (x, dout)) in dweight.iter_mut().zip(x.iter().zip(dout)) {
            *sum += (x - mean) * inverse * dout;
        }
        for (sum, dout) in dbias.iter_mut().zip(dout) {
            *sum += dout;
        }
    });
    let bias = sums.split_off(width);
    [dx, sums, bias]
}
