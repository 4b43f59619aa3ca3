//! Weights of 8 or 4 bits, with a scale for each group of 32 inputs.

use burn::tensor::{Device, Tensor};

use crate::types::WeightBits;

/// A quantized matrix as files have it, row by row of outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuantizedParts {
    /// int8: one byte for each number. int4: 16 bytes for each group of 32 numbers, each plus 8. The low halves of the
    /// bytes are the first 16 numbers, the high halves the last 16.
    pub numbers: Vec<u8>,
    /// A float16 number for each group, lower byte first.
    pub scales: Vec<u8>,
}

/// Rounds a matrix to its nearest quantized numbers, for a file. `None` if this build has no kernels for the CPU.
///
/// # Shapes
/// - `rows`: `[O, I]`
///
/// # Panics
/// If rows are not whole groups of inputs.
pub fn quantized_parts(rows: &[f32], inputs: usize, bits: WeightBits) -> Option<QuantizedParts> {
    #[cfg(feature = "cpu")]
    {
        let bits = crate::cpu::bits(bits);
        let (numbers, scales) = bits.split(&bits.quantize(rows, inputs), inputs);
        Some(QuantizedParts { numbers, scales })
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (rows, inputs, bits);
        None
    }
}

/// A weight rounded to its nearest quantized numbers. `None` if the device is not the CPU backend without autodiff.
/// [`linear()`](fn@crate::linear), [`swiglu_block`](crate::swiglu_block) and
/// [`sample_head`](crate::sample_head) multiply with it; no operation of Burn's can. `D` is 2: mappers of modules have
/// it as a parameter.
///
/// # Shapes
/// - `rows`: `[O, I]`
/// - returns: `[I, O]`
///
/// # Panics
/// If rows are not whole groups of inputs.
pub fn quantized_weight<const D: usize>(
    rows: &[f32],
    inputs: usize,
    bits: WeightBits,
    device: &Device,
) -> Option<Tensor<D>> {
    #[cfg(feature = "cpu")]
    {
        let bits = crate::cpu::bits(bits);
        has_products(device)
            .then(|| crate::cpu::packed_weight(bits.quantize(rows, inputs), bits, inputs))
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (rows, inputs, bits, device);
        None
    }
}

/// [`quantized_weight`] of what a file has.
///
/// # Shapes
/// - returns: `[I, O]`
///
/// # Panics
/// If rows are not whole groups of inputs, or the numbers of bytes do not fit.
pub fn weight_of_parts<const D: usize>(
    parts: &QuantizedParts,
    inputs: usize,
    bits: WeightBits,
    device: &Device,
) -> Option<Tensor<D>> {
    #[cfg(feature = "cpu")]
    {
        let bits = crate::cpu::bits(bits);
        has_products(device).then(|| {
            let packed = bits.join(&parts.numbers, &parts.scales, inputs);
            crate::cpu::packed_weight(packed, bits, inputs)
        })
    }
    #[cfg(not(feature = "cpu"))]
    {
        let _ = (parts, inputs, bits, device);
        None
    }
}

/// Whether the kernels can multiply with quantized weights on a device.
#[cfg(feature = "cpu")]
fn has_products(device: &Device) -> bool {
    crate::support::is_plain(&Tensor::<1>::zeros([1], device))
}
