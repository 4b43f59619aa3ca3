//! Dense causal convolutions, channels last, as matrix products over frames.

use std::f64::consts::PI;

use burn::module::{Initializer, Module, Param};

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use latentlm_kernels::linear;

use crate::stream::Pass;

/// What breaks the symmetry of [`cosine_transform`], as a share of a start that keeps the size of
/// what goes through.
const RANDOM_SHARE: f64 = 0.1;

fn uniform<const D: usize>(shape: [usize; D], fan_in: usize, device: &Device) -> Tensor<D> {
    let bound = RANDOM_SHARE * (3.0 / fan_in as f64).sqrt();
    Tensor::random(shape, Distribution::Uniform(-bound, bound), device)
}

/// A cosine transform (DCT-II, orthonormal) of every channel over `taps` samples, `[taps, in, out]`:
/// all coefficients of the first channel, then of the second, as many as there is room for.
///
/// An untrained codec made of these is a transform codec that keeps the lowest frequencies. With a
/// random start, little of the signal would be left beside the noise on the latents, and a
/// thousand steps would go by before waveforms resemble each other (docs/log.md).
fn cosine_transform([taps, input, output]: [usize; 3], device: &Device) -> Tensor<3> {
    let mut values = vec![0f32; taps * input * output];
    for place in 0..output.min(taps * input) {
        let (channel, frequency) = (place / taps, place % taps);
        let norm = if frequency == 0 { 1.0 } else { 2.0 } / taps as f64;
        for tap in 0..taps {
            let angle = PI * (tap as f64 + 0.5) * frequency as f64 / taps as f64;
            values[(tap * input + channel) * output + place] = (norm.sqrt() * angle.cos()) as f32;
        }
    }
    Tensor::from_data(TensorData::new(values, [taps, input, output]), device)
}

/// A causal convolution of stride `s` whose kernel is a multiple of it.
///
/// Frames of `s` samples become rows of `s * C` numbers; the convolution is then a product of the
/// last `kernel / s` rows with one matrix, and what a stream has to remember is
/// `kernel / s - 1` rows.
#[derive(Module, Debug)]
pub struct CausalConv1d {
    /// `[kernel, in, out]`: a reshape away from the matrix, oldest sample first.
    weight: Param<Tensor<3>>,
    /// `[out]`
    bias: Param<Tensor<1>>,
    stride: usize,
}

impl CausalConv1d {
    /// A convolution of `[in, out]` channels.
    ///
    /// # Panics
    /// If `kernel_size` is no multiple of `stride`.
    pub fn new(
        [input, output]: [usize; 2],
        kernel_size: usize,
        stride: usize,
        device: &Device,
    ) -> Self {
        assert!(
            kernel_size.is_multiple_of(stride),
            "kernel_size {kernel_size} is no multiple of stride {stride}"
        );
        let weight = uniform([kernel_size, input, output], input * kernel_size, device);
        let start = cosine_transform([stride, input, output], device);
        let newest = weight.clone().narrow(0, kernel_size - stride, stride) + start;
        let weight = match kernel_size - stride {
            0 => newest,
            older => Tensor::cat(vec![weight.narrow(0, 0, older), newest], 0),
        };
        Self {
            weight: Param::from_tensor(weight),
            bias: Initializer::Zeros.init([output], device),
            stride,
        }
    }

    /// # Shapes
    /// - `x`: `[B, T, in]`, `T` a multiple of the stride
    /// - returns: `[B, T / stride, out]`
    pub(crate) fn forward(&self, x: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<3> {
        let [batch, length, input] = x.dims();
        let [kernel, _, output] = self.weight.dims();
        let (frames, width) = (length / self.stride, self.stride * input);
        let taps = kernel / self.stride;
        let x = pass.extend(x.reshape([batch, frames, width]), taps - 1);
        let weight = self.weight.val();
        if output < width {
            // Fewer numbers leave than enter: project every row once, then add shifted rows.
            let weight = weight.reshape([taps, width, output]).swap_dims(0, 1);
            let weight = weight.reshape([width, taps * output]);
            let rows = linear(x, weight, None); // [B, frames + taps - 1, taps * out]
            let sum = (0..taps)
                .map(|tap| {
                    rows.clone()
                        .narrow(1, tap, frames)
                        .narrow(2, tap * output, output)
                })
                .reduce(|sum, part| sum + part)
                .expect("a kernel has a tap");
            sum + self.bias.val().unsqueeze()
        } else {
            let windows = (0..taps).map(|tap| x.clone().narrow(1, tap, frames));
            let matrix = weight.reshape([taps * width, output]);
            linear(side_by_side(windows), matrix, Some(self.bias.val()))
        }
    }
}

/// A transposed causal convolution of stride `s` and kernel `2 s`: every frame becomes `s` samples,
/// made of the frame itself and the one before.
#[derive(Module, Debug)]
pub struct CausalConvTranspose1d {
    /// `[2, in, stride, out]`, the part for the newer frame first.
    weight: Param<Tensor<4>>,
    /// `[out]`
    bias: Param<Tensor<1>>,
}

impl CausalConvTranspose1d {
    /// A convolution of `[in, out]` channels.
    pub fn new([input, output]: [usize; 2], stride: usize, device: &Device) -> Self {
        let weight = uniform([2, input, stride, output], 2 * input, device);
        // The way back of the transform that a downsampling starts with.
        let start = cosine_transform([stride, output, input], device).permute([2, 0, 1]);
        let newest = weight.clone().narrow(0, 0, 1) + start.unsqueeze();
        let weight = Tensor::cat(vec![newest, weight.narrow(0, 1, 1)], 0);
        Self {
            weight: Param::from_tensor(weight),
            bias: Initializer::Zeros.init([output], device),
        }
    }

    /// # Shapes
    /// - `x`: `[B, T, in]`
    /// - returns: `[B, T * stride, out]`
    pub(crate) fn forward(&self, x: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<3> {
        let [batch, length, _] = x.dims();
        let [taps, input, stride, output] = self.weight.dims();
        let x = pass.extend(x, taps - 1);
        let windows = (0..taps).map(|age| x.clone().narrow(1, taps - 1 - age, length));
        let matrix = self.weight.val().reshape([taps * input, stride * output]);
        let y = linear(side_by_side(windows), matrix, None);
        y.reshape([batch, length * stride, output]) + self.bias.val().unsqueeze()
    }
}

fn side_by_side(windows: impl ExactSizeIterator<Item = Tensor<3>>) -> Tensor<3> {
    let mut windows: Vec<Tensor<3>> = windows.collect();
    match windows.len() {
        1 => windows.remove(0),
        _ => Tensor::cat(windows, 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::module::{conv_transpose1d, conv1d};
    use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::{assert_close, seeded};

    #[test]
    fn the_transform_is_orthonormal() {
        let device = Device::default();
        for (taps, input, output) in [(5, 2, 10), (4, 3, 7), (1, 2, 2)] {
            let matrix = cosine_transform([taps, input, output], &device);
            let matrix: Tensor<2> = matrix.reshape([taps * input, output]);
            let product = matrix.clone().transpose().matmul(matrix);
            assert_close("W'W", product, Tensor::eye(output, &device), 1e-6);
        }
    }

    /// Against Burn's convolution over an input with silence in front.
    #[test]
    fn is_a_convolution() {
        let device = Device::default();
        for ([input, output], kernel, stride) in [
            ([3, 5], 7, 1),
            ([5, 3], 7, 1),
            ([4, 8], 6, 3),
            ([1, 2], 4, 2),
        ] {
            let conv = seeded(1, &device, |device| {
                CausalConv1d::new([input, output], kernel, stride, device)
            });
            let length = 4 * stride;
            let x = RandomStream::new(1).normal([2, length, input], &device);
            let silence = Tensor::zeros([2, input, kernel - stride], &device);
            let padded = Tensor::cat(vec![silence, x.clone().swap_dims(1, 2)], 2);
            let expected = conv1d(
                padded,
                conv.weight.val().permute([2, 1, 0]),
                Some(conv.bias.val()),
                ConvOptions::new([stride], [0], [1], 1),
            );
            let got = conv.forward(x, &mut Pass::Whole);
            assert_close("conv1d", got, expected.swap_dims(1, 2), 1e-5);
        }
    }

    /// Against Burn's transposed convolution, cut where the input ends.
    #[test]
    fn is_a_transposed_convolution() {
        let device = Device::default();
        for ([input, output], stride) in [([6, 3], 2), ([4, 2], 5)] {
            let conv = seeded(1, &device, |device| {
                CausalConvTranspose1d::new([input, output], stride, device)
            });
            let x = RandomStream::new(2).normal([2, 4, input], &device);
            let weight = conv.weight.val().permute([1, 3, 0, 2]);
            let expected = conv_transpose1d(
                x.clone().swap_dims(1, 2),
                weight.reshape([input, output, 2 * stride]),
                Some(conv.bias.val()),
                ConvTransposeOptions::new([stride], [0], [0], [1], 1),
            );
            let expected = expected.narrow(2, 0, 4 * stride);
            let got = conv.forward(x, &mut Pass::Whole);
            assert_close("conv_transpose1d", got, expected.swap_dims(1, 2), 1e-5);
        }
    }
}
