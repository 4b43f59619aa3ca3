//! Numbers as cosines and sines of several frequencies.

use burn::tensor::{Tensor, TensorData};

/// `[cos(t f), sin(t f)]` of each number `t` of `x` for all frequencies `f`, in radians: cosines first.
///
/// # Shapes
/// - `x`: `[N]`; `frequencies`: `P`
/// - returns: `[N, 2 P]`
pub fn sinusoid(x: Tensor<1>, frequencies: &[f32]) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if let Some(encoded) = crate::cpu::sinusoid(&x, frequencies) {
        return encoded;
    }
    let row = TensorData::new(frequencies.to_vec(), [1, frequencies.len()]);
    let row = Tensor::<2>::from_data(row, &x.device());
    let angles = x.unsqueeze_dim::<2>(1) * row; // [N, P]
    Tensor::cat(vec![angles.clone().cos(), angles.sin()], 1)
}
