//! What happens to every parameter at every step: AdamW, and the moving average.

use burn::tensor::Tensor;

/// One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// The learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the second moment's root.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub time: i32,
}

impl AdamWStep {
    /// What the first and second moments are divided by, for having started at zero.
    pub(crate) fn corrections(&self) -> (f64, f64) {
        let correction = |beta: f64| 1.0 - beta.powi(self.time);
        (correction(self.beta_1), correction(self.beta_2))
    }
}

/// A parameter and its first and second moments after a step. No gradients flow through.
///
/// # Shapes
/// - all alike
pub fn adamw<const R: usize>(
    parameter: Tensor<R>,
    gradient: Tensor<R>,
    moments: [Tensor<R>; 2],
    step: AdamWStep,
) -> (Tensor<R>, [Tensor<R>; 2]) {
    #[cfg(feature = "cpu")]
    if crate::has_kernels(&parameter) && crate::has_kernels(&gradient) {
        return adamw_on_cpu(parameter, gradient, moments, step);
    }
    adamw_composed(parameter, gradient, moments, step)
}

/// The same of Burn's operations.
pub(crate) fn adamw_composed<const R: usize>(
    parameter: Tensor<R>,
    gradient: Tensor<R>,
    [first, second]: [Tensor<R>; 2],
    step: AdamWStep,
) -> (Tensor<R>, [Tensor<R>; 2]) {
    let (of_first, of_second) = step.corrections();
    let fresh = gradient.clone().mul_scalar(1.0 - step.beta_1);
    let first = first.mul_scalar(step.beta_1) + fresh;
    let fresh = gradient.square().mul_scalar(1.0 - step.beta_2);
    let second = second.mul_scalar(step.beta_2) + fresh;
    let root = second.clone().div_scalar(of_second).sqrt();
    let delta = first.clone().div_scalar(of_first) / root.add_scalar(step.epsilon);
    let kept = parameter.mul_scalar(1.0 - step.learning_rate * step.weight_decay);
    let parameter = kept - delta.mul_scalar(step.learning_rate);
    (parameter, [first, second])
}

#[cfg(feature = "cpu")]
fn adamw_on_cpu<const R: usize>(
    parameter: Tensor<R>,
    gradient: Tensor<R>,
    [first, second]: [Tensor<R>; 2],
    step: AdamWStep,
) -> (Tensor<R>, [Tensor<R>; 2]) {
    use crate::cpu::CpuKernels;
    use burn::backend::Dispatch;

    let (parameter, first, second) = Dispatch::kernel_adamw(
        parameter.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        step,
    );
    let moments = [first, second].map(Tensor::from_dispatch);
    (Tensor::from_dispatch(parameter), moments)
}

/// `average * decay + live * (1 - decay)`. No gradients flow through.
///
/// # Shapes
/// - both alike
pub fn blend<const R: usize>(average: Tensor<R>, live: Tensor<R>, decay: f64) -> Tensor<R> {
    #[cfg(feature = "cpu")]
    if crate::has_kernels(&average) && crate::has_kernels(&live) {
        return blend_on_cpu(average, live, decay);
    }
    average.mul_scalar(decay) + live.mul_scalar(1.0 - decay)
}

#[cfg(feature = "cpu")]
fn blend_on_cpu<const R: usize>(average: Tensor<R>, live: Tensor<R>, decay: f64) -> Tensor<R> {
    use crate::cpu::CpuKernels;
    use burn::backend::Dispatch;

    let (average, live) = (average.into_dispatch(), live.into_dispatch());
    Tensor::from_dispatch(Dispatch::kernel_blend(average, live, decay))
}
