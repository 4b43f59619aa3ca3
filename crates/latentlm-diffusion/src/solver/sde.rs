//! SDE-DPM-Solver++ 2M, midpoint (Lu et al. 2022, arXiv 2211.01095): the solver with fresh noise at each step.

use super::dpm::lambda;
use super::step::{SolverStep, alpha_bar_pairs, timesteps};
use crate::schedule::NoiseSchedule;

/// Steps are second order from the second one on. The last step goes to the clean estimate itself.
pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Vec<SolverStep> {
    let timesteps = timesteps(schedule, steps);
    let pairs = alpha_bar_pairs(schedule, &timesteps);
    let mut plan = Vec::with_capacity(steps);
    let mut last_width: Option<f64> = None;
    for (index, (bar, next)) in pairs.iter().copied().enumerate() {
        let (alpha, sigma) = (bar.sqrt(), (1.0 - bar).sqrt());
        let (alpha_next, sigma_next) = (next.sqrt(), (1.0 - next).sqrt());
        let (x_to_clean, prediction_to_clean) = schedule.clean_factors(alpha, sigma);
        let is_final = index + 1 == steps;
        let width = lambda(next) - lambda(bar); // infinite at the end
        let replaced = -(-2.0 * width).exp_m1(); // share of the noise's variance that is drawn anew
        let pull = alpha_next * replaced;
        // Midpoint correction: pull/2 * (clean - last clean) / r, where r is last width / width.
        let correction = match last_width {
            Some(last_width) if !is_final => 0.5 * pull * width / last_width,
            _ => 0.0,
        };
        plan.push(SolverStep {
            timestep: timesteps[index] as f64,
            x_to_clean,
            prediction_to_clean,
            state: sigma_next / sigma * (-width).exp(),
            this: pull + correction,
            last: -correction,
            noise: sigma_next * replaced.sqrt(),
        });
        last_width = Some(width);
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::{BetaSchedule, Prediction};

    /// With the clean estimate at zero, each step keeps the variance of the next timestep: what is left of the
    /// old noise and the fresh one add up to it.
    #[test]
    fn noise_has_the_variance_of_its_timestep() {
        let schedule = NoiseSchedule::new(BetaSchedule::Cosine, Prediction::Velocity, 1000);
        for steps in [1, 2, 10, 50] {
            let plan = plan(&schedule, steps);
            let bar = |timestep: f64| schedule.alphas_cumprod()[timestep as usize];
            for (index, step) in plan.iter().enumerate() {
                let next = plan.get(index + 1).map_or(1.0, |next| bar(next.timestep));
                let old = step.state.powi(2) * (1.0 - bar(step.timestep));
                let variance = old + step.noise.powi(2);
                assert!((variance - (1.0 - next)).abs() < 1e-12, "{steps} {index}");
            }
            let last = plan[steps - 1];
            assert_eq!((last.state, last.last, last.noise), (0.0, 0.0, 0.0));
            assert!((last.this - 1.0).abs() < 1e-12);
        }
    }
}
