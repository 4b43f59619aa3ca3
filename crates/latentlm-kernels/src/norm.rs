//! RMSNorm and LayerNorm.

use burn::tensor::module;
use burn::tensor::{DType, Tensor};

/// RMSNorm over the last axis, `x / sqrt(mean(x^2) + epsilon) * weight`, the mean in float32.
///
/// # Shapes
/// - `x`: `[.., D]`; `weight`: `[D]`
/// - returns: `[.., D]`
pub fn rms_norm<const R: usize>(
    x: Tensor<R>,
    weight: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if crate::has_kernels(&x) {
        return on_cpu(x, weight, epsilon);
    }
    composed(x, weight, epsilon)
}

/// The same of Burn's operations.
pub(crate) fn composed<const R: usize>(
    x: Tensor<R>,
    weight: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<R> {
    let dtype = x.dtype();
    let mean_square = x.clone().cast(DType::F32).square().mean_dim(R - 1);
    let y = x * (mean_square + epsilon).sqrt().recip().cast(dtype);
    match weight {
        Some(weight) => y * weight.unsqueeze(),
        None => y,
    }
}

#[cfg(feature = "cpu")]
fn on_cpu<const R: usize>(x: Tensor<R>, weight: Option<Tensor<1>>, epsilon: f64) -> Tensor<R> {
    use crate::cpu::{CpuKernels, optional};
    use burn::backend::Dispatch;

    let dims = x.dims();
    let rows: usize = dims[..R - 1].iter().product();
    let y = Dispatch::kernel_rms_norm(
        x.reshape([rows, dims[R - 1]]).into_dispatch(),
        optional(weight),
        epsilon,
    );
    Tensor::<2>::from_dispatch(y).reshape(dims)
}

/// LayerNorm over the last axis, `(x - mean) / sqrt(variance + epsilon) * weight + bias`.
///
/// # Shapes
/// - `x`: `[.., D]`; `weight`, `bias`: `[D]`
/// - returns: `[.., D]`
pub fn layer_norm<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if crate::has_kernels(&x) {
        return layer_norm_on_cpu(x, weight, bias, epsilon);
    }
    module::layer_norm(x, weight, Some(bias), epsilon)
}

#[cfg(feature = "cpu")]
fn layer_norm_on_cpu<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<R> {
    use crate::cpu::CpuKernels;
    use burn::backend::Dispatch;

    let dims = x.dims();
    let rows: usize = dims[..R - 1].iter().product();
    let y = Dispatch::kernel_layer_norm(
        x.reshape([rows, dims[R - 1]]).into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        epsilon,
    );
    Tensor::<2>::from_dispatch(y).reshape(dims)
}
