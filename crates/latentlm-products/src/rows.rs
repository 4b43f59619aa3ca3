//! Rows of quantized weights, and of the left factor, rounded for products with them.

use crate::bits::{Bits, PAIR, STEP};

/// Rows of weights, one for each output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) bits: Bits,
    pub(crate) inputs: usize,
    /// Bytes of a row.
    pub(crate) line: usize,
}

impl Rows<'_> {
    /// The rows without the first ones.
    pub(crate) fn without(self, outputs: usize) -> Self {
        Self {
            bytes: &self.bytes[outputs * self.line..],
            ..self
        }
    }
}

/// Places of a row of `inputs` numbers that was rounded, in `u32`s.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RoundedRow {
    /// `u32`s of the whole row.
    pub(crate) line: usize,
    /// Where corrections begin, behind the numbers, four in a `u32`. A correction is the sum of four numbers, times the
    /// offset of the weights, negative: added to the products with weights that have the offset, it takes the offset
    /// away.
    pub(crate) corrections: usize,
    /// Where the scales of groups begin, as bits of float32.
    pub(crate) scales: usize,
}

impl RoundedRow {
    pub(crate) fn of(inputs: usize) -> Self {
        let steps = inputs.div_ceil(STEP);
        let corrections = steps * STEP / 4;
        Self {
            line: 2 * corrections + steps * PAIR,
            corrections,
            scales: 2 * corrections,
        }
    }
}
