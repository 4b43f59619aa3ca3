//! The optimizer's work on each parameter: gradient scale, AdamW and moving average in one pass over the
//! numbers; and before it the sum of squares that the gradient scale is computed from.

use burn::tensor::Tensor;

use crate::types::AdamWStep;

/// A parameter with its moving average and the optimizer's moments, all of one shape.
#[derive(Debug, Clone)]
pub struct Trained<const R: usize> {
    /// The weights.
    pub parameter: Tensor<R>,
    /// Their moving average.
    pub average: Tensor<R>,
    /// Moving averages of the gradient and of its square.
    pub moments: [Tensor<R>; 2],
}

/// The parameter after one step, with its moving average and moments. No gradients flow through.
///
/// # Shapes
/// - `trained`, `gradient` and result: all of one shape
pub fn adamw<const R: usize>(
    trained: Trained<R>,
    gradient: Tensor<R>,
    step: AdamWStep,
) -> Trained<R> {
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&trained.parameter) && crate::support::has_kernels(&gradient) {
        return adamw_on_cpu(trained, gradient, step);
    }
    adamw_composed(trained, gradient, step)
}

/// This operation as a composition of Burn's operations.
pub(crate) fn adamw_composed<const R: usize>(
    trained: Trained<R>,
    gradient: Tensor<R>,
    step: AdamWStep,
) -> Trained<R> {
    let [first, second] = trained.moments;
    let gradient = match step.gradient_scale {
        1.0 => gradient,
        scale => gradient.mul_scalar(scale),
    };
    let (first_correction, second_correction) = step.corrections();
    let fresh = gradient.clone().mul_scalar(1.0 - step.beta_1);
    let first = first.mul_scalar(step.beta_1) + fresh;
    let fresh = gradient.square().mul_scalar(1.0 - step.beta_2);
    let second = second.mul_scalar(step.beta_2) + fresh;
    let root = second.clone().div_scalar(second_correction).sqrt();
    let delta = first.clone().div_scalar(first_correction) / root.add_scalar(step.epsilon);
    let decay = 1.0 - step.learning_rate * step.weight_decay;
    let kept = trained.parameter.mul_scalar(decay);
    let parameter = kept - delta.mul_scalar(step.learning_rate);
    Trained {
        average: blend(trained.average, parameter.clone(), step.average_decay),
        parameter,
        moments: [first, second],
    }
}

#[cfg(feature = "cpu")]
fn adamw_on_cpu<const R: usize>(
    trained: Trained<R>,
    gradient: Tensor<R>,
    step: AdamWStep,
) -> Trained<R> {
    use crate::cpu::{CpuKernels, TrainedTensors};
    use burn::backend::Dispatch;

    let [first, second] = trained.moments.map(Tensor::into_dispatch);
    let before = TrainedTensors::<Dispatch> {
        parameter: trained.parameter.into_dispatch(),
        average: trained.average.into_dispatch(),
        first_moment: first,
        second_moment: second,
    };
    let after = Dispatch::kernel_adamw(before, gradient.into_dispatch(), step);
    Trained {
        parameter: Tensor::from_dispatch(after.parameter),
        average: Tensor::from_dispatch(after.average),
        moments: [after.first_moment, after.second_moment].map(Tensor::from_dispatch),
    }
}

/// `average * decay + live * (1 - decay)`: the moving average of a parameter that the optimizer's step
/// did not change. No gradients flow through.
///
/// # Shapes
/// - `average`, `live` and result: all of one shape
pub fn blend<const R: usize>(average: Tensor<R>, live: Tensor<R>, decay: f64) -> Tensor<R> {
    average.mul_scalar(decay) + live.mul_scalar(1.0 - decay)
}

/// The sum of the squares of all numbers. It does not depend on the number of threads. No gradients
/// flow through.
///
/// # Shapes
/// - output: `[1]`
pub fn square_sum<const R: usize>(x: Tensor<R>) -> Tensor<1> {
    #[cfg(feature = "cpu")]
    if crate::support::has_kernels(&x) {
        use crate::cpu::CpuKernels;
        use burn::backend::Dispatch;

        return Tensor::from_dispatch(Dispatch::kernel_square_sum(x.into_dispatch()));
    }
    x.square().sum()
}
