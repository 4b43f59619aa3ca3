//! Depthwise convolution with channels last.

use burn::tensor::Tensor;
use burn::tensor::module::conv1d;
use burn::tensor::ops::ConvOptions;

use crate::causal_conv::{check_past, extended};

/// Causal convolution of each channel with its own filter. `past` has the frames before those of `x`, if there are any to
/// see (`K > 1`); without it they are zeros.
///
/// # Shapes
/// - `x`: `[B, T, C]`; `past`: `[B, K - 1, C]`; `weight`: `[C, 1, K]`, oldest frame first; `bias`: `[C]`
/// - returns: `[B, T, C]`
///
/// # Panics
/// If sizes do not fit each other.
pub fn depthwise_conv(
    x: Tensor<3>,
    past: Option<Tensor<3>>,
    weight: Tensor<3>,
    bias: Tensor<1>,
) -> Tensor<3> {
    let [channels, _, taps] = weight.dims();
    let width = x.dims()[2];
    assert_eq!(width, channels, "channels of the frames and of the weight");
    check_past(&x, &past, taps);
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, past, weight, bias);
    }
    composed(x, past, weight, bias)
}

/// This operation as a composition of Burn's operations.
pub(crate) fn composed(
    x: Tensor<3>,
    past: Option<Tensor<3>>,
    weight: Tensor<3>,
    bias: Tensor<1>,
) -> Tensor<3> {
    let [channels, _, taps] = weight.dims();
    let x = extended(x, past, taps - 1);
    let options = ConvOptions::new([1], [0], [1], channels);
    conv1d(x.swap_dims(1, 2), weight, Some(bias), options).swap_dims(1, 2)
}

#[cfg(feature = "cpu")]
fn on_cpu(x: Tensor<3>, past: Option<Tensor<3>>, weight: Tensor<3>, bias: Tensor<1>) -> Tensor<3> {
    use crate::cpu::{CpuKernels, optional};
    use burn::backend::Dispatch;
    use burn::tensor::DType;

    let y = Dispatch::kernel_depthwise(
        x.into_dispatch(),
        weight.cast(DType::F32).into_dispatch(),
        bias.cast(DType::F32).into_dispatch(),
        optional(past.map(|past| past.cast(DType::F32))),
    );
    Tensor::from_dispatch(y)
}
