//! What happens to every parameter at every step: the gradient's scale, AdamW, and the moving average, in one
//! pass over the numbers; and the sum before it that the scale comes from.

use burn::tensor::Tensor;

/// One step of AdamW (Loshchilov and Hutter, arXiv 1711.05101) with an average of the weights behind it.
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
    /// What the gradient is multiplied by first, as clipping by the global norm asks.
    pub gradient_scale: f64,
    /// What is kept of the moving average.
    pub average_decay: f64,
}

impl AdamWStep {
    /// What the first and second moments are divided by, for having started at zero.
    pub(crate) fn corrections(&self) -> (f64, f64) {
        let correction = |beta: f64| 1.0 - beta.powi(self.time);
        (correction(self.beta_1), correction(self.beta_2))
    }
}

/// A parameter and what training keeps beside it, all of one shape.
#[derive(Debug, Clone)]
pub struct Trained<const R: usize> {
    /// The weights.
    pub parameter: Tensor<R>,
    /// Their moving average.
    pub average: Tensor<R>,
    /// Moving averages of the gradient and of its square.
    pub moments: [Tensor<R>; 2],
}

/// A parameter after a step. No gradients flow through.
///
/// # Shapes
/// - all alike
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

/// The same of Burn's operations.
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
    let (of_first, of_second) = step.corrections();
    let fresh = gradient.clone().mul_scalar(1.0 - step.beta_1);
    let first = first.mul_scalar(step.beta_1) + fresh;
    let fresh = gradient.square().mul_scalar(1.0 - step.beta_2);
    let second = second.mul_scalar(step.beta_2) + fresh;
    let root = second.clone().div_scalar(of_second).sqrt();
    let delta = first.clone().div_scalar(of_first) / root.add_scalar(step.epsilon);
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
    use crate::cpu::CpuKernels;
    use burn::backend::Dispatch;

    let [first, second] = trained.moments;
    let (parameter, average, first, second) = Dispatch::kernel_adamw(
        trained.parameter.into_dispatch(),
        trained.average.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        gradient.into_dispatch(),
        step,
    );
    Trained {
        parameter: Tensor::from_dispatch(parameter),
        average: Tensor::from_dispatch(average),
        moments: [first, second].map(Tensor::from_dispatch),
    }
}

/// `average * decay + live * (1 - decay)`, for a parameter that a step left alone. No gradients flow
/// through.
///
/// # Shapes
/// - both alike
pub fn blend<const R: usize>(average: Tensor<R>, live: Tensor<R>, decay: f64) -> Tensor<R> {
    average.mul_scalar(decay) + live.mul_scalar(1.0 - decay)
}

/// The sum of the squares of all numbers, the same for any number of threads. No gradients flow
/// through.
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
