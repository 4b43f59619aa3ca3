//! Quantized weights as tensors of the CPU backend.
//!
//! Such a tensor is one of Burn's quantized tensors by its type, so that modules keep it as a parameter and it is cloned
//! without copying numbers. Within, it has packed rows of numbers and scales, which only the kernels here can read: Burn
//! would copy all scales in each clone, and take a byte for 4 bits
//! (`docs/decisions/0008-quantized-weights.md`).

use burn::backend::flex::{FlexQTensor, FlexTensor, Layout};
use burn::backend::{BackendTensor, DispatchAutodiffContext, DispatchTensor, DispatchTensorKind};
use burn::tensor::quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype};
use burn::tensor::{Bytes, DType, Tensor};
use latentlm_products::{Bits, Quantized};

use super::plain::wrapped;
use super::storage::{sizes, tensor};
use crate::types::{WEIGHT_GROUP, WeightBits};

/// Bits as the products have them.
pub(crate) fn bits(bits: WeightBits) -> Bits {
    match bits {
        WeightBits::Eight => Bits::Eight,
        WeightBits::Four => Bits::Four,
    }
}

/// The type of such tensors.
fn scheme(bits: Bits) -> QuantScheme {
    let value = match bits {
        Bits::Eight => QuantValue::Q8S,
        Bits::Four => QuantValue::Q4S,
    };
    QuantScheme::default()
        .with_value(value)
        .with_store(QuantStore::Native)
        .per_block([WEIGHT_GROUP as u8, 1], ScaleDtype::F16)
}

/// A weight `[inputs, outputs]` of packed rows, one for each output.
pub(crate) fn packed_weight<const D: usize>(
    packed: Vec<u8>,
    bits: Bits,
    inputs: usize,
) -> Tensor<D> {
    let line = bits.row_bytes(inputs);
    let outputs = packed.len() / line;
    // All inputs of an output have the place where its row begins.
    let layout = Layout::new([inputs, outputs].into(), vec![0, line as isize], 0);
    let rows = FlexTensor::new(Bytes::from_bytes_vec(packed), layout, DType::I8);
    // Burn wants a scale. Code that takes this one for the scale of the numbers gets rubbish, not something that
    // looks right.
    let carrier = FlexQTensor::new(rows, scheme(bits), vec![f32::NAN], None);
    Tensor::from_dispatch(DispatchTensor {
        kind: DispatchTensorKind::Flex(BackendTensor::Quantized(carrier)),
        autodiff: DispatchAutodiffContext::Disabled,
    })
}

/// The rows of a quantized weight `[inputs, outputs]`, packed for the CPU's kernels.
pub(super) struct PackedRows {
    rows: FlexTensor,
    bits: Bits,
}

impl PackedRows {
    /// The rows of a tensor that [`packed_weight`] made; `None` for any other tensor.
    pub(super) fn of(x: &Tensor<2>) -> Option<Self> {
        let DType::QFloat(found) = x.dtype() else {
            return None;
        };
        let mut known = [Bits::Eight, Bits::Four].into_iter();
        let bits = known.find(|bits| scheme(*bits) == found)?;
        let kind = x.clone().into_dispatch().kind;
        let DispatchTensorKind::Flex(BackendTensor::Quantized(carrier)) = kind else {
            return None;
        };
        let rows = carrier.tensor().clone();
        // In Burn's own tensors each number has a place.
        let is_ours = rows.layout().strides().first() == Some(&0);
        is_ours.then_some(Self { rows, bits })
    }

    /// Bytes of the numbers and scales of an output.
    pub(super) fn row_bytes(&self) -> usize {
        let [inputs, _] = sizes(&self.rows);
        self.bits.row_bytes(inputs)
    }

    pub(super) fn matrix(&self) -> Quantized<'_> {
        let [inputs, outputs] = sizes(&self.rows);
        Quantized::new(self.rows.bytes(), self.bits, inputs, outputs)
    }
}

/// A quantized weight in float32; `None` of any other tensor.
pub(crate) fn widened(weight: &Tensor<2>) -> Option<Tensor<2>> {
    let PackedRows { rows, bits } = PackedRows::of(weight)?;
    let [inputs, outputs] = sizes(&rows);
    let numbers = bits.widen(rows.bytes(), inputs);
    Some(wrapped::<2>(tensor(numbers, [outputs, inputs])).transpose())
}
