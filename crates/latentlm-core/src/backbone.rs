//! What a causal backbone promises: one network, run over a whole sequence or step by step.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};

use crate::part::PartConfig;

/// A causal sequence model from `[B, T, D]` to `[B, T, D]`.
///
/// [`forward`](Self::forward) and [`step`](Self::step) must agree: the same positions fed at
/// once, one by one or in chunks give the same outputs (suite `conformance::backbone`).
pub trait CausalBackbone: Module + ModuleDisplay {
    /// What a sequence leaves behind for its next positions (the KV cache). A value that is passed
    /// in: the module stays `&self`, and many sequences may be under way.
    type State: Clone + Send;

    /// `D`, the width of inputs and outputs.
    fn width(&self) -> usize;

    /// All positions at once, from position 0.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`
    /// - returns: `[B, T, D]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;

    /// Sequences that are several documents one after the other, each from position 0: no position
    /// sees another document, so that each gives what it gives alone.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`; `documents`: lengths that add up to `T`
    /// - returns: `[B, T, D]`
    ///
    /// # Panics
    /// If the lengths do not add up to `T`.
    fn forward_documents(&self, x: Tensor<3>, documents: &[usize]) -> Tensor<3> {
        let mut start = 0;
        let alone = documents.iter().map(|&length| {
            start += length;
            self.forward(x.clone().narrow(1, start - length, length))
        });
        let outputs = Tensor::cat(alone.collect(), 1);
        assert_eq!(
            start,
            x.dims()[1],
            "documents of {start} positions in {:?}",
            x.dims()
        );
        outputs
    }

    /// Room for `capacity` positions of `batch` sequences, allocated once.
    fn init_state(&self, batch: usize, capacity: usize, device: &Device) -> Self::State;

    /// [`init_state`](Self::init_state) for prompts of different lengths, filled up in front to one
    /// length: the first `padding[b]` positions of sequence `b` are seen by none that follow.
    fn init_padded_state(&self, padding: &[usize], capacity: usize, device: &Device)
    -> Self::State;

    /// The next `T` positions (one when generating, many when a prompt is read).
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`
    /// - returns: `[B, T, D]`
    ///
    /// # Panics
    /// If the state has no room for `T` more positions or was made for another batch.
    fn step(&self, x: Tensor<3>, state: &mut Self::State) -> Tensor<3>;
}

/// Sizes of a backbone, as the table `[lm]` of a recipe gives them. A backbone reads those that mean
/// something to it.
#[derive(Debug, Clone, PartialEq)]
pub struct BackboneSizes {
    /// `D`, width of inputs and outputs.
    pub width: usize,
    /// Blocks.
    pub depth: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads; 0 stands for as many as query heads.
    pub kv_heads: usize,
    /// Feed-forward ratio.
    pub mlp_ratio: f64,
    /// Whether training runs blocks again for their gradients instead of keeping what they computed.
    pub recompute: bool,
}

/// The configuration of a backbone.
pub trait CausalBackboneConfig: PartConfig {
    /// The backbone.
    type Backbone: CausalBackbone;

    /// The configuration that a recipe's sizes ask for.
    fn of(sizes: &BackboneSizes) -> Self;

    /// Builds the backbone. Its parameters are drawn from the device's generator: seed that first.
    ///
    /// # Panics
    /// If [`validate`](PartConfig::validate) fails.
    fn init(&self, device: &Device) -> Self::Backbone;
}
