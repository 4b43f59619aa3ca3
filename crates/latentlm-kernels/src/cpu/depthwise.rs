//! Depthwise convolution with channels last, and its gradient.

use super::rows::{each_row, sum_rows};
use multiversion::multiversion;

/// A convolution of each channel with its own filter. The input has `kernel - 1` frames more than the output.
#[derive(Clone, Copy)]
pub(super) struct Depthwise<'a> {
    /// `[batch, length, channels]`
    pub(super) x: &'a [f32],
    /// `[channels, kernel]`
    pub(super) weight: &'a [f32],
    pub(super) batch: usize,
    /// Frames of the input.
    pub(super) length: usize,
    pub(super) channels: usize,
    /// Taps of the filter.
    pub(super) kernel: usize,
}

impl Depthwise<'_> {
    /// Frames of the output.
    pub(super) fn frames(&self) -> usize {
        self.length + 1 - self.kernel
    }

    /// The weights as `[kernel, channels]`, in the order of the channels of a frame.
    // The channels of a frame lie side by side and each has weights of its own. In this order a vector
    // instruction multiplies as many channels as it has lanes; along time it would have to gather numbers.
    fn taps(&self) -> Vec<f32> {
        let mut taps = vec![0.0; self.weight.len()];
        for (channel, weights) in self.weight.chunks_exact(self.kernel).enumerate() {
            for (tap, weight) in weights.iter().enumerate() {
                taps[tap * self.channels + channel] = *weight;
            }
        }
        taps
    }

    /// The input frame of the first tap for an output frame. Both are counted over the batch.
    fn first(&self, row: usize) -> usize {
        let (batch, frame) = (row / self.frames(), row % self.frames());
        batch * self.length + frame
    }

    /// The numbers of an input frame.
    fn frame(&self, index: usize) -> &[f32] {
        &self.x[index * self.channels..][..self.channels]
    }

    /// `[batch, frames, channels]`
    pub(super) fn forward(&self, bias: &[f32]) -> Vec<f32> {
        forward(*self, bias)
    }

    /// Gradients of input, weight and bias.
    pub(super) fn backward(&self, dout: &[f32]) -> [Vec<f32>; 3] {
        [
            x_gradient(*self, dout),
            weight_gradient(*self, dout),
            bias_gradient(*self, dout),
        ]
    }
}

/// `[batch, frames, channels]`
#[multiversion(targets = "simd")]
fn forward(convolution: Depthwise<'_>, bias: &[f32]) -> Vec<f32> {
    let taps = convolution.taps();
    let mut out = vec![0.0; convolution.batch * convolution.frames() * convolution.channels];
    each_row(&mut out, convolution.channels, |row, out| {
        // Taps outside, channels inside: the sums of a frame stay in the first-level cache over all taps.
        out.copy_from_slice(bias);
        let first = convolution.first(row);
        for (tap, weight) in taps.chunks_exact(convolution.channels).enumerate() {
            let x = convolution.frame(first + tap);
            for (out, (x, weight)) in out.iter_mut().zip(x.iter().zip(weight)) {
                *out += x * weight;
            }
        }
    });
    out
}

#[multiversion(targets = "simd")]
fn x_gradient(convolution: Depthwise<'_>, dout: &[f32]) -> Vec<f32> {
    let taps = convolution.taps();
    let frames = convolution.frames();
    // Each input frame collects from the outputs that it goes into. If outputs added to inputs instead, threads
    // would write to the same frames where their outputs meet.
    let mut dx = vec![0.0; convolution.x.len()];
    each_row(&mut dx, convolution.channels, |row, dx| {
        let (batch, at) = (row / convolution.length, row % convolution.length);
        // The output frames that this input frame goes into, each by another tap.
        for tap in (at + 1).saturating_sub(frames)..convolution.kernel.min(at + 1) {
            let frame = batch * frames + at - tap;
            let dout = &dout[frame * convolution.channels..];
            let weight = &taps[tap * convolution.channels..];
            for (dx, (dout, weight)) in dx.iter_mut().zip(dout.iter().zip(weight)) {
                *dx += dout * weight;
            }
        }
    });
    dx
}

#[multiversion(targets = "simd")]
fn weight_gradient(convolution: Depthwise<'_>, dout: &[f32]) -> Vec<f32> {
    let rows = convolution.batch * convolution.frames();
    let width = convolution.weight.len();
    let taps = sum_rows(rows, width, |row, sum| {
        let first = convolution.first(row);
        let dout = &dout[row * convolution.channels..];
        for (tap, sum) in sum.chunks_exact_mut(convolution.channels).enumerate() {
            let x = convolution.frame(first + tap);
            for (sum, (x, dout)) in sum.iter_mut().zip(x.iter().zip(dout)) {
                *sum += x * dout;
            }
        }
    });
    let mut weight = vec![0.0; width];
    for (tap, values) in taps.chunks_exact(convolution.channels).enumerate() {
        for (channel, value) in values.iter().enumerate() {
            weight[channel * convolution.kernel + tap] = *value;
        }
    }
    weight
}

#[multiversion(targets = "simd")]
fn bias_gradient(convolution: Depthwise<'_>, dout: &[f32]) -> Vec<f32> {
    sum_rows(
        convolution.batch * convolution.frames(),
        convolution.channels,
        |row, sum| {
            for (sum, dout) in sum.iter_mut().zip(&dout[row * convolution.channels..]) {
                *sum += dout;
            }
        },
    )
}
