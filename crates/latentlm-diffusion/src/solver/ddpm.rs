//! Ancestral sampling (Ho et al. 2020, arXiv 2006.11239, equations 6 and 7) over a subset of the
//! timesteps, with the posterior's variance.

use super::step::{SolverStep, alpha_bar_pairs, timesteps};
use crate::schedule::NoiseSchedule;

pub(super) fn plan(schedule: &NoiseSchedule, steps: usize) -> Vec<SolverStep> {
    let timesteps = timesteps(schedule, steps);
    let pairs = alpha_bar_pairs(schedule, &timesteps);
    timesteps
        .into_iter()
        .zip(pairs)
        .map(|(timestep, (bar, next))| {
            let (x_to_clean, prediction_to_clean) =
                schedule.clean_factors(bar.sqrt(), (1.0 - bar).sqrt());
            // A step of the subset spans several timesteps: its alpha is the ratio of the two
            // alpha_bar.
            let alpha = bar / next;
            let beta = 1.0 - alpha;
            SolverStep {
                timestep: timestep as f64,
                x_to_clean,
                prediction_to_clean,
                state: alpha.sqrt() * (1.0 - next) / (1.0 - bar),
                this: next.sqrt() * beta / (1.0 - bar),
                last: 0.0,
                noise: (beta * (1.0 - next) / (1.0 - bar)).sqrt(),
            }
        })
        .collect()
}
