//! Solvers of the reverse process, as plans of numbers.
//!
//! Every solver offered here is linear in the state, the clean estimates of this and the last
//! step, and fresh noise. So a solver is a list of coefficients, worked out once on the host in
//! float64, and [`integrate`] is the one loop that runs any of them.

mod ddim;
mod ddpm;
mod dpm;

use burn::tensor::Tensor;
use latentlm_core::{RandomStream, Sampler};
use latentlm_kernels::LinearStep;

use crate::schedule::NoiseSchedule;

/// One step: `clean = x * x_to_clean + prediction * prediction_to_clean`, then
/// `x = x * state + clean * this + previous clean * last + fresh noise * noise`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SolverStep {
    /// The timestep at which the head is asked.
    pub timestep: usize,
    /// Factor of the state in the clean estimate.
    pub x_to_clean: f64,
    /// Factor of the prediction in the clean estimate.
    pub prediction_to_clean: f64,
    /// Factor of the state.
    pub state: f64,
    /// Factor of this step's clean estimate.
    pub this: f64,
    /// Factor of the last step's clean estimate.
    pub last: f64,
    /// Factor of fresh noise.
    pub noise: f64,
}

impl SolverStep {
    /// The step as a kernel takes it, unless it wants fresh noise.
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

/// The plan of a solver over `steps` evaluations.
///
/// # Panics
/// If `steps` is 0 or more than the schedule has timesteps.
pub fn plan(sampler: Sampler, schedule: &NoiseSchedule, steps: usize) -> Vec<SolverStep> {
    assert!(
        (1..schedule.timesteps()).contains(&steps),
        "solver steps must be in 1..{}, not {steps}",
        schedule.timesteps()
    );
    match sampler {
        Sampler::DpmSolverPlusPlus => dpm::plan(schedule, steps),
        Sampler::Ddim => ddim::plan(schedule, steps),
        Sampler::Ddpm => ddpm::plan(schedule, steps),
    }
}

/// Runs a plan from `noise`; `predict(step index, state)` is the head.
///
/// # Shapes
/// - `noise`: `[N, Z]`
/// - `predict`: `[N, Z]` to `[N, Z]`
/// - returns: `[N, Z]`
pub fn integrate(
    plan: &[SolverStep],
    noise: Tensor<2>,
    random: &mut RandomStream,
    mut predict: impl FnMut(usize, Tensor<2>) -> Tensor<2>,
) -> Tensor<2> {
    let mut x = noise;
    let mut last: Option<Tensor<2>> = None;
    for (index, step) in plan.iter().enumerate() {
        let prediction = predict(index, x.clone());
        let clean =
            x.clone().mul_scalar(step.x_to_clean) + prediction.mul_scalar(step.prediction_to_clean);
        let mut next = clean.clone().mul_scalar(step.this);
        if step.state != 0.0 {
            next = next + x.mul_scalar(step.state);
        }
        if let Some(last) = last.filter(|_| step.last != 0.0) {
            next = next + last.mul_scalar(step.last);
        }
        if step.noise != 0.0 {
            next = next.clone()
                + random
                    .normal(next.dims(), &next.device())
                    .mul_scalar(step.noise);
        }
        x = next;
        last = Some(clean);
    }
    x
}

/// `round(linspace(0, T-1, n+1))` reversed, the last (0) dropped: the timesteps of all solvers.
fn timesteps(schedule: &NoiseSchedule, steps: usize) -> Vec<usize> {
    let last = (schedule.timesteps() - 1) as f64;
    (1..=steps)
        .rev()
        // NumPy rounds halves to even.
        .map(|i| (last * i as f64 / steps as f64).round_ties_even() as usize)
        .collect()
}

/// Pairs of `alpha_bar` at each timestep and at the next one; after the last comes 1, no noise.
fn alpha_bar_pairs(schedule: &NoiseSchedule, timesteps: &[usize]) -> Vec<(f64, f64)> {
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
    use crate::schedule::{BetaSchedule, Prediction};
    use burn::tensor::Device;

    fn schedule(prediction: Prediction) -> NoiseSchedule {
        NoiseSchedule::new(BetaSchedule::Cosine, prediction, 1000)
    }

    #[test]
    fn timesteps_are_the_reference_spacing() {
        let schedule = schedule(Prediction::Epsilon);
        assert_eq!(timesteps(&schedule, 5), [999, 799, 599, 400, 200]);
        assert_eq!(timesteps(&schedule, 10)[..3], [999, 899, 799]);
    }

    /// For data at a single point the perfect head is known in closed form, and every solver must
    /// land on the point whatever the noise.
    #[test]
    fn every_solver_finds_a_point_distribution() {
        let device = Device::default();
        let point = 0.7;
        for prediction in [Prediction::Epsilon, Prediction::Velocity] {
            let schedule = schedule(prediction);
            for sampler in [Sampler::DpmSolverPlusPlus, Sampler::Ddim, Sampler::Ddpm] {
                for steps in [1, 2, 5, 20] {
                    let plan = plan(sampler, &schedule, steps);
                    let mut random = RandomStream::new(1);
                    let noise = random.normal([4, 2], &device);
                    let x = integrate(&plan, noise, &mut random, |i, x| {
                        let abar = schedule.alphas_cumprod()[plan[i].timestep];
                        let (a, s) = (abar.sqrt(), (1.0 - abar).sqrt());
                        let eps = (x - point * a) / s;
                        match prediction {
                            Prediction::Epsilon => eps,
                            Prediction::Velocity => eps * a - point * s,
                        }
                    });
                    let error = (x - point).abs().max().into_scalar::<f32>();
                    // At t = 999 alpha is 5e-5: from noise, one float32 rounding (6e-8) of a
                    // value around 4 becomes 5e-3 in the clean estimate.
                    assert!(error < 1e-2, "{prediction:?} {sampler:?} {steps}: {error}");
                }
            }
        }
    }

    /// For Gaussian data N(0, c^2) the perfect head is linear, and the samples' spread must be c.
    #[test]
    fn every_solver_keeps_the_spread_of_gaussian_data() {
        let device = Device::default();
        let spread: f64 = 0.5;
        let schedule = schedule(Prediction::Epsilon);
        for sampler in [Sampler::DpmSolverPlusPlus, Sampler::Ddim, Sampler::Ddpm] {
            let plan = plan(sampler, &schedule, 200);
            let mut random = RandomStream::new(2);
            let noise = random.normal([20_000, 1], &device);
            let x = integrate(&plan, noise, &mut random, |i, x| {
                let abar = schedule.alphas_cumprod()[plan[i].timestep];
                let variance = abar * spread * spread + 1.0 - abar;
                x.mul_scalar((1.0 - abar).sqrt() / variance)
            });
            let std = x.var(0).sqrt().into_scalar::<f32>();
            assert!((f64::from(std) - spread).abs() < 0.02, "{sampler:?}: {std}");
        }
    }
}
