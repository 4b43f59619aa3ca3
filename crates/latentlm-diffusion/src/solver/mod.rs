//! Solvers of the reverse process, as plans of numbers.
//!
//! Every solver here is linear in the state, the clean estimates of this and the last step, and fresh
//! noise. So a solver is a list of coefficients, computed once on the host in float64, and
//! [`integrate`] is the one loop that runs all of them.

mod ddim;
mod ddpm;
mod dpm;
mod flow;
mod sde;
mod step;

use burn::tensor::Tensor;
use latentlm_core::{RandomStream, Sampler};

use crate::schedule::NoiseSchedule;

pub use step::SolverStep;

/// The plan of a solver with `steps` evaluations of the head.
///
/// # Panics
/// If `steps` is 0, more than the schedule has timesteps or not a multiple of what the solver needs, or if the solver
/// reverses another process.
pub fn plan(sampler: Sampler, schedule: &NoiseSchedule, steps: usize) -> Vec<SolverStep> {
    assert!(
        (1..schedule.timesteps()).contains(&steps),
        "solver steps must be in 1..{}, not {steps}",
        schedule.timesteps()
    );
    assert_eq!(
        sampler.process(),
        schedule.process(),
        "{sampler:?} and the process that the head reverses"
    );
    match sampler {
        Sampler::Euler => flow::euler(schedule, steps),
        Sampler::Midpoint => flow::midpoint(schedule, steps),
        Sampler::Heun => flow::heun(schedule, steps),
        Sampler::DpmSolverPlusPlus => dpm::plan(schedule, steps),
        Sampler::Ddim => ddim::plan(schedule, steps),
        Sampler::Ddpm => ddpm::plan(schedule, steps),
        Sampler::SdeDpmSolverPlusPlus => sde::plan(schedule, steps),
    }
}

/// Runs a plan from `noise` to clean latents; `predict(index of the step, state)` evaluates the head.
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
            let noise = random.normal(next.dims(), &next.device());
            next = next + noise.mul_scalar(step.noise);
        }
        x = next;
        last = Some(clean);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use latentlm_core::{BetaSchedule, Prediction};

    const SAMPLERS: [Sampler; 4] = [
        Sampler::DpmSolverPlusPlus,
        Sampler::Ddim,
        Sampler::Ddpm,
        Sampler::SdeDpmSolverPlusPlus,
    ];

    fn schedule(prediction: Prediction) -> NoiseSchedule {
        NoiseSchedule::new(BetaSchedule::Cosine, prediction, 1000)
    }

    /// For data at a single point the perfect head is known in closed form, and every solver must
    /// land on the point whatever the noise.
    #[test]
    fn every_solver_finds_a_point_distribution() {
        let device = Device::default();
        let point = 0.7;
        for prediction in [Prediction::Epsilon, Prediction::Velocity] {
            let schedule = schedule(prediction);
            for sampler in SAMPLERS {
                for steps in [1, 2, 5, 20] {
                    let plan = plan(sampler, &schedule, steps);
                    let mut random = RandomStream::new(1);
                    let noise = random.normal([4, 2], &device);
                    let x = integrate(&plan, noise, &mut random, |i, x| {
                        let abar = schedule.alphas_cumprod()[plan[i].timestep as usize];
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
        for sampler in SAMPLERS {
            let plan = plan(sampler, &schedule, 200);
            let mut random = RandomStream::new(2);
            let noise = random.normal([20_000, 1], &device);
            let x = integrate(&plan, noise, &mut random, |i, x| {
                let abar = schedule.alphas_cumprod()[plan[i].timestep as usize];
                let variance = abar * spread * spread + 1.0 - abar;
                x.mul_scalar((1.0 - abar).sqrt() / variance)
            });
            let std = x.var(0).sqrt().into_scalar::<f32>();
            assert!((f64::from(std) - spread).abs() < 0.02, "{sampler:?}: {std}");
        }
    }
}
