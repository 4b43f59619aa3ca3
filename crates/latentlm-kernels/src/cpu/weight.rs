//! A weight that rows are multiplied with many times: float32, in panels where it is large, or rounded to
//! bfloat16 and laid out for the processor's own product of such numbers.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::backend::{contiguous, numbers, sizes};
use super::matrix::{Matrix, product_over};
use super::panels::Panels;
use super::plain::plain;
use super::rounded::{self, Rounded};
use crate::head::HeadPrecision;

/// Memory that is kept from product to product.
#[derive(Default)]
pub(super) struct Scratch {
    /// Of rows before a product.
    rounded: Vec<u32>,
    /// Of columns that threads have worked out.
    columns: Vec<f32>,
}

/// A matrix `[inputs, outputs]`.
pub(super) enum Weight {
    Whole(FlexTensor),
    Panels(Panels),
    Rounded(Rounded),
}

impl Weight {
    /// `None` where it does not lie in float32 on the CPU, or the processor has no products of the
    /// precision. Laid out on this thread `alone`, or on all.
    pub(super) fn new(x: &Tensor<2>, precision: HeadPrecision, alone: bool) -> Option<Self> {
        let whole = contiguous(plain(x.clone())?);
        let [inputs, outputs] = sizes(&whole);
        match precision {
            HeadPrecision::F32 if inputs * outputs >= Panels::LEAST => {
                let panels = Panels::new(numbers(&whole), inputs, outputs, alone);
                Some(Self::Panels(panels))
            }
            HeadPrecision::F32 => Some(Self::Whole(whole)),
            HeadPrecision::Bf16 if rounded::available() => {
                let rounded = Rounded::new(numbers(&whole), inputs, outputs);
                Some(Self::Rounded(rounded))
            }
            HeadPrecision::Bf16 => None,
        }
    }

    /// Inputs and outputs.
    pub(super) fn sizes(&self) -> [usize; 2] {
        match self {
            Self::Whole(whole) => sizes(whole),
            Self::Panels(panels) => panels.sizes(),
            Self::Rounded(rounded) => rounded.sizes(),
        }
    }

    /// `out = x w` for rows `x`: on this thread `alone`, or on all where that pays.
    pub(super) fn product_over(
        &self,
        out: &mut [f32],
        x: &[f32],
        scratch: &mut Scratch,
        alone: bool,
    ) {
        let [inputs, outputs] = self.sizes();
        let rows = out.len() / outputs.max(1);
        match self {
            Self::Whole(whole) => {
                let weight = Matrix::new(numbers(whole), inputs, outputs);
                product_over(out, Matrix::new(x, rows, inputs), weight, alone);
            }
            Self::Panels(panels) => panels.product_over(out, x, &mut scratch.columns, alone),
            Self::Rounded(rounded) => rounded.product_over(out, x, &mut scratch.rounded),
        }
    }
}
