//! Runs of latents under way.

use burn::tensor::Tensor;
use latentlm_adapters::packed::indices;
use latentlm_core::CausalBackbone;

/// Rows of a matrix, `[N, D]`; they are given in rising order, and not copied where they follow one
/// another.
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

/// Sequences that began a run of one modality at the same position. With guidance in the middle of
/// sequences, a second batch reads the same latents behind a prompt without condition.
pub(super) struct Run<S> {
    pub(super) modality: usize,
    /// All that began it, in rising order: the rows of the second batch.
    sequences: Vec<usize>,
    /// Places in `sequences` of those that have not ended, in rising order.
    going_on: Vec<usize>,
    /// The second batch's state, and what it reads next, `[G, T, D]`.
    null: Option<(S, Tensor<3>)>,
}

impl<S> Run<S> {
    pub(super) fn new(
        modality: usize,
        sequences: Vec<usize>,
        null: Option<(S, Tensor<3>)>,
    ) -> Self {
        Self {
            modality,
            going_on: (0..sequences.len()).collect(),
            sequences,
            null,
        }
    }

    /// Those that go on, in rising order.
    pub(super) fn under_way(&self) -> Vec<usize> {
        let sequence = |&place: &usize| self.sequences[place];
        self.going_on.iter().map(sequence).collect()
    }

    /// Ends the run of those sequences that `ends` names.
    pub(super) fn end(&mut self, mut ends: impl FnMut(usize) -> bool) {
        let sequences = &self.sequences;
        self.going_on.retain(|&place| !ends(sequences[place]));
    }

    /// Whether all have ended.
    pub(super) fn is_over(&self) -> bool {
        self.going_on.is_empty()
    }

    /// Hidden states of the second batch after its next position, `[N, D]`, of those that go on; none
    /// where there is no second batch.
    pub(super) fn null_hidden<B>(&mut self, backbone: &B) -> Option<Tensor<2>>
    where
        B: CausalBackbone<State = S>,
    {
        let (state, input) = self.null.as_mut()?;
        let hidden = backbone.step(input.clone(), state);
        let [rows, length, width] = hidden.dims();
        let hidden = hidden.narrow(1, length - 1, 1).reshape([rows, width]);
        Some(take(&hidden, &self.going_on))
    }

    /// Hands the second batch the latents that were drawn for those that go on, embedded, `[N, D]`.
    pub(super) fn read(&mut self, embedded: &Tensor<2>) {
        let Some((_, input)) = &mut self.null else {
            return;
        };
        // The rows of those that have ended must read something; nobody asks what they make of it.
        let mut rows = vec![0; self.sequences.len()];
        for (row, &place) in self.going_on.iter().enumerate() {
            rows[place] = row as i64;
        }
        let rows = indices(&rows, &embedded.device());
        *input = embedded.clone().select(0, rows).unsqueeze_dim(1);
    }
}
