//! Tensors of the CPU backend as slices of their numbers, and back.

use burn::backend::TensorMetadata;
use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

/// The tensor in contiguous memory.
// Most tensors are, and then this costs nothing: the graph keeps a clone, which shares the memory.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    match tensor.as_slice::<f32>() {
        Some(_) => tensor,
        None => tensor.to_contiguous(),
    }
}

/// The tensor with a storage that holds exactly its numbers, so that it can be written in place. If another
/// tensor shares the storage, the first write copies it.
pub(super) fn owned(tensor: FlexTensor) -> FlexTensor {
    // A view of a larger storage is contiguous too, but the rest of that storage belongs to others.
    let bytes = tensor.layout().num_elements() * tensor.dtype().size();
    if tensor.is_contiguous() && tensor.bytes().len() == bytes {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// The numbers of a contiguous tensor.
pub(super) fn numbers(tensor: &FlexTensor) -> &[f32] {
    tensor
        .as_slice()
        .expect("kernels are given contiguous tensors")
}

/// Numbers as a tensor.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    let layout = Layout::contiguous(shape.into());
    FlexTensor::new(Bytes::from_elems(values), layout, DType::F32)
}

/// The sizes of a tensor with `D` dimensions.
pub(super) fn sizes<const D: usize>(tensor: &FlexTensor) -> [usize; D] {
    tensor.shape().dims()
}
