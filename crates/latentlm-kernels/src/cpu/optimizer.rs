//! The optimizer's loops over a parameter. One pass does clipping, AdamW and averaging: it moves 40 bytes for
//! each parameter, three passes would move 52 (docs/log.md, 2026-11-25).

use latentlm_products::tasks::rows_a_task;
use multiversion::multiversion;
use rayon::prelude::*;

use crate::types::AdamWStep;

/// A parameter, its moving average and its two moments.
pub(super) struct Weights<'a> {
    pub(super) parameter: &'a mut [f32],
    pub(super) average: &'a mut [f32],
    pub(super) first_moment: &'a mut [f32],
    pub(super) second_moment: &'a mut [f32],
}

/// One step of AdamW and of the moving average, in place.
#[multiversion(targets = "simd")]
pub(super) fn adamw(weights: Weights<'_>, gradient: &[f32], step: AdamWStep) {
    // In float64, because a difference such as 1 - 0.999 would have four digits in float32. Divisions by
    // values common to all parameters become multiplications in the loop.
    let (first_correction, second_correction) = step.corrections();
    let (beta_1, beta_2) = (step.beta_1 as f32, step.beta_2 as f32);
    let (fresh_1, fresh_2) = ((1.0 - step.beta_1) as f32, (1.0 - step.beta_2) as f32);
    let first_factor = (1.0 / first_correction) as f32;
    let second_factor = (1.0 / second_correction) as f32;
    let kept = (1.0 - step.learning_rate * step.weight_decay) as f32;
    let (rate, epsilon) = (step.learning_rate as f32, step.epsilon as f32);
    let scale = step.gradient_scale as f32;
    let decay = step.average_decay as f32;
    let fresh = (1.0 - step.average_decay) as f32;
    let task = rows_a_task(1);
    let first = weights.first_moment.par_chunks_mut(task);
    let moments = first.zip(weights.second_moment.par_chunks_mut(task));
    let live = weights.parameter.par_chunks_mut(task);
    live.zip(weights.average.par_chunks_mut(task))
        .zip(moments.zip(gradient.par_chunks(task)))
        .for_each(|((live, average), ((first, second), gradient))| {
            let moments = first.iter_mut().zip(second).zip(gradient);
            for ((p, a), ((m, v), g)) in live.iter_mut().zip(average).zip(moments) {
                let g = g * scale;
                *m = *m * beta_1 + g * fresh_1;
                *v = *v * beta_2 + g * g * fresh_2;
                let delta = *m * first_factor / ((*v * second_factor).sqrt() + epsilon);
                *p = *p * kept - delta * rate;
                *a = *a * decay + *p * fresh;
            }
        });
}

/// Lanes of a task's sum: twice as many as the widest vector registers have.
// Two registers of sums, so that an addition does not wait for the one before it. A lane adds up 256 squares of a
// task at most, which float32 does well; millions of parameters in one float32 sum would lose the small ones.
const LANES: usize = 32;

/// The sum of all squares. Each task adds up its numbers in float32 lanes, and the sums of tasks are added in
/// order in float64, so that the result does not depend on the threads.
#[multiversion(targets = "simd")]
pub(super) fn square_sum(x: &[f32]) -> f32 {
    let sums: Vec<f64> = x
        .par_chunks(rows_a_task(1))
        .map(|x| {
            let mut lanes = [0.0f32; LANES];
            let (whole, rest) = x.as_chunks::<LANES>();
            for x in whole {
                for (lane, x) in lanes.iter_mut().zip(x) {
                    *lane += x * x;
                }
            }
            let lanes: f64 = lanes.iter().map(|x| f64::from(*x)).sum();
            lanes + rest.iter().map(|x| f64::from(x * x)).sum::<f64>()
        })
        .collect();
    sums.iter().sum::<f64>() as f32
}
