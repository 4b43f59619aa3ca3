//! The sine transform of a hop and the fade of the overlap, on the host.

use std::f64::consts::PI;

/// The lowest `count` functions of the DST-IV of `hop` samples as a matrix `[hop, count]`, row by row. Its
/// columns are orthonormal, so that its transpose is the way back. Each begins near zero and ends anyhow.
pub(crate) fn basis(hop: usize, count: usize) -> Vec<f32> {
    let norm = (2.0 / hop as f64).sqrt();
    let value = |at: usize, frequency: usize| {
        let angle = PI * (at as f64 + 0.5) * (frequency as f64 + 0.5) / hop as f64;
        (norm * angle.sin()) as f32
    };
    let value = &value;
    let rows = (0..hop).flat_map(|at| (0..count).map(move |frequency| value(at, frequency)));
    rows.collect()
}

/// Weights of the mirrored end of a hop at the beginning of the next: from nearly 1 down to nearly 0.
pub(crate) fn fade(overlap: usize) -> Vec<f32> {
    let value = |at: usize| {
        let angle = 0.5 * PI * (at as f64 + 0.5) / overlap as f64;
        angle.cos().powi(2) as f32
    };
    (0..overlap).map(value).collect()
}
