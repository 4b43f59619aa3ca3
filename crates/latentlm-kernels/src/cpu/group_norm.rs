//! GroupNorm of pictures and its gradient.

use multiversion::multiversion;
use rayon::prelude::*;

use super::layer_norm::moments;
use super::math::sum_pairs;

/// A normalization and its input, `[batch, channels, plane]`, all groups alike.
#[derive(Clone, Copy)]
pub(super) struct GroupNorm<'a> {
    pub(super) x: &'a [f32],
    pub(super) channels: usize,
    /// Numbers of a channel of a picture.
    pub(super) plane: usize,
    pub(super) groups: usize,
    pub(super) epsilon: f32,
    /// A number a channel.
    pub(super) weight: &'a [f32],
}

impl<'a> GroupNorm<'a> {
    /// Channels of a group.
    fn width(&self) -> usize {
        self.channels / self.groups
    }

    /// Numbers of a group of a picture.
    fn slab(&self) -> usize {
        self.width() * self.plane
    }

    /// A group's numbers among all, and its weights among those of the channels.
    fn group(&self, index: usize, of: &'a [f32], per_channel: &'a [f32]) -> [&'a [f32]; 2] {
        let first = index % self.groups * self.width();
        [
            &of[index * self.slab()..][..self.slab()],
            &per_channel[first..][..self.width()],
        ]
    }
}

/// Normalized groups, times the weight plus the bias of each channel.
#[multiversion(targets = "simd")]
pub(super) fn forward(norm: GroupNorm<'_>, bias: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; norm.x.len()];
    let slabs = out.par_chunks_mut(norm.slab()).enumerate();
    slabs.for_each(|(index, out)| {
        let [x, weight] = norm.group(index, norm.x, norm.weight);
        let [_, bias] = norm.group(index, norm.x, bias);
        let (mean, inverse) = moments(x, norm.epsilon);
        let planes = out
            .chunks_exact_mut(norm.plane)
            .zip(x.chunks_exact(norm.plane));
        for ((out, x), (weight, bias)) in planes.zip(weight.iter().zip(bias)) {
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
    let slabs = dx.par_chunks_mut(norm.slab()).enumerate();
    // Of each channel of a group the sums of `dout` and of `dout` times what was normalized.
    let sums = slabs.map(|(index, dx)| {
        let [x, weight] = norm.group(index, norm.x, norm.weight);
        let [dout, _] = norm.group(index, dout, norm.weight);
        let (mean, inverse) = moments(x, norm.epsilon);
        let planes = x
            .chunks_exact(norm.plane)
            .zip(dout.chunks_exact(norm.plane));
        let sums = planes.clone().map(|(x, dout)| {
            let along = sum_pairs(dout, x, |dout, x| dout * (x - mean)) * inverse;
            [sum_pairs(dout, dout, |dout, _| dout), along]
        });
        let sums: Vec<[f32; 2]> = sums.collect();
        let share = 1.0 / norm.slab() as f32;
        let weighted = |which: usize| {
            let pairs = sums.iter().zip(weight);
            pairs.map(|(sum, weight)| sum[which] * weight).sum::<f32>() * share
        };
        let (level, along) = (weighted(0), weighted(1) * inverse);
        let planes = planes.zip(dx.chunks_exact_mut(norm.plane));
        for (((x, dout), dx), weight) in planes.zip(weight) {
            for ((dx, x), dout) in dx.iter_mut().zip(x).zip(dout) {
                *dx = (dout * weight - level - (x - mean) * along) * inverse;
            }
        }
        sums
    });
    let sums: Vec<Vec<[f32; 2]>> = sums.collect();
    let mut of_weight = vec![0.0; norm.channels];
    let mut of_bias = vec![0.0; norm.channels];
    for picture in sums.chunks(norm.groups) {
        let affine = of_weight.iter_mut().zip(&mut of_bias);
        for ((weight, bias), [sum, along]) in affine.zip(picture.iter().flatten()) {
            *weight += along;
            *bias += sum;
        }
    }
    [dx, of_weight, of_bias]
}
