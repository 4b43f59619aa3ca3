//! One step of a solver, and the timesteps that all solvers share.

use latentlm_kernels::LinearStep;

use crate::schedule::NoiseSchedule;

/// One step: `clean = x * x_to_clean + prediction * prediction_to_clean`, then
/// `x = x * state + clean * this + previous clean * last + fresh noise * noise`. Solvers of flow matching have the
/// predicted velocity itself instead of the clean estimate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SolverStep {
    /// Timestep of the head's evaluation: a whole number for diffusion.
    pub timestep: f64,
    /// Factor of the state `x` in the clean estimate.
    pub x_to_clean: f64,
    /// Factor of the prediction in the clean estimate.
    pub prediction_to_clean: f64,
    /// Factor of the state `x`.
    pub state: f64,
    /// Factor of this step's clean estimate.
    pub this: f64,
    /// Factor of the last step's clean estimate.
    pub last: f64,
    /// Factor of fresh noise.
    pub noise: f64,
}

impl SolverStep {
    /// The step in the form that the kernel takes; `None` if it adds fresh noise.
    pub(crate) fn without_noise(&self) -> Option<LinearStep> {
        (self.noise == 0.0).then_some(LinearStep {
            x_to_clean: self.x_to_clean as f32,
            prediction_to_clean: self.prediction_to_clean as f32,
            state: self.state as f32,
            this: self.this as f32,
            last: self.last as f32,
        })
    }
}

/// The timesteps of a plan: `round(linspace(0, T-1, n+1))` reversed, without the last, which is 0.
pub(super) fn timesteps(schedule: &NoiseSchedule, steps: usize) -> Vec<usize> {
    let last = (schedule.timesteps() - 1) as f64;
    (1..=steps)
        .rev()
        // The reference's NumPy rounds halves to even.
        .map(|i| (last * i as f64 / steps as f64).round_ties_even() as usize)
        .collect()
}

/// `alpha_bar` at each timestep and at the next one. The last timestep is followed by 1: no noise.
pub(super) fn alpha_bar_pairs(schedule: &NoiseSchedule, timesteps: &[usize]) -> Vec<(f64, f64)> {
    let bars: Vec<f64> = timesteps
        .iter()
        .map(|t| schedule.alphas_cumprod()[*t])
        .chain([1.0])
        .collect();
    bars.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::{BetaSchedule, Prediction};

    #[test]
    fn timesteps_are_the_reference_spacing() {
        let schedule = NoiseSchedule::new(BetaSchedule::Cosine, Prediction::Epsilon, 1000);
        assert_eq!(timesteps(&schedule, 5), [999, 799, 599, 400, 200]);
        assert_eq!(timesteps(&schedule, 10)[..3], [999, 899, 799]);
    }
}
