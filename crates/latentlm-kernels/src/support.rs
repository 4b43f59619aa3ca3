//! Which tensors the kernels of this crate can work on.

use burn::backend::DispatchTensorKind;
use burn::tensor::{DType, Tensor};

use crate::fallback::{is_training, kernels_allowed};

/// Whether the kernels of this crate can work on a tensor where it lies.
pub(crate) fn has_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    kernels_allowed() && covers(x)
}

/// Whether the kernels support a tensor: it must be float32 on the CPU backend.
fn covers<const D: usize>(x: &Tensor<D>) -> bool {
    if x.dtype() != DType::F32 {
        return false;
    }
    match x.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(_) => true,
        DispatchTensorKind::Autodiff(inner) => matches!(*inner, DispatchTensorKind::Flex(_)),
        #[allow(unreachable_patterns)] // In builds without another backend.
        _ => false,
    }
}

/// Whether a tensor lies on the CPU backend without autodiff.
pub(crate) fn is_plain<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.clone().into_dispatch().kind, DispatchTensorKind::Flex(_))
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
        && !is_training()
        && is_plain(x)
        && is_plain(weight)
}
