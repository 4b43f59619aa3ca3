//! Depthwise convolution with channels last, and its gradient.

use std::ops::Range;

use multiversion::multiversion;

use super::signals::Signals;
use latentlm_products::tasks::{each_row, sum_of_rows, sum_rows};

/// A convolution of each channel with its own filter.
#[derive(Debug, Clone, Copy)]
pub struct Depthwise<'a> {
    /// The input; the width of a frame are its channels. All taps but the newest reach back.
    pub signals: Signals<'a>,
    /// `[channels, taps]`
    pub weight: &'a [f32],
}

impl Depthwise<'_> {
    fn taps(&self) -> usize {
        self.signals.reach + 1
    }

    /// The weights as `[taps, channels]`, in the order of the channels of a frame.
    // The channels of a frame lie side by side and each has weights of its own. In this order a vector
    // instruction multiplies as many channels as it has lanes; along time it would have to gather numbers.
    fn weights_by_tap(&self) -> Vec<f32> {
        let mut by_tap = vec![0.0; self.weight.len()];
        for (channel, weights) in self.weight.chunks_exact(self.taps()).enumerate() {
            for (tap, weight) in weights.iter().enumerate() {
                by_tap[tap * self.signals.width + channel] = *weight;
            }
        }
        by_tap
    }

    /// The outputs, `[batch, frames, channels]`; `bias` is `[channels]`.
    pub fn forward(&self, bias: &[f32]) -> Vec<f32> {
        forward(*self, bias)
    }

    /// The gradient of the input, `[batch, frames, channels]`, from that of the outputs.
    pub fn x_gradient(&self, dout: &[f32]) -> Vec<f32> {
        let Signals { reach, frames, .. } = self.signals;
        frame_gradient(*self, dout, reach..reach + frames)
    }

    /// The gradient of the past, `[batch, taps - 1, channels]`, from that of the outputs.
    pub fn past_gradient(&self, dout: &[f32]) -> Vec<f32> {
        frame_gradient(*self, dout, 0..self.signals.reach)
    }

    /// The gradient of the weight, `[channels, taps]`, from that of the outputs.
    pub fn weight_gradient(&self, dout: &[f32]) -> Vec<f32> {
        weight_gradient(*self, dout)
    }

    /// The gradient of the bias, `[channels]`, from that of the outputs.
    pub fn bias_gradient(&self, dout: &[f32]) -> Vec<f32> {
        sum_of_rows(dout, self.signals.width)
    }
}

/// `[batch, frames, channels]`
#[multiversion(targets = "simd")]
fn forward(convolution: Depthwise<'_>, bias: &[f32]) -> Vec<f32> {
    let weights = convolution.weights_by_tap();
    let Signals {
        batch,
        frames,
        width,
        ..
    } = convolution.signals;
    let mut out = vec![0.0; batch * frames * width];
    each_row(&mut out, width, |row, out| {
        // Taps outside, channels inside: the sums of a frame stay in the first-level cache over all taps.
        out.copy_from_slice(bias);
        let (signal, frame) = (row / frames, row % frames);
        for (tap, weight) in weights.chunks_exact(width).enumerate() {
            if let Some(x) = convolution.signals.frame(signal, frame + tap) {
                for (out, (x, weight)) in out.iter_mut().zip(x.iter().zip(weight)) {
                    *out += x * weight;
                }
            }
        }
    });
    out
}

/// The gradient of frames of each signal, counted from the first of the past: `[batch, seen, channels]`.
#[multiversion(targets = "simd")]
fn frame_gradient(convolution: Depthwise<'_>, dout: &[f32], seen: Range<usize>) -> Vec<f32> {
    let weights = convolution.weights_by_tap();
    let taps = convolution.taps();
    let Signals {
        batch,
        frames,
        width,
        ..
    } = convolution.signals;
    // Each input frame collects from the outputs that it goes into. If outputs added to inputs instead, threads
    // would write to the same frames where their outputs meet.
    let mut dx = vec![0.0; batch * seen.len() * width];
    each_row(&mut dx, width, |row, dx| {
        let (signal, at) = (row / seen.len(), seen.start + row % seen.len());
        // The output frames that this input frame goes into, each by another tap.
        for tap in (at + 1).saturating_sub(frames)..taps.min(at + 1) {
            let frame = signal * frames + at - tap;
            let dout = &dout[frame * width..];
            let weight = &weights[tap * width..];
            for (dx, (dout, weight)) in dx.iter_mut().zip(dout.iter().zip(weight)) {
                *dx += dout * weight;
            }
        }
    });
    dx
}

#[multiversion(targets = "simd")]
fn weight_gradient(convolution: Depthwise<'_>, dout: &[f32]) -> Vec<f32> {
    let Signals {
        batch,
        frames,
        width,
        ..
    } = convolution.signals;
    let by_tap = sum_rows(batch * frames, convolution.weight.len(), |row, sum| {
        let (signal, frame) = (row / frames, row % frames);
        let dout = &dout[row * width..];
        for (tap, sum) in sum.chunks_exact_mut(width).enumerate() {
            if let Some(x) = convolution.signals.frame(signal, frame + tap) {
                for (sum, (x, dout)) in sum.iter_mut().zip(x.iter().zip(dout)) {
                    *sum += x * dout;
                }
            }
        }
    });
    let mut weight = vec![0.0; by_tap.len()];
    for (tap, values) in by_tap.chunks_exact(width).enumerate() {
        for (channel, value) in values.iter().enumerate() {
            weight[channel * convolution.taps() + tap] = *value;
        }
    }
    weight
}
