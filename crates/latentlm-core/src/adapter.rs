//! What a modality adapter promises: its input becomes positions of the one sequence.

use burn::module::Module;
use burn::tensor::Tensor;

/// Turns one modality's values into positions of the backbone's sequence.
///
/// `Input` is the modality's own tensor: labels `[B]`, tokens `[B, T]` or latents `[B, T, Z]`.
pub trait ModalityAdapter<Input>: Module {
    /// `D`, the width of a position.
    fn width(&self) -> usize;

    /// Embeds the input.
    ///
    /// # Shapes
    /// - returns: `[B, T, D]`
    fn embed(&self, input: Input) -> Tensor<3>;
}
