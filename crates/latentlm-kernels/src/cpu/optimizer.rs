//! Loops over a parameter: each number is read and written once.

use multiversion::multiversion;
use rayon::prelude::*;

use super::rows::rows_a_task;
use crate::optimizer::AdamWStep;

/// Updates a parameter and its moments in place.
#[multiversion(targets = "simd")]
pub(super) fn adamw(
    parameter: &mut [f32],
    gradient: &[f32],
    [first, second]: [&mut [f32]; 2],
    step: AdamWStep,
) {
    let (of_first, of_second) = step.corrections();
    let (beta_1, beta_2) = (step.beta_1 as f32, step.beta_2 as f32);
    let (fresh_1, fresh_2) = ((1.0 - step.beta_1) as f32, (1.0 - step.beta_2) as f32);
    let (of_first, of_second) = ((1.0 / of_first) as f32, (1.0 / of_second) as f32);
    let kept = (1.0 - step.learning_rate * step.weight_decay) as f32;
    let (rate, epsilon) = (step.learning_rate as f32, step.epsilon as f32);
    let task = rows_a_task(1);
    parameter
        .par_chunks_mut(task)
        .zip(gradient.par_chunks(task))
        .zip(first.par_chunks_mut(task).zip(second.par_chunks_mut(task)))
        .for_each(|((parameter, gradient), (first, second))| {
            let moments = first.iter_mut().zip(second);
            for ((p, g), (m, v)) in parameter.iter_mut().zip(gradient).zip(moments) {
                *m = *m * beta_1 + g * fresh_1;
                *v = *v * beta_2 + g * g * fresh_2;
                let delta = *m * of_first / ((*v * of_second).sqrt() + epsilon);
                *p = *p * kept - delta * rate;
            }
        });
}

/// `average = average * decay + live * (1 - decay)`.
#[multiversion(targets = "simd")]
pub(super) fn blend(average: &mut [f32], live: &[f32], decay: f64) {
    let (decay, fresh) = (decay as f32, (1.0 - decay) as f32);
    let task = rows_a_task(1);
    average
        .par_chunks_mut(task)
        .zip(live.par_chunks(task))
        .for_each(|(average, live)| {
            for (average, live) in average.iter_mut().zip(live) {
                *average = *average * decay + live * fresh;
            }
        });
}
