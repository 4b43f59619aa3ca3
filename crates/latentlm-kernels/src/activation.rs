//! Activation functions.

use burn::tensor::Tensor;
use burn::tensor::activation;

use crate::types::Activation;

/// `x * sigmoid(x)`.
pub fn silu<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, Activation::Silu);
    }
    composed(x, Activation::Silu)
}

/// `x * Phi(x)`, where `Phi` is the exact cumulative normal distribution and not its tanh approximation.
pub fn gelu<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, Activation::Gelu);
    }
    composed(x, Activation::Gelu)
}

/// The hyperbolic tangent.
pub fn tanh<const R: usize>(x: Tensor<R>) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        return on_cpu(x, Activation::Tanh);
    }
    composed(x, Activation::Tanh)
}

/// This operation as a composition of Burn's operations.
pub(crate) fn composed<const R: usize>(x: Tensor<R>, kind: Activation) -> Tensor<R> {
    match kind {
        Activation::Silu => activation::silu(x),
        Activation::Gelu => activation::gelu(x),
        Activation::Tanh => activation::tanh(x),
    }
}

#[cfg(feature = "cpu")]
fn on_cpu<const R: usize>(x: Tensor<R>, kind: Activation) -> Tensor<R> {
    use crate::cpu::CpuKernels;
    use burn::backend::Dispatch;

    Tensor::from_dispatch(Dispatch::kernel_activation(x.into_dispatch(), kind))
}
