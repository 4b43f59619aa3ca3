//! The model of the paper's figure 2: adapters make positions of labels and latents, one causal
//! Transformer reads them, the diffusion head reads its hidden states.

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use latentlm_core::{CausalBackbone, DiffusionDraws, LatentHead, ModalityAdapter};

use crate::image::ImageAdapters;

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
    /// Hidden states that predict each latent: position 0 holds the label, position `i` the latent
    /// `i - 1` (teacher forcing).
    ///
    /// # Shapes
    /// - `labels`: `[B]`; `latents`: `[B, T, Z]`, whitened
    /// - returns: `[B, T, D]`, hidden state `i` predicts latent `i`
    pub fn hidden(&self, labels: Tensor<1, Int>, latents: Tensor<3>) -> Tensor<3> {
        let [_, tokens, _] = latents.dims();
        let label = self.adapters.label.embed(labels); // [B, 1, D]
        let x = match tokens {
            1 => label,
            _ => {
                let past = self.adapters.latent.embed(latents.narrow(1, 0, tokens - 1));
                Tensor::cat(vec![label, past], 1) // [B, T, D]
            }
        };
        self.backbone.forward(x)
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
        let hidden = self.hidden(labels, latents.clone());
        let width = hidden.dims()[2];
        let condition = hidden.reshape([rows, width]).repeat_dim(0, draws_per_row);
        let latents = latents.reshape([rows, dim]).repeat_dim(0, draws_per_row);
        self.head.loss_at(latents, condition, draws)
    }
}
