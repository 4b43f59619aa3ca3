//! Modulations of the head's layers, for many solver steps in one matrix product.

use burn::tensor::Tensor;

use crate::head::DiffusionHead;

/// Upper bound of the bytes of modulations that [`StepModulations`] computes in one matrix product.
/// A product over many solver steps reads the weights once for all of them.
const MODULATION_BYTES: usize = 8 << 20;

/// The modulations of all layers and of the output.
pub(crate) struct Modulations {
    /// Shift, scale and gate of each layer, `[N, 3D]`.
    pub(crate) layers: Vec<Tensor<2>>,
    /// Shift and scale before the output projection, `[N, 2D]`.
    pub(crate) output: Tensor<2>,
}

impl Modulations {
    /// The modulations of `count` rows from `start` on.
    fn rows(&self, start: usize, count: usize) -> Self {
        let narrow = |x: &Tensor<2>| x.clone().narrow(0, start, count);
        Self {
            layers: self.layers.iter().map(narrow).collect(),
            output: narrow(&self.output),
        }
    }
}

/// Modulations of all solver steps, computed for many steps in one matrix product. That is possible
/// because they depend on the condition and the timestep, not on the noisy latents.
pub(crate) struct StepModulations<'a> {
    head: &'a DiffusionHead,
    /// Projected hidden states, `[N, D]`; with guidance, the null rows follow the conditional ones.
    condition: Tensor<2>,
    /// Timestep embeddings of the solver steps, `[S, D]`.
    timesteps: Tensor<2>,
    /// Solver steps in one matrix product.
    steps_at_once: usize,
    /// First step and modulations of the newest product.
    ready: Option<(usize, Modulations)>,
}

impl<'a> StepModulations<'a> {
    pub(crate) fn new(head: &'a DiffusionHead, condition: Tensor<2>, timesteps: Tensor<2>) -> Self {
        let [rows, width] = condition.dims();
        let row_bytes = (3 * head.depth() + 2) * width * size_of::<f32>();
        Self {
            head,
            steps_at_once: (MODULATION_BYTES / (rows * row_bytes).max(1)).max(1),
            condition,
            timesteps,
            ready: None,
        }
    }

    /// The modulations of one solver step.
    pub(crate) fn at(&mut self, step: usize) -> Modulations {
        let rows = self.condition.dims()[0];
        let first = step - step % self.steps_at_once;
        if self.ready.as_ref().is_none_or(|(start, _)| *start != first) {
            self.ready = Some((first, self.compute(first)));
        }
        match &self.ready {
            Some((start, modulations)) => modulations.rows((step - start) * rows, rows),
            None => self.compute(step),
        }
    }

    /// The modulations of the steps from `first` on, step by step.
    fn compute(&self, first: usize) -> Modulations {
        let [rows, width] = self.condition.dims();
        let steps = self.steps_at_once.min(self.timesteps.dims()[0] - first);
        let timesteps = self.timesteps.clone().narrow(0, first, steps);
        let condition =
            self.condition.clone().unsqueeze_dim::<3>(0) + timesteps.unsqueeze_dim::<3>(1); // [steps, N, D]
        self.head
            .modulations(condition.reshape([steps * rows, width]))
    }
}
