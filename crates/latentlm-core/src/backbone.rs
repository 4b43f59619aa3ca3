//! The contract of causal backbones: one network that runs over a whole sequence or step by step.

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Device, Tensor};

use crate::part::PartConfig;

/// A causal sequence model from `[B, T, D]` to `[B, T, D]`.
///
/// [`forward`](Self::forward) and [`step`](Self::step) must agree: the outputs are the same whether positions
/// come all at once, one by one or in chunks (suite `conformance::backbone`).
pub trait CausalBackbone: Module + ModuleDisplay {
    /// State of earlier positions that later ones need: the KV cache. The caller keeps it and passes it in.
    /// So the module does not change, and may work on many sequences at a time.
    type State: Clone + Send;

    /// `D`, the width of inputs and outputs.
    fn width(&self) -> usize;

    /// Outputs of all positions of a sequence.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`
    /// - returns: `[B, T, D]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3>;

    /// Outputs of packed sequences, which consist of several documents. No position sees another document,
    /// and positions count from 0 in each: outputs are those of each document alone.
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

    /// An empty state with room for `capacity` positions of `batch` sequences, allocated once.
    fn init_state(&self, batch: usize, capacity: usize, device: &Device) -> Self::State;

    /// [`init_state`](Self::init_state) for prompts of different lengths, which are padded at the front to one
    /// length. The first `padding[b]` positions of sequence `b` are hidden from all later ones.
    fn init_padded_state(&self, padding: &[usize], capacity: usize, device: &Device)
    -> Self::State;

    /// Outputs of the next `T` positions: one in generation, many in a prompt.
    ///
    /// # Shapes
    /// - `x`: `[B, T, D]`
    /// - returns: `[B, T, D]`
    ///
    /// # Panics
    /// If the state has no room for `T` more positions or was made for another batch.
    fn step(&self, x: Tensor<3>, state: &mut Self::State) -> Tensor<3>;
}

/// Sizes of a backbone from the table `[lm]` of a recipe. A backbone may ignore those that it has no use
/// for.
#[derive(Debug, Clone, PartialEq)]
pub struct BackboneSizes {
    /// `D`, width of inputs and outputs.
    pub width: usize,
    /// Number of blocks.
    pub depth: usize,
    /// Number of query heads.
    pub heads: usize,
    /// Number of key/value heads; 0 stands for as many as query heads.
    pub kv_heads: usize,
    /// Ratio of feed-forward width to width.
    pub mlp_ratio: f64,
    /// Gradient checkpointing: whether training keeps only the input of each block and runs the block again for
    /// its gradients.
    pub recompute: bool,
}

/// The configuration of a backbone.
pub trait CausalBackboneConfig: PartConfig {
    /// The backbone.
    type Backbone: CausalBackbone;

    /// The configuration for the sizes of a recipe.
    fn of(sizes: &BackboneSizes) -> Self;

    /// Builds the backbone. Its weights come from the device's random generator; seed that first.
    ///
    /// # Panics
    /// If [`validate`](PartConfig::validate) fails.
    fn init(&self, device: &Device) -> Self::Backbone;
}
