//! RMSNorm, LayerNorm and GroupNorm.

use burn::nn::GroupNorm;
use burn::tensor::module;
use burn::tensor::{DType, Tensor};

/// RMSNorm over the last axis, `x / sqrt(mean(x^2) + epsilon) * weight`. It is computed in float32, and
/// the result is rounded once to the precision of `x`.
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
    if crate::support::has_kernels(&x) {
        return on_cpu(x, weight, None, epsilon);
    }
    composed(x, weight, epsilon)
}

/// [`rms_norm`] without weight, then `* (1 + scale) + shift`: each row of the modulation holds shift and scale, one after
/// the other.
///
/// # Shapes
/// - `x`: `[N, D]`; `modulation`: `[N, 2 D]`
/// - returns: `[N, D]`
pub fn modulated_rms_norm(x: Tensor<2>, modulation: Tensor<2>, epsilon: f64) -> Tensor<2> {
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, None, Some(modulation), epsilon);
    }
    modulated_composed(x, modulation, epsilon)
}

/// This operation as a composition of Burn's operations.
pub(crate) fn modulated_composed(x: Tensor<2>, modulation: Tensor<2>, epsilon: f64) -> Tensor<2> {
    let width = x.dims()[1];
    let shift = modulation.clone().narrow(1, 0, width);
    let scale = modulation.narrow(1, width, width);
    composed(x, None, epsilon) * (scale + 1.0) + shift
}

/// This operation as a composition of Burn's operations.
pub(crate) fn composed<const R: usize>(
    x: Tensor<R>,
    weight: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<R> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let mean_square = x.clone().square().mean_dim(R - 1);
    let y = x * (mean_square + epsilon).sqrt().recip();
    let y = match weight {
        Some(weight) => y * weight.cast(DType::F32).unsqueeze(),
        None => y,
    };
    y.cast(dtype)
}

#[cfg(feature = "cpu")]
fn on_cpu<const R: usize>(
    x: Tensor<R>,
    weight: Option<Tensor<1>>,
    modulation: Option<Tensor<2>>,
    epsilon: f64,
) -> Tensor<R> {
    use crate::cpu::{CpuKernels, optional};
    use burn::backend::Dispatch;

    let dims = x.dims();
    let rows: usize = dims[..R - 1].iter().product();
    let y = Dispatch::kernel_rms_norm(
        x.reshape([rows, dims[R - 1]]).into_dispatch(),
        optional(weight.map(|weight| weight.cast(DType::F32))),
        optional(modulation),
        epsilon,
    );
    Tensor::<2>::from_dispatch(y).reshape(dims)
}

/// LayerNorm over the last axis, `(x - mean) / sqrt(variance + epsilon) * weight + bias`. It is computed
/// in float32, and the result is rounded once to the precision of `x`.
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
    if crate::support::has_kernels(&x) {
        return layer_norm_on_cpu(x, weight, bias, epsilon);
    }
    layer_norm_composed(x, weight, bias, epsilon)
}

/// This operation as a composition of Burn's operations.
pub(crate) fn layer_norm_composed<const R: usize>(
    x: Tensor<R>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    epsilon: f64,
) -> Tensor<R> {
    let dtype = x.dtype();
    let [weight, bias] = [weight, bias].map(|x| x.cast(DType::F32));
    module::layer_norm(x.cast(DType::F32), weight, Some(bias), epsilon).cast(dtype)
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

/// GroupNorm with the parameters of a layer of Burn's.
///
/// # Shapes
/// - `x`: `[B, C, H, W]`
/// - returns: `[B, C, H, W]`
pub fn group_norm_layer(layer: &GroupNorm, x: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if let (Some(weight), Some(bias)) = (&layer.gamma, &layer.beta)
        && crate::support::has_kernels(&x)
        && crate::support::has_kernels(&weight.val())
    {
        use crate::cpu::CpuKernels;
        use burn::backend::Dispatch;

        let y = Dispatch::kernel_group_norm(
            x.into_dispatch(),
            weight.val().into_dispatch(),
            bias.val().into_dispatch(),
            layer.num_groups,
            layer.epsilon,
        );
        return Tensor::from_dispatch(y);
    }
    layer.forward(x)
}
