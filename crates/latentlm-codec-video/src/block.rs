//! Transformer blocks that see all patches of a group of frames, and the groups before it at the same place.
//!
//! Attention is within a group, and a causal convolution mixes groups. So the work grows with the number of groups
//! and not with its square, and a stream remembers a fixed number of groups, however long it is.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use latentlm_core::stream::Pass;
use latentlm_kernels::{PackedHeads, full_attention, gelu, linear_layer, rms_norm};

use crate::config::{Activation, VideoSigmaVaeConfig};

/// Blocks over patches with learned embeddings of their places, which all groups share.
#[derive(Module, Debug)]
pub(crate) struct Trunk {
    position: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: RmsNorm,
}

impl Trunk {
    pub(crate) fn new(
        config: &VideoSigmaVaeConfig,
        width: usize,
        depth: usize,
        device: &Device,
    ) -> Self {
        let patches = config.grid() * config.grid();
        Self {
            position: Initializer::Normal {
                mean: 0.0,
                std: 0.02,
            }
            .init([1, patches, width], device),
            blocks: (0..depth)
                .map(|_| Block::new(config, width, device))
                .collect(),
            norm: RmsNormConfig::new(width).init(device),
        }
    }

    /// # Shapes
    /// - `x`: `[B, G, P, D]`
    /// - returns: `[B, G, P, D]`
    pub(crate) fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let mut x = x + self.position.val().unsqueeze::<4>();
        for block in &self.blocks {
            x = block.forward(x, pass);
        }
        normalize(&self.norm, x)
    }
}

/// Mixing over time, attention and a feed-forward network, each with a norm before it and a residual connection
/// around it.
#[derive(Module, Debug)]
struct Block {
    time_norm: RmsNorm,
    time: Linear,
    norm1: RmsNorm,
    qkv: Linear,
    proj: Linear,
    norm2: RmsNorm,
    fc1: Linear,
    fc2: Linear,
    time_taps: usize,
    heads: usize,
    #[module(skip)]
    activation: Activation,
}

impl Block {
    fn new(config: &VideoSigmaVaeConfig, width: usize, device: &Device) -> Self {
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        let norm = || RmsNormConfig::new(width).init(device);
        let inner = config.mlp_ratio * width;
        Self {
            time_norm: norm(),
            time: linear(config.time_taps * width, width),
            norm1: norm(),
            qkv: linear(width, 3 * width),
            proj: linear(width, width),
            norm2: norm(),
            fc1: linear(width, inner),
            fc2: linear(inner, width),
            time_taps: config.time_taps,
            heads: config.heads,
            activation: config.activation,
        }
    }

    fn forward(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let x = x.clone() + self.mix_groups(normalize(&self.time_norm, x), pass);
        let x = x.clone() + self.attend(normalize(&self.norm1, x));
        let hidden = linear_layer(&self.fc1, normalize(&self.norm2, x.clone()));
        let hidden = match self.activation {
            Activation::Gelu => gelu(hidden),
            Activation::Relu => relu(hidden),
        };
        x + linear_layer(&self.fc2, hidden)
    }

    /// A causal convolution over groups, place by place: one product of each patch, and of the same patch in the
    /// groups before, with a matrix.
    fn mix_groups(&self, x: Tensor<4>, pass: &mut Pass<'_>) -> Tensor<4> {
        let [batch, groups, patches, width] = x.dims();
        let rows = x.reshape([batch, groups, patches * width]);
        let rows = pass.extend(rows, self.time_taps - 1); // [B, taps - 1 + G, P * D]
        let mut windows = Vec::with_capacity(self.time_taps);
        for tap in 0..self.time_taps {
            let window = rows.clone().narrow(1, tap, groups);
            windows.push(window.reshape([batch, groups, patches, width]));
        }
        linear_layer(&self.time, Tensor::cat(windows, 3))
    }

    /// Attention of the patches of each group.
    fn attend(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, groups, patches, width] = x.dims();
        let heads = PackedHeads {
            heads: self.heads,
            kv_heads: self.heads,
        };
        let x = x.reshape([batch * groups, patches, width]);
        let mixed = full_attention(linear_layer(&self.qkv, x), heads);
        linear_layer(&self.proj, mixed).reshape([batch, groups, patches, width])
    }
}

fn normalize(norm: &RmsNorm, x: Tensor<4>) -> Tensor<4> {
    rms_norm(x, Some(norm.gamma.val()), norm.epsilon)
}
