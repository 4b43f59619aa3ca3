//! Tensors of the CPU backend itself, for kernels of which no gradient is ever asked. These need no
//! place in the autodiff graph, and so no backend extension: where there is a graph, they leave the
//! work to Burn's operations.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};

use crate::fallback::kernels_allowed;

/// The backend's tensor, where it lies on the CPU backend, outside of any graph and in float32, and
/// kernels are wanted.
pub(crate) fn plain<const D: usize>(x: Tensor<D>) -> Option<FlexTensor> {
    match x.dtype() {
        DType::F32 if kernels_allowed() => x.try_into_primitive::<Flex>().ok(),
        _ => None,
    }
}

/// The way back.
pub(super) fn wrapped<const D: usize>(x: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(x)
}
