//! GroupNorm of pictures and its gradient.

use latentlm_products::math::sum_pairs;
use multiversion::multiversion;
use rayon::prelude::*;

use super::layer_norm::moments;

/// A normalization and its input.
#[derive(Clone, Copy)]
pub(super) struct GroupNorm<'a> {
    /// `[batch, channels, plane]`
    pub(super) x: &'a [f32],
    pub(super) channels: usize,
    /// Pixels of a picture.
    pub(super) plane: usize,
    pub(super) groups: usize,
    pub(super) epsilon: f32,
    /// `[channels]`
    pub(super) weight: &'a [f32],
}

impl<'a> GroupNorm<'a> {
    /// Channels in a group.
    fn width(&self) -> usize {
        self.channels / self.groups
    }

    /// Numbers in one group of one picture.
    fn slab(&self) -> usize {
        self.width() * self.plane
    }

    /// The numbers of a group in `x` or an array of its shape. Groups are counted over all pictures.
    fn group(&self, index: usize, numbers: &'a [f32]) -> &'a [f32] {
        &numbers[index * self.slab()..][..self.slab()]
    }

    /// The numbers of a group in an array of one number for each channel.
    fn group_channels(&self, index: usize, numbers: &'a [f32]) -> &'a [f32] {
        let first = index % self.groups * self.width();
        &numbers[first..][..self.width()]
    }
}

/// Normalized groups, times the weight, plus the bias of each channel.
#[multiversion(targets = "simd")]
pub(super) fn forward(norm: GroupNorm<'_>, bias: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; norm.x.len()];
    // Channels come before pixels, so that a group of a picture is one slice and a task of its own. Compared
    // with a chain of Burn's operations, this saved 6 % of the convolutional codec's step (docs/log.md,
    // 2026-11-25).
    let groups = out.par_chunks_mut(norm.slab()).enumerate();
    groups.for_each(|(index, out)| {
        let x = norm.group(index, norm.x);
        let weight = norm.group_channels(index, norm.weight);
        let bias = norm.group_channels(index, bias);
        let (mean, inverse) = moments(x, norm.epsilon);
        let planes = out
            .chunks_exact_mut(norm.plane)
            .zip(x.chunks_exact(norm.plane));
        for ((out, x), (weight, bias)) in planes.zip(weight.iter().zip(bias)) {
            // Norm, weight and bias in one multiplication and one addition for each pixel.
            let (factor, offset) = (inverse * weight, bias - mean * inverse * weight);
            for (out, x) in out.iter_mut().zip(x) {
                *out = x * factor + offset;
            }
        }
    });
    out
}

/// Gradients of `x`, weight and bias.
#[multiversion(targets = "simd")]
pub(super) fn backward(norm: GroupNorm<'_>, dout: &[f32]) -> [Vec<f32>; 3] {
    let mut dx = vec![0.0; norm.x.len()];
    let groups = dx.par_chunks_mut(norm.slab()).enumerate();
    // For each channel of each group: the sum of `dout`, and the sum of `dout` times the normalized `x`.
    let sums: Vec<Vec<[f32; 2]>> = groups
        .map(|(index, dx)| {
            let x = norm.group(index, norm.x);
            let weight = norm.group_channels(index, norm.weight);
            let dout = norm.group(index, dout);
            let (mean, inverse) = moments(x, norm.epsilon);
            let planes = x
                .chunks_exact(norm.plane)
                .zip(dout.chunks_exact(norm.plane));
            let mut sums = Vec::with_capacity(weight.len());
            for (x, dout) in planes.clone() {
                // Both gradients of the channel, and with its weight also a term of what the gradient of `x`
                // loses along mean and length of the group.
                let along = sum_pairs(dout, x, |dout, x| dout * (x - mean)) * inverse;
                sums.push([sum_pairs(dout, dout, |dout, _| dout), along]);
            }
            let inverse_size = 1.0 / norm.slab() as f32;
            let weighted = |which: usize| {
                let pairs = sums.iter().zip(weight);
                pairs.map(|(sum, weight)| sum[which] * weight).sum::<f32>() * inverse_size
            };
            let (level, along) = (weighted(0), weighted(1) * inverse);
            let planes = planes.zip(dx.chunks_exact_mut(norm.plane));
            for (((x, dout), dx), weight) in planes.zip(weight) {
                for ((dx, x), dout) in dx.iter_mut().zip(x).zip(dout) {
                    *dx = (dout * weight - level - (x - mean) * along) * inverse;
                }
            }
            sums
        })
        .collect();
    // In the order of the pictures, on one thread: there are few numbers, and the sum does not depend on
    // timing.
    let mut dweight = vec![0.0; norm.channels];
    let mut dbias = vec![0.0; norm.channels];
    for picture in sums.chunks(norm.groups) {
        let affine = dweight.iter_mut().zip(&mut dbias);
        for ((weight, bias), [sum, along]) in affine.zip(picture.iter().flatten()) {
            *weight += along;
            *bias += sum;
        }
    }
    [dx, dweight, dbias]
}
