//! DPM-Solver++ 2M, midpoint (Lu et al. 2022, arXiv 2211.01095, algorithm 2).

use super::step::{SolverStep, alpha_bar_pairs, timesteps};
use crate::schedule::NoiseSchedule;

/// Half the logarithm of the signal-to-noise ratio.
pub(super) fn lambda(alpha_bar: f64) -> f64 {
    0.5 * (alpha_bar / (1.0 - alpha_bar)).ln()
}

/// Steps are second order from the second one on. The last step, to zero noise, is first order: its
/// width in lambda is infinite, so the second-order correction is not defined.
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
        let pull = alpha_next * -(-width).exp_m1();
        // Midpoint correction: pull/2 * (clean - last clean) / r, where r is last width / width.
        let correction = match last_width {
            Some(last_width) if !is_final => 0.5 * pull * width / last_width,
            _ => 0.0,
        };
        plan.push(SolverStep {
            timestep: timesteps[index] as f64,
            x_to_clean,
            prediction_to_clean,
            state: sigma_next / sigma,
            this: pull + correction,
            last: -correction,
            noise: 0.0,
        });
        last_width = Some(width);
    }
    plan
}
