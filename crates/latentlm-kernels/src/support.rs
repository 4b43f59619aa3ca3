//! Which tensors the kernels of this crate can work on.

use burn::tensor::Tensor;

/// Whether the kernels of this crate can work on a tensor where it lies.
pub(crate) fn has_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    crate::fallback::kernels_allowed() && crate::cpu::covers(x)
}
