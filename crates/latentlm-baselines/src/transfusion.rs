//! Transfusion: one Transformer, causal over text and bidirectional within an image, with diffusion
//! over the whole image (Zhou et al. 2024, arXiv 2408.11039).

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use latentlm_backbone::{Rope, RopeLayout};
use latentlm_diffusion::{NoiseSchedule, TimestepEmbedding};
use latentlm_kernels::{Mask, Rotary, document_attention, linear_layer, rms_norm};

use crate::block::{Attention, FeedForward, zero_linear};
use crate::class::ClassConditional;
use crate::denoiser::{DenoiserConfig, ImageDenoiser};
use crate::sizes::{DenoiserSizes, NORM_EPSILON, TIMESTEP_SINUSOID};

/// Base of the rotary frequencies, as in the backbone.
pub(crate) const ROPE_THETA: f64 = 1e4;

/// The class-conditional Transfusion.
pub type Transfusion = ClassConditional<TransfusionNetwork>;

/// One block, as in the backbone: `x += attention(norm(x))`, `x += mlp(norm(x))`.
#[derive(Module, Debug)]
pub(crate) struct TransfusionBlock {
    attention: Attention,
    mlp: FeedForward,
}

impl TransfusionBlock {
    pub(crate) fn new(sizes: &DenoiserSizes, device: &Device) -> Self {
        Self {
            attention: Attention::new(sizes, device),
            mlp: FeedForward::new(sizes, device),
        }
    }

    /// Applies the block to packed documents.
    ///
    /// # Shapes
    /// - `x`: `[B, P + T, D]`
    /// - returns: `[B, P + T, D]`
    pub(crate) fn forward(&self, x: Tensor<3>, rotary: &Rotary, documents: &[Mask]) -> Tensor<3> {
        let inner = rms_norm(x.clone(), None, NORM_EPSILON);
        let mllm = self.attention.forward(inner, |packed, heads| {
            document_attention(packed, heads, rotary, documents)
        });
        self.mlp.residual(x + mllm, None)
    }
}

/// The Transformer of a Transfusion model.
#[derive(Module, Debug)]
pub struct TransfusionNetwork {
    timestep: TimestepEmbedding,
    blocks: Vec<TransfusionBlock>,
    output: Linear,
    #[module(skip)]
    rope: Rope,
    #[module(skip)]
    schedule: NoiseSchedule,
}

/// Hidden states after the final norm.
#[derive(Debug, Clone)]
pub struct TransfusionHidden {
    /// Hidden states of the prefix, `[B, P, D]`.
    pub prefix: Tensor<3>,
    /// Hidden states of the image, `[B, T, D]`.
    pub image: Tensor<3>,
}

impl TransfusionNetwork {
    /// Hidden states of a prefix, text or label, followed by a noisy image. The prefix attends
    /// causally and not to the image. The image attends to the prefix and to all of itself.
    ///
    /// # Shapes
    /// - `noisy`: `[B, T, D]`, embedded noisy latents; `timesteps`: `[B]`
    /// - `prefix`: `[B, P, D]`
    pub fn hidden(
        &self,
        noisy: Tensor<3>,
        timesteps: Tensor<1>,
        prefix: Tensor<3>,
    ) -> TransfusionHidden {
        let (positions, tokens) = (prefix.dims()[1], noisy.dims()[1]);
        let x = Tensor::cat(vec![prefix, self.add_timesteps(noisy, timesteps)], 1); // [B, P + T, D]
        let length = positions + tokens;
        let x = self.forward_documents(x, &[Mask::mutual(length, positions..length)]);
        TransfusionHidden {
            prefix: x.clone().narrow(1, 0, positions),
            image: x.narrow(1, positions, tokens),
        }
    }

    /// Adds the embeddings of the images' timesteps to embedded latents.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, D]`; `timesteps`: `[B]`
    /// - returns: `[B, T, D]`
    pub(crate) fn add_timesteps(&self, latents: Tensor<3>, timesteps: Tensor<1>) -> Tensor<3> {
        latents + self.timestep.forward(timesteps).unsqueeze_dim::<3>(1)
    }

    /// Hidden states of packed documents. The positions of each document count from 0.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`; `documents`: their lengths, which add up to `T`, and attention masks
    /// - returns: `[B, T, D]`
    pub fn forward_documents(&self, mut x: Tensor<3>, documents: &[Mask]) -> Tensor<3> {
        let lengths: Vec<usize> = documents.iter().map(|document| document.length).collect();
        let rotary = self.rope.rotation(0, &lengths, &x.device());
        for block in &self.blocks {
            x = block.forward(x, &rotary, documents);
        }
        rms_norm(x, None, NORM_EPSILON)
    }

    /// Projects the hidden states of an image to the prediction of noise or velocity.
    ///
    /// # Shapes
    /// - `image`: `[B, T, D]`
    /// - returns: `[B, T, Z]`
    pub fn predict(&self, image: Tensor<3>) -> Tensor<3> {
        linear_layer(&self.output, image)
    }
}

impl ImageDenoiser for TransfusionNetwork {
    const MODEL: &'static str = "Transfusion";

    fn of(config: &DenoiserConfig, device: &Device) -> Self {
        let (sizes, width) = (&config.sizes, config.sizes.width);
        let (frequencies, period) = TIMESTEP_SINUSOID;
        Self {
            timestep: TimestepEmbedding::new(width, frequencies, period, device),
            blocks: (0..sizes.depth)
                .map(|_| TransfusionBlock::new(sizes, device))
                .collect(),
            output: zero_linear(width, config.latent_dim, device),
            rope: Rope::new(RopeLayout::Interleaved, sizes.head_dim(), ROPE_THETA),
            schedule: config.noise_schedule(),
        }
    }

    fn schedule(&self) -> &NoiseSchedule {
        &self.schedule
    }

    fn latent_dim(&self) -> usize {
        self.output.weight.dims()[1]
    }

    fn denoise(&self, noisy: Tensor<3>, timesteps: Tensor<1>, condition: Tensor<3>) -> Tensor<3> {
        self.predict(self.hidden(noisy, timesteps, condition).image)
    }
}
