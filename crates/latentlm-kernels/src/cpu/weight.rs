//! A weight as it lies in memory, and products with it: float32 as it is or in panels, bfloat16 as a model's file
//! stores it or laid out for the processor's bfloat16 instruction, int8 and int4 in packed rows.

use burn::backend::flex::FlexTensor;
use burn::backend::{BackendTensor, DispatchTensorKind};
use burn::tensor::{DType, Tensor, bf16};
use latentlm_products::tasks::add_to_rows;
use latentlm_products::{
    Factor, Matrix, Panels, Precision, Rounded, RoundedScratch, Stored, few_rows,
    has_bf16_products, product_over,
};

use super::plain::{flat, flat_option, plain, plain_in, wrapped};
use super::quantized::PackedRows;
use super::storage::{contiguous, numbers, sizes, tensor};
use crate::fallback::precision;
use crate::types::HeadPrecision;

/// Memory that products reuse.
#[derive(Default)]
pub(super) struct Scratch {
    /// Input rows rounded to bfloat16, two numbers in each `u32`, or to int8, four.
    rounded: Vec<u32>,
    /// Output columns that threads have computed.
    columns: Vec<f32>,
}

/// A matrix `[inputs, outputs]`.
pub(super) enum Weight {
    /// float32, row by row.
    Whole(FlexTensor),
    /// float32, in panels of columns.
    Panels(Panels),
    /// float32 numbers, rounded to bfloat16 and laid out for many products.
    Rounded(Rounded),
    /// bfloat16, row by row of outputs: `[outputs, inputs]`, one row after the other.
    Stored(FlexTensor),
    /// int8 or int4, row by row of outputs.
    Quantized(PackedRows),
}

impl Weight {
    /// A weight for a product or two, taken where it lies: laying it out would take longer. The tensor is float32 or
    /// bfloat16.
    pub(super) fn in_place(x: FlexTensor) -> Self {
        if x.dtype() == DType::BF16 {
            Self::Stored(rows_of(x))
        } else {
            Self::Whole(contiguous(x))
        }
    }

    /// [`Self::in_place`] of a plain tensor of any type that a weight may have; `None` of any other.
    pub(super) fn of(x: &Tensor<2>) -> Option<Self> {
        if let Some(rows) = PackedRows::of(x) {
            return Some(Self::Quantized(rows));
        }
        match x.dtype() {
            dtype @ (DType::F32 | DType::BF16) => plain_in(dtype, x.clone()).map(Self::in_place),
            _ => None,
        }
    }

    /// A weight for many products. float32 is laid out for them, on this thread if `alone`, or else on all; others
    /// stay where they lie. `None` if the tensor is no weight on the CPU backend without autodiff, or if the processor
    /// has no products of the precision.
    pub(super) fn new(x: &Tensor<2>, precision: HeadPrecision, alone: bool) -> Option<Self> {
        if x.dtype() != DType::F32 {
            return Self::of(x);
        }
        let whole = contiguous(plain(x.clone())?);
        let [inputs, outputs] = sizes(&whole);
        match precision {
            // At width 256, where weights are smaller, sampling took 441 ms with panels and 413 without
            // (docs/log.md, 2026-11-25).
            HeadPrecision::F32 if inputs * outputs >= Panels::LEAST => {
                let panels = Panels::new(numbers(&whole), inputs, outputs, alone);
                Some(Self::Panels(panels))
            }
            HeadPrecision::F32 => Some(Self::Whole(whole)),
            HeadPrecision::Bf16 if has_bf16_products() => {
                let rounded = Rounded::new(numbers(&whole), inputs, outputs);
                Some(Self::Rounded(rounded))
            }
            // The caller then runs the steps one by one, with Burn's operations.
            HeadPrecision::Bf16 => None,
        }
    }

    /// Inputs and outputs: rows and columns of the matrix.
    pub(super) fn sizes(&self) -> [usize; 2] {
        match self {
            Self::Whole(whole) => sizes(whole),
            Self::Panels(panels) => panels.sizes(),
            Self::Rounded(rounded) => rounded.sizes(),
            Self::Stored(rows) => stored(rows).sizes(),
            Self::Quantized(rows) => rows.matrix().sizes(),
        }
    }

    /// Bytes of the numbers, and of the scales of quantized ones.
    pub(super) fn bytes(&self) -> usize {
        let [inputs, outputs] = self.sizes();
        let column = match self {
            Self::Whole(_) | Self::Panels(_) => inputs * size_of::<f32>(),
            Self::Rounded(_) | Self::Stored(_) => inputs * size_of::<bf16>(),
            Self::Quantized(rows) => rows.row_bytes(),
        };
        outputs * column
    }

    /// `x self` for `rows` rows `x`, on all threads if that pays. Both factors are rounded if this thread rounds those of
    /// products with float32 weights.
    pub(super) fn product(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let [inputs, outputs] = self.sizes();
        if let Self::Whole(whole) = self {
            let precision = precision();
            if precision == Precision::F32 && few_rows::pays(rows, inputs, outputs) {
                return few_rows::product(x, numbers(whole), inputs, outputs);
            }
            let weight = Matrix::new(numbers(whole), inputs, outputs);
            return precision.product(Matrix::new(x, rows, inputs), weight);
        }
        let mut out = vec![0.0; rows * outputs];
        self.product_over(&mut out, x, &mut Scratch::default(), false);
        out
    }

    /// `out = x self` for rows `x`: on this thread if `alone`, or else on all if that pays.
    pub(super) fn product_over(
        &self,
        out: &mut [f32],
        x: &[f32],
        scratch: &mut Scratch,
        alone: bool,
    ) {
        let [inputs, outputs] = self.sizes();
        // A weight of no outputs has no rows to count.
        let rows = out.len() / outputs.max(1);
        match self {
            Self::Whole(whole) => {
                let weight = Matrix::new(numbers(whole), inputs, outputs);
                product_over(out, Matrix::new(x, rows, inputs), weight, alone);
            }
            Self::Panels(panels) => panels.product_over(out, x, &mut scratch.columns, alone),
            Self::Rounded(rounded) => {
                let memory = RoundedScratch {
                    rows: &mut scratch.rounded,
                    columns: &mut scratch.columns,
                };
                rounded.product_over(out, x, memory, alone);
            }
            Self::Stored(rows) => stored(rows).product_over(out, x, &mut scratch.rounded, alone),
            Self::Quantized(rows) => {
                let matrix = rows.matrix();
                matrix.product_over(out, x, &mut scratch.rounded, alone);
            }
        }
    }

    /// The weight where it lies; `None` if it is laid out for many products.
    pub(super) fn factor(&self) -> Option<Factor<'_>> {
        match self {
            Self::Whole(whole) => {
                let [inputs, outputs] = sizes(whole);
                Some(Factor::Whole {
                    numbers: numbers(whole),
                    inputs,
                    outputs,
                })
            }
            Self::Stored(rows) => Some(Factor::Stored(stored(rows))),
            Self::Quantized(rows) => Some(Factor::Quantized(rows.matrix())),
            Self::Panels(_) | Self::Rounded(_) => None,
        }
    }
}

/// A tensor of any type that a weight may have, where it lies. `None` if that is not the CPU backend without autodiff.
pub(super) fn place_of<const D: usize>(x: &Tensor<D>) -> Option<FlexTensor> {
    match x.clone().into_dispatch().kind {
        DispatchTensorKind::Flex(BackendTensor::Float(x)) => Some(x),
        DispatchTensorKind::Flex(BackendTensor::Quantized(x)) => Some(x.tensor().clone()),
        _ => None,
    }
}

/// `x weight + bias`.
///
/// # Shapes
/// - `x`: `[N, I]`; `bias`: `[O]`
/// - returns: `[N, O]`
pub(super) fn biased_product(
    x: FlexTensor,
    weight: &Weight,
    bias: Option<FlexTensor>,
) -> FlexTensor {
    let [rows, _] = sizes(&x);
    let [_, output] = weight.sizes();
    let mut y = weight.product(numbers(&x), rows);
    if let Some(bias) = bias {
        add_to_rows(&mut y, numbers(&bias));
    }
    tensor(y, [rows, output])
}

/// `x weight + bias`, if the weight is quantized and kernels may be used.
///
/// # Shapes
/// - `x`: `[N, I]`; `weight`: `[I, O]`; `bias`: `[O]`
/// - returns: `[N, O]`
pub(crate) fn quantized_linear(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    bias: &Option<Tensor<1>>,
) -> Option<Tensor<2>> {
    let weight = Weight::Quantized(PackedRows::of(weight)?);
    let y = biased_product(flat(x)?, &weight, flat_option(bias)?);
    Some(wrapped(y))
}

/// The outputs' rows of a matrix `[inputs, outputs]` of bfloat16 numbers: where they lie, if it is a transposed view of
/// rows that follow each other; otherwise they are laid out first.
fn rows_of(matrix: FlexTensor) -> FlexTensor {
    let rows = matrix.transpose(0, 1);
    if rows.is_contiguous() {
        rows
    } else {
        rows.to_contiguous()
    }
}

/// The matrix of such rows.
fn stored(rows: &FlexTensor) -> Stored<'_> {
    let [outputs, inputs] = sizes(rows);
    let numbers = rows.as_slice::<bf16>();
    let numbers = numbers.expect("the rows follow each other, see `rows_of`");
    Stored::new(numbers, inputs, outputs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::flex::Layout;
    use burn::tensor::Bytes;

    /// bfloat16 numbers as a tensor.
    fn matrix(rows: usize, columns: usize, values: Vec<bf16>) -> FlexTensor {
        let layout = Layout::contiguous([rows, columns].into());
        FlexTensor::new(Bytes::from_elems(values), layout, DType::BF16)
    }

    /// Three layouts: rows of outputs, rows of inputs, and a view that begins inside a larger tensor.
    #[test]
    fn views_of_any_layout_are_multiplied() {
        let (inputs, outputs) = (37, 11);
        let numbers = |count: usize, seed: f32| (0..count).map(move |i| (i as f32 * seed).sin());
        let w: Vec<bf16> = numbers(inputs * outputs, 1.3).map(bf16::from_f32).collect();
        let x: Vec<f32> = numbers(3 * inputs, 0.7).collect();
        let view = matrix(outputs, inputs, w.clone()).transpose(0, 1);
        let across = (0..inputs * outputs).map(|i| w[i % outputs * inputs + i / outputs]);
        let turned = matrix(inputs, outputs, across.collect());
        let part = view.narrow(1, 4, 5);
        let [expected, turned, part] =
            [view, turned, part].map(|matrix| Weight::in_place(matrix).product(&x, 3));
        // The bound covers the instruction too, which rounds `x` to bfloat16.
        for (index, got) in expected.iter().enumerate() {
            let (x, w) = (
                &x[index / outputs * inputs..][..inputs],
                &w[index % outputs * inputs..][..inputs],
            );
            let exact: f32 = x.iter().zip(w).map(|(x, w)| x * w.to_f32()).sum();
            let size: f32 = x.iter().zip(w).map(|(x, w)| (x * w.to_f32()).abs()).sum();
            assert!((got - exact).abs() <= size / 250.0, "{got} for {exact}");
        }
        assert_eq!(turned, expected);
        for (got, expected) in part.chunks(5).zip(expected.chunks(outputs)) {
            assert_eq!(got, &expected[4..9]);
        }
    }
}
