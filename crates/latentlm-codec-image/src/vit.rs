//! The Vision Transformer codec (reference `tokenizer_models/modeling_sigma_vae.py`).

use burn::module::{Initializer, Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{PackedHeads, full_attention, gelu, layer_norm, linear_layer, tanh};

use crate::config::{Activation, ImageSigmaVaeConfig, VitConfig};

const NORM_EPSILON: f64 = 1e-5;

/// Pictures to patches, `[B, C, H, W]` to `[B, T, C * P * P]`. The numbers of a patch are in the order
/// channel, row, column.
pub(crate) fn patchify(pictures: Tensor<4>, patch: usize) -> Tensor<3> {
    let [batch, channels, height, width] = pictures.dims();
    let (rows, columns) = (height / patch, width / patch);
    pictures
        .reshape([batch, channels, rows, patch, columns, patch])
        .permute([0, 2, 4, 1, 3, 5])
        .reshape([batch, rows * columns, channels * patch * patch])
}

/// The inverse of [`patchify`] for a square grid.
pub(crate) fn unpatchify(patches: Tensor<3>, channels: usize, patch: usize) -> Tensor<4> {
    let [batch, tokens, _] = patches.dims();
    let grid = tokens.isqrt();
    patches
        .reshape([batch, grid, grid, channels, patch, patch])
        .permute([0, 3, 1, 4, 2, 5])
        .reshape([batch, channels, grid * patch, grid * patch])
}

/// Bidirectional pre-norm Transformer blocks over positions with learned embeddings.
#[derive(Module, Debug)]
struct Trunk {
    input: Linear,
    position: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Trunk {
    fn new(sizes: TrunkSizes<'_>, device: &Device) -> Self {
        let TrunkSizes {
            input,
            width,
            depth,
            tokens,
            vit,
        } = sizes;
        Self {
            input: LinearConfig::new(input, width).init(device),
            position: Initializer::Normal {
                mean: 0.0,
                std: 0.02,
            }
            .init([1, tokens, width], device),
            blocks: (0..depth).map(|_| Block::new(width, vit, device)).collect(),
            norm: LayerNormConfig::new(width)
                .with_epsilon(NORM_EPSILON)
                .init(device),
        }
    }

    /// `[B, T, input]` to `[B, T, D]`.
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let mut x = linear_layer(&self.input, x) + self.position.val();
        for block in &self.blocks {
            x = block.forward(x);
        }
        normalize(&self.norm, x)
    }
}

/// Sizes of a [`Trunk`].
struct TrunkSizes<'a> {
    /// Width of the input.
    input: usize,
    width: usize,
    /// Number of blocks.
    depth: usize,
    /// Number of positions.
    tokens: usize,
    /// Sizes that encoder and decoder share.
    vit: &'a VitConfig,
}

/// Attention and a feed-forward network, each with a norm before it and a residual connection around it.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    #[module(skip)]
    activation: Activation,
}

impl Block {
    fn new(width: usize, vit: &VitConfig, device: &Device) -> Self {
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        Self {
            norm1: LayerNormConfig::new(width)
                .with_epsilon(NORM_EPSILON)
                .init(device),
            qkv: linear(width, 3 * width),
            proj: linear(width, width),
            norm2: LayerNormConfig::new(width)
                .with_epsilon(NORM_EPSILON)
                .init(device),
            fc1: linear(width, vit.mlp_ratio * width),
            fc2: linear(vit.mlp_ratio * width, width),
            heads: vit.heads,
            activation: vit.activation,
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let heads = PackedHeads {
            heads: self.heads,
            kv_heads: self.heads,
        };
        let qkv = linear_layer(&self.qkv, normalize(&self.norm1, x.clone()));
        let x = x + linear_layer(&self.proj, full_attention(qkv, heads));
        let hidden = linear_layer(&self.fc1, normalize(&self.norm2, x.clone()));
        let hidden = match self.activation {
            Activation::Gelu => gelu(hidden),
            Activation::Relu => relu(hidden),
        };
        x + linear_layer(&self.fc2, hidden)
    }
}

fn normalize(norm: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
    match &norm.beta {
        Some(beta) => layer_norm(x, norm.gamma.val(), beta.val(), NORM_EPSILON),
        None => norm.forward(x),
    }
}

/// Pictures to latents: patches, a trunk, and a linear layer.
#[derive(Module, Debug)]
pub(crate) struct VitEncoder {
    trunk: Trunk,
    output: Linear,
    patch: usize,
}

impl VitEncoder {
    pub(crate) fn new(config: &ImageSigmaVaeConfig, device: &Device) -> Self {
        let vit = &config.vit;
        let sizes = TrunkSizes {
            input: config.channels * vit.patch_size * vit.patch_size,
            width: vit.encoder_width,
            depth: vit.encoder_depth,
            tokens: config.tokens(),
            vit,
        };
        Self {
            trunk: Trunk::new(sizes, device),
            output: LinearConfig::new(vit.encoder_width, config.encoder_outputs()).init(device),
            patch: vit.patch_size,
        }
    }

    /// `[B, C, H, W]` to `[B, T, outputs]`.
    pub(crate) fn forward(&self, pictures: Tensor<4>) -> Tensor<3> {
        let x = self.trunk.forward(patchify(pictures, self.patch));
        linear_layer(&self.output, x)
    }
}

/// Latents to pictures: a trunk, then Linear, Tanh and Linear to the pixels of each patch.
#[derive(Module, Debug)]
pub(crate) struct VitDecoder {
    trunk: Trunk,
    hidden: Linear,
    pub(crate) output: Linear,
    channels: usize,
    patch: usize,
}

impl VitDecoder {
    pub(crate) fn new(config: &ImageSigmaVaeConfig, device: &Device) -> Self {
        let vit = &config.vit;
        let width = vit.decoder_width;
        let sizes = TrunkSizes {
            input: config.latent_dim,
            width,
            depth: vit.decoder_depth,
            tokens: config.tokens(),
            vit,
        };
        let pixels = config.channels * vit.patch_size * vit.patch_size;
        Self {
            trunk: Trunk::new(sizes, device),
            hidden: LinearConfig::new(width, width).init(device),
            output: LinearConfig::new(width, pixels).init(device),
            channels: config.channels,
            patch: vit.patch_size,
        }
    }

    /// The decoder without its last layer: `[B, T, Z]` to `[B, T, D]`.
    pub(crate) fn features(&self, latents: Tensor<3>) -> Tensor<3> {
        tanh(linear_layer(&self.hidden, self.trunk.forward(latents)))
    }

    /// The last layer: `[B, T, D]` to `[B, C, H, W]`.
    pub(crate) fn finish(&self, features: Tensor<3>) -> Tensor<4> {
        unpatchify(
            linear_layer(&self.output, features),
            self.channels,
            self.patch,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Int;

    #[test]
    fn patches_are_in_the_order_channel_row_column() {
        let device = Device::default();
        // Two channels of 4x4: pixel (c, y, x) has the value 100c + 10y + x.
        let value = |i: i64| 100 * (i / 16) + 10 * (i / 4 % 4) + i % 4;
        let values: Vec<i64> = (0..32).map(value).collect();
        let pictures = Tensor::<1, Int>::from_ints(values.as_slice(), &device)
            .float()
            .reshape([1, 2, 4, 4]);
        let patches = patchify(pictures.clone(), 2);
        assert_eq!(patches.dims(), [1, 4, 8]);
        // The second patch: rows 0..2, columns 2..4.
        let second: Vec<f32> = patches
            .clone()
            .narrow(1, 1, 1)
            .into_data()
            .try_to_vec()
            .unwrap();
        assert_eq!(second, [2., 3., 12., 13., 102., 103., 112., 113.]);
        assert_eq!(unpatchify(patches, 2, 2).into_data(), pictures.into_data());
    }
}
