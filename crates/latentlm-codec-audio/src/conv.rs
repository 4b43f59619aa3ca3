//! Dense causal convolutions, channels last, as matrix products over frames.

use std::f64::consts::PI;

use burn::module::{Initializer, Module, Param};

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use latentlm_kernels::{causal_conv, causal_conv_transpose};

use crate::stream::Pass;

/// Scale of the random numbers that are added to [`cosine_transform`], so that not all channels learn
/// the same. At 1 they alone would keep the variance of a signal.
const RANDOM_SCALE: f64 = 0.1;

/// Random numbers for the start of a weight with `fan_in` inputs for each output.
fn uniform<const D: usize>(shape: [usize; D], fan_in: usize, device: &Device) -> Tensor<D> {
    let bound = RANDOM_SCALE * (3.0 / fan_in as f64).sqrt();
    Tensor::random(shape, Distribution::Uniform(-bound, bound), device)
}

/// A cosine transform (DCT-II, orthonormal) of each channel over `taps` samples, `[taps, in, out]`. Outputs
/// are the coefficients of the first channel from the lowest frequency up, then those of the second, and so
/// on, as many as there are outputs.
///
/// An untrained codec made of these is a transform codec that keeps the lowest frequencies. With a
/// random start, the noise on the latents would drown the signal: after 300 steps that codec had a STOI of
/// 0.58, this one of 0.82 (docs/log.md, 2026-11-24).
fn cosine_transform(taps: usize, input: usize, output: usize, device: &Device) -> Tensor<3> {
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

/// A causal convolution of stride `s`. The size of its kernel is a multiple of `s`.
///
/// `s` samples of `C` channels become a row of `s * C` numbers. The convolution is then a product of the
/// last `kernel / s` rows with one matrix, and a stream has to remember `kernel / s - 1` rows.
#[derive(Module, Debug)]
pub struct CausalConv1d {
    /// `[kernel, in, out]`, oldest sample first. Reshaped, it is the matrix.
    weight: Param<Tensor<3>>,
    /// `[out]`
    bias: Param<Tensor<1>>,
    stride: usize,
}

impl CausalConv1d {
    /// A convolution of `input` to `output` channels.
    ///
    /// # Panics
    /// If `kernel_size` is not a multiple of `stride`.
    pub fn new(
        input: usize,
        output: usize,
        kernel_size: usize,
        stride: usize,
        device: &Device,
    ) -> Self {
        assert!(
            kernel_size.is_multiple_of(stride),
            "kernel_size {kernel_size} is no multiple of stride {stride}"
        );
        let weight = uniform([kernel_size, input, output], input * kernel_size, device);
        let start = cosine_transform(stride, input, output, device);
        let newest = weight.clone().narrow(0, kernel_size - stride, stride) + start;
        let older = kernel_size - stride;
        let weight = if older == 0 {
            newest
        } else {
            Tensor::cat(vec![weight.narrow(0, 0, older), newest], 0)
        };
        Self {
            weight: Param::from_tensor(weight),
            bias: Initializer::Zeros.init([output], device),
            stride,
        }
    }

    /// # Shapes
    /// - `x`: `[B, T, in]`; zeros fill it up to a multiple of the stride
    /// - returns: `[B, ceil(T / stride), out]`
    pub(crate) fn forward(&self, x: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<3> {
        let x = filled(x, self.stride);
        let [batch, length, input] = x.dims();
        let kernel = self.weight.dims()[0];
        let x = x.reshape([batch, length / self.stride, self.stride * input]);
        let past = pass.before(&x, kernel / self.stride - 1);
        causal_conv(x, past, self.weight.val(), self.bias.val())
    }
}

/// A transposed causal convolution of stride `s` and kernel size `2 s`: each frame becomes `s` samples,
/// computed from the frame itself and the one before.
#[derive(Module, Debug)]
pub struct CausalConvTranspose1d {
    /// `[2, in, stride, out]`: for the newer frame, then for the older one.
    weight: Param<Tensor<4>>,
    /// `[out]`
    bias: Param<Tensor<1>>,
}

impl CausalConvTranspose1d {
    /// A convolution of `input` to `output` channels.
    pub fn new(input: usize, output: usize, stride: usize, device: &Device) -> Self {
        let weight = uniform([2, input, stride, output], 2 * input, device);
        // The inverse of the transform that a downsampling starts with: it is orthonormal, so that is its
        // transpose.
        let start = cosine_transform(stride, output, input, device).permute([2, 0, 1]);
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
        let past = pass.before(&x, self.weight.dims()[0] - 1);
        causal_conv_transpose(x, past, self.weight.val(), self.bias.val())
    }
}

/// Puts zeros behind `x`, `[B, T, C]`, so that `T` is a multiple of `stride`.
pub(crate) fn filled(x: Tensor<3>, stride: usize) -> Tensor<3> {
    let [batch, length, channels] = x.dims();
    let missing = length.next_multiple_of(stride) - length;
    if missing == 0 {
        return x;
    }
    let zeros = Tensor::zeros([batch, missing, channels], &x.device());
    Tensor::cat(vec![x, zeros], 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::ModuleMapper;
    use burn::tensor::DType;
    use burn::tensor::module::{conv_transpose1d, conv1d};
    use burn::tensor::ops::{ConvOptions, ConvTransposeOptions};
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::{assert_close, seeded};
    use latentlm_core::stream::Past;

    #[test]
    fn the_transform_is_orthonormal() {
        let device = Device::default();
        for (taps, input, output) in [(5, 2, 10), (4, 3, 7), (1, 2, 2)] {
            let matrix = cosine_transform(taps, input, output, &device);
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
                CausalConv1d::new(input, output, kernel, stride, device)
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
                CausalConvTranspose1d::new(input, output, stride, device)
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

    /// Chunks of one frame, three and seven against the whole: with fewer outputs than inputs and with more, one output,
    /// one channel, and more frames before a chunk than in it.
    #[test]
    fn chunks_of_a_stream_are_the_whole() {
        let device = Device::default();
        let frames = 22;
        for ([input, output], kernel, stride) in [
            ([5, 3], 7, 1),
            ([1, 4], 7, 1),
            ([8, 1], 7, 1),
            ([4, 8], 6, 3),
            ([4, 7], 10, 5),
            ([3, 9], 2, 2),
        ] {
            let down = seeded(1, &device, |device| {
                CausalConv1d::new(input, output, kernel, stride, device)
            });
            let up = seeded(2, &device, |device| {
                CausalConvTranspose1d::new(input, output, stride, device)
            });
            let random = &mut RandomStream::new(4);
            let sound = random.normal([2, frames * stride, input], &device);
            let coarse = random.normal([2, frames, input], &device);
            let whole = [
                down.forward(sound.clone(), &mut Pass::Whole),
                up.forward(coarse.clone(), &mut Pass::Whole),
            ];
            for chunk in [1, 3, 7] {
                let mut past = Past::default();
                let mut parts = [Vec::new(), Vec::new()];
                for start in (0..frames).step_by(chunk) {
                    let count = chunk.min(frames - start);
                    let mut pass = Pass::chunk(&mut past);
                    let x = sound.clone().narrow(1, start * stride, count * stride);
                    parts[0].push(down.forward(x, &mut pass));
                    let x = coarse.clone().narrow(1, start, count);
                    parts[1].push(up.forward(x, &mut pass));
                }
                for (parts, whole) in parts.into_iter().zip(&whole) {
                    let what = format!("{input} to {output} in chunks of {chunk}");
                    // Sums of at most 56 products in another order.
                    assert_close(&what, Tensor::cat(parts, 1), whole.clone(), 1e-5);
                }
            }
        }
    }

    /// Convolutions whose weights are stored in bfloat16 against those with the same numbers in float32.
    #[test]
    fn weights_may_be_stored_in_bfloat16() {
        struct Rounded(DType);

        impl ModuleMapper for Rounded {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if D > 1 {
                    param.map(|weight| weight.cast(DType::BF16).cast(self.0))
                } else {
                    param
                }
            }
        }

        let device = Device::default();
        for ([input, output], stride) in [([6, 3], 2), ([3, 6], 2), ([4, 2], 5)] {
            let x = RandomStream::new(3).normal([2, 4 * stride, input], &device);
            let down = seeded(1, &device, |device| {
                CausalConv1d::new(input, output, 2 * stride, stride, device)
            });
            let up = seeded(2, &device, |device| {
                CausalConvTranspose1d::new(input, output, stride, device)
            });
            let run = |dtype| {
                let down = down.clone().map(&mut Rounded(dtype));
                let up = up.clone().map(&mut Rounded(dtype));
                [
                    down.forward(x.clone(), &mut Pass::Whole),
                    up.forward(x.clone(), &mut Pass::Whole),
                ]
            };
            let got = run(DType::BF16).into_iter().zip(run(DType::F32));
            for (got, expected) in got {
                assert_eq!(got.dtype(), DType::F32);
                // The inputs of products are rounded to 8 bits.
                assert_close("stored in bfloat16", got, expected, 2e-2);
            }
        }
    }
}
