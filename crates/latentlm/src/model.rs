//! The model of the paper's figure 2: adapters make positions of labels and latents, one causal
//! Transformer reads them, the diffusion head reads its hidden states.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use latentlm_adapters::packed::indices;
use latentlm_core::sequence::{Document, Layout, Segment, SpecialTokens};
use latentlm_core::{CausalBackbone, DiffusionDraws, LatentHead, ModalityAdapter};

use crate::image::ImageAdapters;

/// The modalities of a class-conditional image's document.
const LABELS: usize = 0;
const PICTURES: usize = 1;

/// A latent language model: adapters `A`, backbone `B`, head for continuous latents `H`.
#[derive(Module, Debug)]
pub struct LatentLm<A, B, H> {
    /// Values to positions.
    pub adapters: A,
    /// Positions to hidden states.
    pub backbone: B,
    /// Hidden states to latents.
    pub head: H,
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<ImageAdapters, B, H> {
    /// Where everything stands in a batch: every document is a label and its picture's latents.
    ///
    /// # Panics
    /// If a picture has no latents.
    pub fn layout(&self, batch: usize, tokens: usize) -> Layout {
        let label = Segment::Bare {
            modality: LABELS,
            frames: 1,
            learned: false,
        };
        let picture = Segment::Bare {
            modality: PICTURES,
            frames: tokens,
            learned: true,
        };
        let document = Document {
            segments: vec![label, picture],
        };
        let modalities = SpecialTokens::after(0, 2).modalities;
        Layout::new(&vec![document; batch], &modalities)
    }

    /// Hidden states that predict each latent: position 0 holds the label, position `i` the latent
    /// `i - 1` (teacher forcing).
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `latents`: `[B, T, Z]`, whitened
    /// - returns: `[B, T, D]`, hidden state `i` predicts latent `i`
    pub fn hidden(&self, labels: Tensor<1, Int>, latents: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, _] = latents.dims();
        let layout = self.layout(batch, tokens);
        self.hidden_at(&layout, labels, latents)
    }

    fn hidden_at(&self, layout: &Layout, labels: Tensor<1, Int>, latents: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, _] = latents.dims();
        let label = self.adapters.label.embed(labels); // [B, 1, D]
        let latents = self.adapters.latent.embed(latents); // [B, T, D]
        let width = label.dims()[2];
        let label = label.reshape([batch, width]);
        let latents = latents.reshape([batch * tokens, width]);
        let rows = indices(&layout.rows, &label.device());
        let x = Tensor::cat(vec![label, latents], 0).select(0, rows);
        // All documents are of one length: packed they are a rectangle.
        self.backbone.forward(x.reshape([batch, tokens, width]))
    }

    /// The next-token diffusion loss. Rows `[K, B, T]` of `draws`: the backbone runs once, its
    /// hidden states are shared by `K` draws of noise and timestep (paper §2.2, `ddpm_batch_mul`).
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `latents`: `[B, T, Z]`, whitened
    /// - `draws`: `K * B * T` rows
    /// - returns: `[1]`
    ///
    /// # Panics
    /// If the rows of `draws` are no multiple of `B * T`.
    pub fn loss(
        &self,
        labels: Tensor<1, Int>,
        latents: Tensor<3>,
        draws: DiffusionDraws,
    ) -> Tensor<1> {
        let [batch, tokens, dim] = latents.dims();
        let rows = batch * tokens;
        let draws_per_row = draws.noise.dims()[0] / rows;
        assert_eq!(
            draws.noise.dims()[0],
            draws_per_row * rows,
            "draws must be a multiple of the {rows} latents"
        );
        let layout = self.layout(batch, tokens);
        let hidden = self.hidden_at(&layout, labels, latents.clone());
        let (width, device) = (hidden.dims()[2], hidden.device());
        let learned = &layout.learned[PICTURES];
        let hidden = hidden.reshape([rows, width]);
        let condition = hidden.select(0, indices(&learned.conditions, &device));
        let latents = latents.reshape([rows, dim]);
        let latents = latents.select(0, indices(&learned.latents, &device));
        self.head.loss_at(
            latents.repeat_dim(0, draws_per_row),
            condition.repeat_dim(0, draws_per_row),
            draws,
        )
    }
}
