//! The optimizer's work on each parameter: gradient scale, AdamW and moving average in one pass over the
//! numbers; and before it the sum of squares that the gradient scale is computed from.

use burn::tensor::Tensor;

/// Settings of one step of AdamW (Loshchilov and Hutter, arXiv 1711.05101) and of the moving average of the
/// weights that follows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWStep {
    /// Learning rate of this step.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Epsilon, added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Number of this step, from 1.
    pub time: i32,
    /// Factor of the gradient before anything else, as clipping by the global norm needs it.
    pub gradient_scale: f64,
    /// Decay of the moving average of the weights: the weight of its old value.
    pub average_decay: f64,
}

impl AdamWStep {
    /// Divisors of the first and second moment that correct their start at zero.
    pub(crate) fn corrections(&self) -> (f64, f64) {
        let correction = |beta: f64| 1.0 - beta.powi(self.time);
        (correction(self.beta_1), correction(self.beta_2))
    }
}

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
    if crate::has_kernels(&trained.parameter) && crate::has_kernels(&gradient) {
        return adamw_on_cpu(trained, gradient, step);
    }
    adamw_composed(trained, gradient, step)
}

/// The same computation with Burn's operations.
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
    if crate::has_kernels(&x) {
        use crate::cpu::CpuKernels;
        use burn::backend::Dispatch;

        return Tensor::from_dispatch(Dispatch::kernel_square_sum(x.into_dispatch()));
    }
    x.square().sum()
}
