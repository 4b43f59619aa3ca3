//! What a causal backbone promises: one network, run over a whole sequence or step by step.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

/// A causal sequence model from `[B, T, D]` to `[B, T, D]`.
///
/// [`forward`](Self::forward) and [`step`](Self::step) must agree: the same positions fed at
/// once, one by one or in chunks give the same outputs (suite `conformance::backbone`).
pub trait CausalBackbone: Module {
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

    /// Room for `capacity` positions of `batch` sequences, allocated once.
    fn init_state(&self, batch: usize, capacity: usize, device: &Device) -> Self::State;

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
