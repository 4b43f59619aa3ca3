//! A linear layer: a matrix product with a bias.

use burn::nn::Linear;
use burn::tensor::module;
use burn::tensor::{Int, Tensor};

/// `x weight + bias` over the last axis, in the precision of the weight.
///
/// On the CPU backend without autodiff, where models only infer, a float32 `x` stays float32 if the weight is
/// bfloat16, and so is the result. A processor with AVX-512 BF16 multiplies `x` rounded to bfloat16, others
/// multiply in float32; sums are float32. Such a weight is read where it lies if it is a transposed view of
/// contiguous rows `[O, I]`; any other layout is transposed in each call.
///
/// A weight of [`quantized_weight`](crate::quantized_weight) keeps float32 too. A processor with AVX-512 VNNI or AVX2
/// multiplies `x` rounded to int8, with a scale for each group of 32 numbers; one with AMX multiplies 16 rows or more with
/// both factors rounded to bfloat16; others multiply in float32.
///
/// # Shapes
/// - `x`: `[.., I]`; `weight`: `[I, O]`; `bias`: `[O]`
/// - returns: `[.., O]`
pub fn linear<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if crate::support::is_quantized(&weight) {
        return quantized(x, weight, bias);
    }
    #[cfg(feature = "cpu")]
    if crate::support::is_stored(&x, &weight) {
        let bias = bias.map(|bias| bias.cast(x.dtype()));
        if crate::fallback::kernels_allowed() {
            return on_cpu(x, weight, bias);
        }
        let weight = weight.cast(x.dtype());
        return module::linear(x, weight, bias);
    }
    let x = x.cast(weight.dtype());
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, weight, bias);
    }
    module::linear(x, weight, bias)
}

/// Rows of a table of embeddings, in the precision of the table. On the CPU backend without autodiff, rows of a
/// bfloat16 table are float32, as everything else between the layers of a model that only infers.
///
/// # Shapes
/// - `table`: `[V, D]`; `tokens`: `[B, T]`
/// - returns: `[B, T, D]`
pub fn embedding(table: Tensor<2>, tokens: Tensor<2, Int>) -> Tensor<3> {
    let rows = module::embedding(table, tokens);
    #[cfg(feature = "cpu")]
    if crate::support::is_plain(&rows) && !crate::fallback::is_training() {
        return rows.cast(burn::tensor::DType::F32);
    }
    rows
}

/// [`linear`] with the parameters of a layer of Burn's.
///
/// # Shapes
/// - `x`: `[.., I]`
/// - returns: `[.., O]`
pub fn linear_layer<const R: usize>(layer: &Linear, x: Tensor<R>) -> Tensor<R> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    linear(x, layer.weight.val(), bias)
}

/// [`linear`] with a quantized weight; without kernels, with its numbers in the precision of `x`.
#[cfg(feature = "cpu")]
fn quantized<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<R> {
    let bias = bias.map(|bias| bias.cast(x.dtype()));
    let mut dims = x.dims();
    let [input, output] = weight.dims();
    assert_eq!(dims[R - 1], input, "the width of a linear layer's input");
    let rows: usize = dims[..R - 1].iter().product();
    dims[R - 1] = output;
    let flat = x.clone().reshape([rows, input]);
    if let Some(y) = crate::cpu::quantized_linear(&flat, &weight, &bias) {
        return y.reshape(dims);
    }
    // Tensors that Burn quantized itself are left to it.
    let weight = match crate::cpu::widened(&weight) {
        Some(exact) => exact.cast(x.dtype()),
        None => weight,
    };
    module::linear(x, weight, bias)
}

#[cfg(feature = "cpu")]
fn on_cpu<const R: usize>(x: Tensor<R>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<R> {
    use crate::cpu::{CpuKernels, optional};
    use burn::backend::Dispatch;

    let mut dims = x.dims();
    let [input, output] = weight.dims();
    assert_eq!(dims[R - 1], input, "the width of a linear layer's input");
    let rows: usize = dims[..R - 1].iter().product();
    dims[R - 1] = output;
    let y = Dispatch::kernel_linear(
        x.reshape([rows, input]).into_dispatch(),
        weight.into_dispatch(),
        optional(bias),
    );
    Tensor::<2>::from_dispatch(y).reshape(dims)
}
