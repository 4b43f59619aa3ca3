//! Scale-invariant signal-to-distortion ratio.

use super::signal::{dot, pair, zero_mean};

/// Scale-invariant signal-to-distortion ratio in decibels (Le Roux et al. 2019), both signals made
/// zero-mean: infinite for an exactly scaled copy, NaN where one of the two is silent.
///
/// # Panics
/// If the signals differ in length.
pub fn si_sdr_db(reference: &[f32], estimate: &[f32]) -> f64 {
    let [reference, estimate] = pair(reference, estimate).map(zero_mean);
    let scale = dot(&reference, &estimate) / dot(&reference, &reference);
    let target: Vec<f64> = reference.iter().map(|x| scale * x).collect();
    let distortion: Vec<f64> = estimate.iter().zip(&target).map(|(y, x)| y - x).collect();
    10.0 * (dot(&target, &target) / dot(&distortion, &distortion)).log10()
}
