//! A feed-forward block with norm, modulation and residual connection.

use burn::tensor::Tensor;
use burn::tensor::activation::silu;
use burn::tensor::module;

use crate::norm;
use crate::types::SwiGluBlock;

/// `x + swiglu(norm(x))`; with a modulation (AdaLN), `x + g * swiglu(norm(x) * (1 + scale) + shift)`,
/// where each row of the modulation holds shift, scale and g, one after the other. Projections may be bfloat16,
/// int8 or int4 where [`linear()`](fn@crate::linear) keeps a float32 `x`.
///
/// # Shapes
/// - `x`: `[N, D]`; `modulation`: `[N, 3 D]`
/// - returns: `[N, D]`
pub fn swiglu_block(x: Tensor<2>, block: &SwiGluBlock, modulation: Option<Tensor<2>>) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if has_quantized(block) {
        let out = crate::cpu::plain_swiglu_block(&x, block, &modulation);
        return out.unwrap_or_else(|| composed(x, block, modulation));
    }
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, block, modulation);
    }
    composed(x, block, modulation)
}

/// This operation as a composition of Burn's operations.
pub(crate) fn composed(
    x: Tensor<2>,
    block: &SwiGluBlock,
    modulation: Option<Tensor<2>>,
) -> Tensor<2> {
    let width = x.dims()[1];
    let third = |index: usize| {
        let modulation = modulation.clone();
        modulation.map(|m| m.narrow(1, index * width, width))
    };
    let mut inner = norm::composed(x.clone(), block.norm_weight.clone(), block.epsilon);
    if let (Some(shift), Some(scale)) = (third(0), third(1)) {
        inner = inner * (scale + 1.0) + shift;
    }
    let activated = silu(projected(inner.clone(), &block.gate));
    let inner = activated * projected(inner, &block.up);
    let out = projected(inner, &block.down);
    match third(2) {
        Some(gate) => x + gate * out,
        None => x + out,
    }
}

/// A product with a weight, in the precision of `x` if the weight is only stored in another one.
fn projected(x: Tensor<2>, weight: &Tensor<2>) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if let Some(exact) = crate::cpu::widened(weight) {
        let exact = exact.cast(x.dtype());
        return module::linear(x, exact, None);
    }
    let weight = weight.clone();
    #[cfg(feature = "cpu")]
    if crate::support::is_stored(&x, &weight) {
        let weight = weight.cast(x.dtype());
        return module::linear(x, weight, None);
    }
    module::linear(x, weight, None)
}

/// Whether a projection is int8 or int4.
#[cfg(feature = "cpu")]
fn has_quantized(block: &SwiGluBlock) -> bool {
    [&block.gate, &block.up, &block.down]
        .into_iter()
        .any(crate::support::is_quantized)
}

#[cfg(feature = "cpu")]
fn on_cpu(x: Tensor<2>, block: &SwiGluBlock, modulation: Option<Tensor<2>>) -> Tensor<2> {
    use crate::cpu::{BlockTensors, CpuKernels, optional};
    use burn::backend::Dispatch;
    use burn::tensor::DType;

    let block = block.clone();
    let y = Dispatch::kernel_swiglu_block(BlockTensors::<Dispatch> {
        x: x.into_dispatch(),
        norm_weight: optional(block.norm_weight.map(|weight| weight.cast(DType::F32))),
        modulation: optional(modulation),
        gate: block.gate.into_dispatch(),
        up: block.up.into_dispatch(),
        down: block.down.into_dispatch(),
        epsilon: block.epsilon,
    });
    Tensor::from_dispatch(y)
}
