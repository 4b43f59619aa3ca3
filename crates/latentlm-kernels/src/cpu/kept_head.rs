//! Weights of a diffusion head as they are laid out for its products.

use std::sync::Arc;

use burn::backend::flex::FlexTensor;

use super::weight::Weight;
use crate::types::HeadPrecision;

/// A head that was laid out for a precision.
// The tensors stay alive here: memory with two owners is copied before it is written. So a tensor at the same place
// has the same numbers.
pub(crate) struct KeptHead {
    pub(super) head: Arc<Head>,
    pub(super) precision: HeadPrecision,
    /// The tensors that the head was made of.
    pub(super) sources: Vec<FlexTensor>,
}

/// A layer of a [`Head`].
pub(super) struct Layer {
    /// Weight of the norm, `[width]`.
    pub(super) norm: Option<FlexTensor>,
    /// `[width, 3 width]`
    pub(super) modulation: Weight,
    /// `[width, inner]`
    pub(super) gate: Weight,
    /// `[width, inner]`
    pub(super) up: Weight,
    /// `[inner, width]`
    pub(super) down: Weight,
    pub(super) epsilon: f32,
}

impl Layer {
    /// Width between the projections of the block.
    pub(super) fn inner(&self) -> usize {
        self.gate.sizes()[1]
    }
}

/// A head with its weights laid out.
pub(super) struct Head {
    /// `[latent, width]`
    pub(super) input: Weight,
    /// Bias of the input projection, `[width]`.
    pub(super) bias: Option<FlexTensor>,
    pub(super) layers: Vec<Layer>,
    /// `[width, 2 width]`
    pub(super) modulation: Weight,
    /// `[width, latent]`
    pub(super) output: Weight,
    pub(super) epsilon: f32,
}

impl Head {
    pub(super) fn latent(&self) -> usize {
        self.input.sizes()[0]
    }

    pub(super) fn width(&self) -> usize {
        self.input.sizes()[1]
    }

    /// Bytes of the weights that modulations are computed with.
    pub(super) fn modulation_bytes(&self) -> usize {
        let layers = self.layers.iter().map(|layer| layer.modulation.bytes());
        layers.sum::<usize>() + self.modulation.bytes()
    }
}
