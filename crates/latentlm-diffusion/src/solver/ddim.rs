//! DDIM with eta 0 (Song et al. 2020, arXiv 2010.02502, equation 12).

use super::step::{SolverStep, alpha_bar_pairs, timesteps};
use crate::schedule::NoiseSchedule;

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Vec<SolverStep> {
    let timesteps = timesteps(schedule, steps);
    let pairs = alpha_bar_pairs(schedule, &timesteps);
    timesteps
        .into_iter()
        .zip(pairs)
        .map(|(timestep, (bar, next))| {
            let (alpha, sigma) = (bar.sqrt(), (1.0 - bar).sqrt());
            let (x_to_clean, prediction_to_clean) = schedule.clean_factors(alpha, sigma);
            // The noise in x is (x - alpha * clean) / sigma. It is scaled to the next timestep's
            // sigma.
            let state = (1.0 - next).sqrt() / sigma;
            SolverStep {
                timestep: timestep as f64,
                x_to_clean,
                prediction_to_clean,
                state,
                this: next.sqrt() - state * alpha,
                last: 0.0,
                noise: 0.0,
            }
        })
        .collect()
}
