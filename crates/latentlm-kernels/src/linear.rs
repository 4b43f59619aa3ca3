//! A linear layer: a matrix product with a bias.

use burn::nn::Linear;
use burn::tensor::Tensor;
use burn::tensor::module;

/// `x weight + bias` over the last axis, in the precision of the weight.
///
/// # Shapes
/// - `x`: `[.., I]`; `weight`: `[I, O]`; `bias`: `[O]`
/// - returns: `[.., O]`
pub fn linear<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<R> {
    let x = x.cast(weight.dtype());
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, weight, bias);
    }
    module::linear(x, weight, bias)
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
