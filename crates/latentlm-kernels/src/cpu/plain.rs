//! Tensors of the CPU backend without autodiff, for kernels that have no gradient. Such kernels need no node in
//! the autodiff graph and therefore no backend extension. On autodiff devices Burn's operations do their
//! work.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::tensor::{DType, Tensor};

use super::storage::contiguous;
use crate::fallback::kernels_allowed;

/// The backend's own tensor. `None` if it is not float32 on the CPU backend without autodiff, or if kernels are
/// switched off.
pub(crate) fn plain<const D: usize>(x: Tensor<D>) -> Option<FlexTensor> {
    plain_in(DType::F32, x)
}

/// [`plain`] for tensors of another precision.
pub(super) fn plain_in<const D: usize>(dtype: DType, x: Tensor<D>) -> Option<FlexTensor> {
    if x.dtype() == dtype && kernels_allowed() {
        x.try_into_primitive::<Flex>().ok()
    } else {
        None
    }
}

/// [`plain`] in contiguous memory.
pub(super) fn flat<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    plain(x.clone()).map(contiguous)
}

/// [`flat`] for an optional tensor.
pub(super) fn flat_option<const D: usize>(x: &Option<Tensor<D>>) -> Option<Option<FlexTensor>> {
    match x {
        Some(x) => flat(x).map(Some),
        None => Some(None),
    }
}

/// The way back from [`plain`].
pub(super) fn wrapped<const D: usize>(x: FlexTensor) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(x)
}
