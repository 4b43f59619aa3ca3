//! Batches that the backbone reads step by step, and runs of latents under way.

use burn::tensor::Tensor;
use latentlm_adapters::packed::indices;
use latentlm_core::{CausalBackbone, LatentHead};

use super::prompt::Prompt;
use crate::model::LatentLm;

/// Some rows of a matrix, `[N, D]`, given in rising order. They are not copied if they are contiguous.
pub(super) fn take(matrix: &Tensor<2>, rows: &[usize]) -> Tensor<2> {
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if last - first + 1 == rows.len() => {
            matrix.clone().narrow(0, *first, rows.len())
        }
        _ => {
            let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
            matrix.clone().select(0, indices(&rows, &matrix.device()))
        }
    }
}

/// A batch that the backbone reads: what it has read so far, and what comes next.
pub(super) struct Branch<S> {
    state: S,
    /// The next input, `[R, T, D]`: the prompts, then one position at a time.
    pub(super) input: Tensor<3>,
}

impl<S> Branch<S> {
    /// A batch of prompts, with room for `further` positions behind them.
    pub(super) fn new<B, H>(model: &LatentLm<B, H>, prompts: &[Prompt], further: usize) -> Self
    where
        B: CausalBackbone<State = S>,
        H: LatentHead,
    {
        let (input, padding) = model.embed_prompts(prompts);
        let capacity = input.dims()[1] + further;
        let device = input.device();
        Self {
            state: model
                .backbone
                .init_padded_state(&padding, capacity, &device),
            input,
        }
    }

    /// Reads the input. Returns the hidden states of its last position, `[R, D]`.
    pub(super) fn read<B: CausalBackbone<State = S>>(&mut self, backbone: &B) -> Tensor<2> {
        let hidden = backbone.step(self.input.clone(), &mut self.state);
        let [rows, length, width] = hidden.dims();
        hidden.narrow(1, length - 1, 1).reshape([rows, width])
    }
}

/// Sequences that began a run of latents of one modality at the same position. With guidance in a model
/// that writes text, a second batch reads the same latents after a prompt without condition.
pub(super) struct Run<S> {
    pub(super) modality: usize,
    /// Sequences that began the run, in rising order; row `i` of the second batch belongs to entry `i`.
    sequences: Vec<usize>,
    /// Indices into `sequences` of those that have not ended, in rising order.
    going_on: Vec<usize>,
    /// The second batch.
    null: Option<Branch<S>>,
}

impl<S> Run<S> {
    pub(super) fn new(modality: usize, sequences: Vec<usize>, null: Option<Branch<S>>) -> Self {
        Self {
            modality,
            going_on: (0..sequences.len()).collect(),
            sequences,
            null,
        }
    }

    /// Sequences that have not ended, in rising order.
    pub(super) fn under_way(&self) -> Vec<usize> {
        let places = self.going_on.iter();
        places.map(|&place| self.sequences[place]).collect()
    }

    /// Ends the run of the sequences for which `ends` is true. Calls it once for each sequence that has not ended.
    pub(super) fn end(&mut self, mut ends: impl FnMut(usize) -> bool) {
        let sequences = &self.sequences;
        self.going_on.retain(|&place| !ends(sequences[place]));
    }

    /// Whether all have ended.
    pub(super) fn is_over(&self) -> bool {
        self.going_on.is_empty()
    }

    /// Lets the second batch, if there is one, read its next position. Returns the hidden states of the
    /// sequences that go on, `[N, D]`.
    pub(super) fn null_hidden<B>(&mut self, backbone: &B) -> Option<Tensor<2>>
    where
        B: CausalBackbone<State = S>,
    {
        let hidden = self.null.as_mut()?.read(backbone);
        Some(take(&hidden, &self.going_on))
    }

    /// Gives the second batch the embedded latents, `[N, D]`, that were drawn for the sequences that go
    /// on.
    pub(super) fn read(&mut self, embedded: &Tensor<2>) {
        let Some(null) = &mut self.null else {
            return;
        };
        // Rows of sequences that have ended read anything: their hidden states are not used.
        let mut rows = vec![0; self.sequences.len()];
        for (row, &place) in self.going_on.iter().enumerate() {
            rows[place] = row as i64;
        }
        let rows = indices(&rows, &embedded.device());
        null.input = embedded.clone().select(0, rows).unsqueeze_dim(1);
    }
}
