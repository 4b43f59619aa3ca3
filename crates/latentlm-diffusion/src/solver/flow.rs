//! Solvers of `dx/dt = v(x, t)` from noise at time 1 to the latent at time 0, in equal intervals of time: Euler's method,
//! and the midpoint method and Heun's of second order (Hairer, Norsett and Wanner 1993, section II.1), which evaluate the
//! head twice in each interval.
//!
//! The second evaluation starts from the first one's result, so both are steps of the same linear form: with the first
//! velocity as the `last` one, `x` before the interval is `x + length * last`.

use super::step::SolverStep;
use crate::schedule::NoiseSchedule;

/// `x' = x - h v(x, t)`.
pub(super) fn euler(schedule: &NoiseSchedule, steps: usize) -> Vec<SolverStep> {
    let length = 1.0 / steps as f64;
    let times = (0..steps).map(|index| 1.0 - index as f64 * length);
    times
        .map(|time| step(schedule, time, -length, 0.0))
        .collect()
}

/// `x' = x - h v(x - h/2 v(x, t), t - h/2)`.
///
/// # Panics
/// If `steps` is odd.
pub(super) fn midpoint(schedule: &NoiseSchedule, steps: usize) -> Vec<SolverStep> {
    let (starts, length) = intervals(steps);
    let half = length / 2.0;
    let pairs = starts.into_iter().map(|start| {
        [
            step(schedule, start, -half, 0.0),
            step(schedule, start - half, -length, half),
        ]
    });
    pairs.flatten().collect()
}

/// `x' = x - h/2 (v(x, t) + v(x - h v(x, t), t - h))`.
///
/// # Panics
/// If `steps` is odd.
pub(super) fn heun(schedule: &NoiseSchedule, steps: usize) -> Vec<SolverStep> {
    let (starts, length) = intervals(steps);
    let half = length / 2.0;
    let pairs = starts.into_iter().map(|start| {
        [
            step(schedule, start, -length, 0.0),
            step(schedule, start - length, -half, half),
        ]
    });
    pairs.flatten().collect()
}

/// Beginnings of the intervals of a method that evaluates the head twice in each, and their length.
fn intervals(steps: usize) -> (Vec<f64>, f64) {
    assert!(
        steps.is_multiple_of(2),
        "two evaluations for each interval make an even number of steps, not {steps}"
    );
    let count = steps / 2;
    let length = 1.0 / count as f64;
    let starts = (0..count).map(|index| 1.0 - index as f64 * length);
    (starts.collect(), length)
}

/// Evaluates the head at `time`, and adds `this` times its velocity and `last` times the one before.
fn step(schedule: &NoiseSchedule, time: f64, this: f64, last: f64) -> SolverStep {
    // The head is trained from time 1 / T on, timestep 0; at time 0 it is asked for the velocity of that.
    let timestep = time * schedule.timesteps() as f64 - 1.0;
    SolverStep {
        timestep: timestep.max(0.0),
        x_to_clean: 0.0,
        prediction_to_clean: 1.0,
        state: 1.0,
        this,
        last,
        noise: 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A solver's plan.
    type Plan = fn(&NoiseSchedule, usize) -> Vec<SolverStep>;

    fn line() -> NoiseSchedule {
        NoiseSchedule::flow(1000)
    }

    /// Runs a plan on the field `velocity(x, time)` from `x` at time 1, in float64.
    fn solved(plan: &[SolverStep], mut x: f64, velocity: impl Fn(f64, f64) -> f64) -> f64 {
        let mut last = 0.0;
        for step in plan {
            let this = velocity(x, (step.timestep + 1.0) / 1000.0);
            x = step.state * x + step.this * this + step.last * last;
            last = this;
        }
        x
    }

    /// `dx/dt = 2 x` and Euler's product `(1 - 2/n)^n`.
    #[test]
    fn euler_is_its_closed_form() {
        for steps in [1, 2, 5, 40] {
            let got = solved(&euler(&line(), steps), 3.0, |x, _| 2.0 * x);
            let expected = 3.0 * (1.0 - 2.0 / steps as f64).powi(steps as i32);
            assert!((got - expected).abs() < 1e-9, "{steps}: {got} {expected}");
        }
    }

    /// With half as long steps, errors of Euler's method are half as large, those of the others a quarter. The exact
    /// solution of `dx/dt = 2 x` is `x(0) = x(1) exp(-2)`.
    #[test]
    fn errors_fall_with_the_order() {
        let exact = 3.0 * (-2.0f64).exp();
        let methods: [(Plan, usize, f64); 3] =
            [(euler, 1, 1.0), (midpoint, 2, 2.0), (heun, 2, 2.0)];
        for (plan, evaluations, order) in methods {
            let error = |intervals: usize| {
                let plan = plan(&line(), intervals * evaluations);
                assert_eq!(plan.len(), intervals * evaluations);
                (solved(&plan, 3.0, |x, _| 2.0 * x) - exact).abs()
            };
            let found = (error(64) / error(128)).log2();
            assert!((found - order).abs() < 0.06, "order {found} for {order}");
        }
    }

    /// The velocity `2 t` leads from 0 to -1, which second order finds in one interval. Four steps of Euler's method
    /// add up 2, 1.5, 1 and 0.5, a quarter of each.
    #[test]
    fn velocities_are_asked_at_the_right_times() {
        for (plan, expected) in [
            (euler(&line(), 4), -1.25),
            (midpoint(&line(), 2), -1.0),
            // Time 0 is asked at the first timestep, 1 / 1000.
            (heun(&line(), 2), -1.001),
        ] {
            let got = solved(&plan, 0.0, |_, time| 2.0 * time);
            assert!((got - expected).abs() < 1e-12, "{got} for {expected}");
        }
    }

    #[test]
    #[should_panic(expected = "an even number of steps, not 3")]
    fn odd_steps_of_second_order_are_refused() {
        midpoint(&line(), 3);
    }
}
