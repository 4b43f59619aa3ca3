//! Depthwise convolution with channels last.

use burn::tensor::Tensor;
use burn::tensor::module::conv1d;
use burn::tensor::ops::ConvOptions;

/// Convolution of each channel with its own filter, without padding.
///
/// # Shapes
/// - `x`: `[B, T + K - 1, C]`; `weight`: `[C, 1, K]`; `bias`: `[C]`
/// - returns: `[B, T, C]`
pub fn depthwise_conv(x: Tensor<3>, weight: Tensor<3>, bias: Tensor<1>) -> Tensor<3> {
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, weight, bias);
    }
    composed(x, weight, bias)
}

/// This operation as a composition of Burn's operations.
pub(crate) fn composed(x: Tensor<3>, weight: Tensor<3>, bias: Tensor<1>) -> Tensor<3> {
    let options = ConvOptions::new([1], [0], [1], weight.dims()[0]);
    conv1d(x.swap_dims(1, 2), weight, Some(bias), options).swap_dims(1, 2)
}

#[cfg(feature = "cpu")]
fn on_cpu(x: Tensor<3>, weight: Tensor<3>, bias: Tensor<1>) -> Tensor<3> {
    use crate::cpu::CpuKernels;
    use burn::backend::Dispatch;
    use burn::tensor::DType;

    let y = Dispatch::kernel_depthwise(
        x.into_dispatch(),
        weight.cast(DType::F32).into_dispatch(),
        bias.cast(DType::F32).into_dispatch(),
    );
    Tensor::from_dispatch(y)
}
