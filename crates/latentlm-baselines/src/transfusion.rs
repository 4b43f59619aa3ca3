//! Transfusion: one Transformer, causal over text, bidirectional within an image, diffusion over the
//! whole image (Zhou et al. 2024, arXiv 2408.11039).

use burn::config::Config;
use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::{Device, Tensor};
use latentlm_adapters::TokenAdapterConfig;
use latentlm_backbone::{Rope, RopeLayout};
use latentlm_core::sequence::SpecialTokens;
use latentlm_diffusion::{NoiseSchedule, TimestepEmbedding};
use latentlm_kernels::{Rotary, Sight, document_attention, linear_layer, rms_norm};

use crate::block::{Attention, FeedForward, zero_linear};
use crate::class::{ClassConditional, Geometry};
use crate::denoiser::ImageDenoiser;
use crate::error::BaselineError;
use crate::mixed_transfusion::MixedTransfusion;
use crate::sizes::{DenoiserSizes, NORM_EPSILON, TIMESTEP_SINUSOID};

const RIVAL: &str = "Transfusion";
/// Base of the rotary frequencies, the backbone's.
const ROPE_THETA: f64 = 1e4;

/// The class-conditional Transfusion.
pub type Transfusion = ClassConditional<TransfusionNetwork>;

/// Configuration of a [`Transfusion`] or a [`MixedTransfusion`].
#[derive(Config, Debug, PartialEq)]
pub struct TransfusionConfig {
    /// Number of classes; of a model of text, tokens of text: those of `SpecialTokens` come on top.
    pub classes: usize,
    /// `T`, latents an image.
    pub tokens: usize,
    /// `Z`, numbers a latent.
    pub latent_dim: usize,
    /// Sizes of the Transformer.
    #[config(default = "DenoiserSizes::new()")]
    pub sizes: DenoiserSizes,
}

impl TransfusionConfig {
    fn geometry(&self) -> Geometry {
        Geometry {
            classes: self.classes,
            tokens: self.tokens,
            latent_dim: self.latent_dim,
        }
    }

    /// What is wrong with the configuration, if anything, in one line.
    ///
    /// # Errors
    /// If a size is zero or sizes do not fit each other.
    pub fn validate(&self) -> Result<(), BaselineError> {
        self.geometry().validate(RIVAL)?;
        self.sizes.validate(RIVAL)
    }

    /// Builds the class-conditional model. Its parameters are drawn from the device's generator:
    /// seed that first.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init(&self, device: &Device) -> Transfusion {
        let network = self.network(device);
        self.geometry().model(self.sizes.width, network, device)
    }

    /// Builds the model of text and images, like [`init`](Self::init). `tied`: embedding and softmax
    /// head share a table.
    ///
    /// # Panics
    /// If [`validate`](Self::validate) fails.
    pub fn init_mixed(&self, tied: bool, device: &Device) -> MixedTransfusion {
        let network = self.network(device);
        let vocabulary = self.classes + SpecialTokens::count(1);
        let token = TokenAdapterConfig::new(vocabulary, self.sizes.width).with_tied(tied);
        // LatentLM's.
        let token = token.with_embedding_std(if tied { 0.02 } else { 1.0 });
        MixedTransfusion {
            token: token.init(device),
            image: self.geometry().image(self.sizes.width, network, device),
        }
    }

    fn network(&self, device: &Device) -> TransfusionNetwork {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let (sizes, width) = (&self.sizes, self.sizes.width);
        let (frequencies, period) = TIMESTEP_SINUSOID;
        TransfusionNetwork {
            timestep: TimestepEmbedding::new(width, frequencies, period, device),
            blocks: (0..sizes.depth)
                .map(|_| TransfusionBlock {
                    attention: Attention::new(sizes, device),
                    mlp: FeedForward::new(sizes, device),
                })
                .collect(),
            output: zero_linear(width, self.latent_dim, device),
            rope: Rope::new(RopeLayout::Interleaved, sizes.head_dim(), ROPE_THETA),
            schedule: sizes.noise_schedule(),
        }
    }
}

/// One block, the backbone's: `x += attention(norm(x))`, `x += mlp(norm(x))`.
#[derive(Module, Debug)]
struct TransfusionBlock {
    attention: Attention,
    mlp: FeedForward,
}

impl TransfusionBlock {
    /// # Shapes
    /// - `x`: `[B, P + T, D]`
    /// - returns: `[B, P + T, D]`
    fn forward(&self, x: Tensor<3>, rotary: &Rotary, documents: &[Sight]) -> Tensor<3> {
        let inner = rms_norm(x.clone(), None, NORM_EPSILON);
        let mixed = self.attention.forward(inner, |packed, heads| {
            document_attention(packed, heads, rotary, documents)
        });
        self.mlp.residual(x + mixed, None)
    }
}

/// The Transformer of a Transfusion model: text or label first, then the image.
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

/// Hidden states after the last norm.
#[derive(Debug, Clone)]
pub struct TransfusionHidden {
    /// Of the prefix, `[B, P, D]`.
    pub prefix: Tensor<3>,
    /// Of the image, `[B, T, D]`.
    pub image: Tensor<3>,
}

impl TransfusionNetwork {
    /// Hidden states of a prefix and a noisy image behind it. The prefix is causal and does not see
    /// the image; the image sees the prefix and all of itself.
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
        let x = Tensor::cat(vec![prefix, self.at(noisy, timesteps)], 1); // [B, P + T, D]
        let length = positions + tokens;
        let x = self.forward_documents(x, &[Sight::mutual(length, positions..length)]);
        TransfusionHidden {
            prefix: x.clone().narrow(1, 0, positions),
            image: x.narrow(1, positions, tokens),
        }
    }

    /// Embedded latents that know their images' timesteps.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, D]`; `timesteps`: `[B]`
    /// - returns: `[B, T, D]`
    pub(crate) fn at(&self, latents: Tensor<3>, timesteps: Tensor<1>) -> Tensor<3> {
        latents + self.timestep.forward(timesteps).unsqueeze_dim::<3>(1)
    }

    /// Hidden states of sequences that are several documents one after the other, each from
    /// position 0.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`; `documents`: lengths that add up to `T`, and who sees whom
    /// - returns: `[B, T, D]`
    pub fn forward_documents(&self, mut x: Tensor<3>, documents: &[Sight]) -> Tensor<3> {
        let lengths: Vec<usize> = documents.iter().map(|document| document.length).collect();
        let rotary = self.rope.rotation(0, &lengths, &x.device());
        for block in &self.blocks {
            x = block.forward(x, &rotary, documents);
        }
        rms_norm(x, None, NORM_EPSILON)
    }

    /// The prediction of the image's hidden states.
    ///
    /// # Shapes
    /// - `image`: `[B, T, D]`
    /// - returns: `[B, T, Z]`
    pub fn predict(&self, image: Tensor<3>) -> Tensor<3> {
        linear_layer(&self.output, image)
    }
}

impl ImageDenoiser for TransfusionNetwork {
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
