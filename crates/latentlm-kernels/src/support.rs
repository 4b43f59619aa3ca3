//! Which tensors the kernels of this crate can work on.

use burn::tensor::{DType, Tensor};

/// Whether the kernels of this crate can work on a tensor where it lies.
pub(crate) fn has_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    crate::fallback::kernels_allowed() && crate::cpu::covers(x)
}

/// Whether a weight is one of Burn's quantized tensors.
pub(crate) fn is_quantized(weight: &Tensor<2>) -> bool {
    matches!(weight.dtype(), DType::QFloat(_))
}

/// Whether `weight` is stored in bfloat16 to save memory, and not to compute in it: float32 is multiplied with such a
/// weight and stays float32. It is so for models that only infer, on the CPU backend without autodiff.
pub(crate) fn is_stored<const D: usize, const W: usize>(x: &Tensor<D>, weight: &Tensor<W>) -> bool {
    x.dtype() == DType::F32
        && weight.dtype() == DType::BF16
        && !crate::fallback::is_training()
        && crate::cpu::is_plain(x)
        && crate::cpu::is_plain(weight)
}
