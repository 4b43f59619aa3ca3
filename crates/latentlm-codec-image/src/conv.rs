//! The convolutional codec: each level of the encoder halves the picture, each level of the decoder doubles
//! it.
//!
//! It has the role of the KL autoencoder with 16-fold downsampling that MAR ships (four entries in
//! `multipliers`). Unlike that one it has strided convolutions instead of pooling, and no attention.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{conv2d_layer, group_norm_layer, silu};

use crate::config::ImageSigmaVaeConfig;

/// A 3 x 3 convolution that keeps the size.
fn conv3(input: usize, output: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([input, output], [3, 3])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device)
}

/// A 1 x 1 convolution.
fn conv1(input: usize, output: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([input, output], [1, 1]).init(device)
}

/// A convolution that halves the picture.
pub(crate) fn conv_down(input: usize, output: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([input, output], [4, 4])
        .with_stride([2, 2])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device)
}

/// Nearest-neighbour doubling: `[B, C, H, W]` to `[B, C, 2H, 2W]`.
fn double(x: Tensor<4>) -> Tensor<4> {
    let options = InterpolateOptions::new(InterpolateMode::Nearest).with_scale_factor([2.0, 2.0]);
    interpolate(x, options)
}

/// `x + conv(silu(norm(conv(silu(norm(x))))))`.
#[derive(Module, Debug)]
struct ResidualBlock {
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: GroupNorm,
    conv2: Conv2d,
}

impl ResidualBlock {
    fn new(width: usize, groups: usize, device: &Device) -> Self {
        Self {
            norm1: GroupNormConfig::new(groups, width).init(device),
            conv1: conv3(width, width, device),
            norm2: GroupNormConfig::new(groups, width).init(device),
            conv2: conv3(width, width, device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = conv2d_layer(&self.conv1, silu(group_norm_layer(&self.norm1, x.clone())));
        x + conv2d_layer(&self.conv2, silu(group_norm_layer(&self.norm2, y)))
    }
}

/// The residual blocks of a resolution and a convolution from or to the next one.
#[derive(Module, Debug)]
struct Level {
    /// In the encoder the halving convolution before the blocks. In the decoder the convolution behind them, at
    /// twice their resolution.
    scale: Conv2d,
    blocks: Vec<ResidualBlock>,
}

impl Level {
    fn blocks(width: usize, config: &ImageSigmaVaeConfig, device: &Device) -> Vec<ResidualBlock> {
        (0..config.conv.blocks)
            .map(|_| ResidualBlock::new(width, config.conv.norm_groups, device))
            .collect()
    }

    fn run(&self, mut x: Tensor<4>) -> Tensor<4> {
        for block in &self.blocks {
            x = block.forward(x);
        }
        x
    }
}

/// Channels at each resolution, finest first.
fn widths(config: &ImageSigmaVaeConfig) -> Vec<usize> {
    let base = config.conv.base_width;
    let levels = config.conv.multipliers.iter().map(|m| base * m);
    [base].into_iter().chain(levels).collect()
}

/// Pictures to latents.
#[derive(Module, Debug)]
pub(crate) struct ConvEncoder {
    input: Conv2d,
    levels: Vec<Level>,
    output: Conv2d,
}

impl ConvEncoder {
    pub(crate) fn new(config: &ImageSigmaVaeConfig, device: &Device) -> Self {
        let widths = widths(config);
        Self {
            input: conv3(config.channels, widths[0], device),
            levels: widths
                .windows(2)
                .map(|pair| Level {
                    scale: conv_down(pair[0], pair[1], device),
                    blocks: Level::blocks(pair[1], config, device),
                })
                .collect(),
            output: conv1(widths[widths.len() - 1], config.encoder_outputs(), device),
        }
    }

    /// `[B, C, H, W]` to `[B, T, outputs]`.
    pub(crate) fn forward(&self, pictures: Tensor<4>) -> Tensor<3> {
        let mut x = conv2d_layer(&self.input, pictures);
        for level in &self.levels {
            x = level.run(conv2d_layer(&level.scale, x));
        }
        let x = conv2d_layer(&self.output, x);
        let [batch, outputs, height, width] = x.dims();
        x.reshape([batch, outputs, height * width]).swap_dims(1, 2)
    }
}

/// Latents to pictures.
#[derive(Module, Debug)]
pub(crate) struct ConvDecoder {
    input: Conv2d,
    /// Coarsest first. The blocks of a level come before it doubles the picture.
    levels: Vec<Level>,
    pub(crate) output: Conv2d,
}

impl ConvDecoder {
    pub(crate) fn new(config: &ImageSigmaVaeConfig, device: &Device) -> Self {
        let mut widths = widths(config);
        widths.reverse();
        Self {
            input: conv1(config.latent_dim, widths[0], device),
            levels: widths
                .windows(2)
                .map(|pair| Level {
                    scale: conv3(pair[0], pair[1], device),
                    blocks: Level::blocks(pair[0], config, device),
                })
                .collect(),
            output: conv3(widths[widths.len() - 1], config.channels, device),
        }
    }

    /// The decoder without its last layer: `[B, T, Z]` to `[B, base_width, H, W]`.
    pub(crate) fn features(&self, latents: Tensor<3>) -> Tensor<4> {
        let [batch, tokens, dim] = latents.dims();
        let grid = tokens.isqrt();
        let x = latents.swap_dims(1, 2).reshape([batch, dim, grid, grid]);
        let mut x = conv2d_layer(&self.input, x);
        for level in &self.levels {
            x = conv2d_layer(&level.scale, double(level.run(x)));
        }
        silu(x)
    }

    /// The last layer: `[B, base_width, H, W]` to `[B, C, H, W]`.
    pub(crate) fn finish(&self, features: Tensor<4>) -> Tensor<4> {
        conv2d_layer(&self.output, features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubling_repeats_each_pixel() {
        let device = Device::default();
        let x = Tensor::<4>::from_floats([[[[1., 2.], [3., 4.]]]], &device);
        let expected = Tensor::<4>::from_floats(
            [[[
                [1., 1., 2., 2.],
                [1., 1., 2., 2.],
                [3., 3., 4., 4.],
                [3., 3., 4., 4.],
            ]]],
            &device,
        );
        assert_eq!(double(x).into_data(), expected.into_data());
    }
}
