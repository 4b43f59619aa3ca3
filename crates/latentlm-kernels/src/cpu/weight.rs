//! A weight that is used for many matrix products: in float32, in panels if it is large, or rounded to
//! bfloat16 and laid out for the processor's bfloat16 instruction.

use burn::backend::flex::FlexTensor;
use burn::tensor::Tensor;

use super::matrix::{Matrix, product_over};
use super::panels::Panels;
use super::plain::plain;
use super::rounded::{self, Rounded};
use super::storage::{contiguous, numbers, sizes};
use crate::head::HeadPrecision;

/// Memory that products reuse.
#[derive(Default)]
pub(super) struct Scratch {
    /// Input rows rounded to bfloat16, two numbers in each `u32`.
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
    /// bfloat16.
    Rounded(Rounded),
}

impl Weight {
    /// Lays out a weight, on this thread if `alone`, or else on all. `None` if the tensor is not float32 on
    /// the CPU backend, or if the processor has no products of the precision.
    pub(super) fn new(x: &Tensor<2>, precision: HeadPrecision, alone: bool) -> Option<Self> {
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
            HeadPrecision::Bf16 if rounded::available() => {
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
        }
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
            Self::Rounded(rounded) => rounded.product_over(out, x, &mut scratch.rounded),
        }
    }
}
