//! The cosine transform of a block, on the host.

use std::f64::consts::PI;

/// The coefficients that are kept of a block of `block * block` pixels: those of the lowest frequencies,
/// as `(vertical, horizontal)`.
pub(crate) fn frequencies(block: usize, count: usize) -> Vec<(usize, usize)> {
    let all = (0..block).flat_map(|v| (0..block).map(move |u| (v, u)));
    let mut all: Vec<(usize, usize)> = all.collect();
    all.sort_by_key(|&(v, u)| (v + u, v));
    all.truncate(count);
    all
}

/// The transform as a matrix `[block * block, count]`, row by row. Its columns are orthonormal, so that its
/// transpose is the way back.
pub(crate) fn basis(block: usize, count: usize) -> Vec<f32> {
    let cosine = |frequency: usize, at: usize| {
        let norm = if frequency == 0 { 1.0 } else { 2.0 } / block as f64;
        let angle = PI * frequency as f64 * (at as f64 + 0.5) / block as f64;
        norm.sqrt() * angle.cos()
    };
    let frequencies = frequencies(block, count);
    let pixels = (0..block).flat_map(|y| (0..block).map(move |x| (y, x)));
    pixels
        .flat_map(|(y, x)| {
            let value = move |&(v, u): &(usize, usize)| (cosine(v, y) * cosine(u, x)) as f32;
            frequencies.iter().map(value).collect::<Vec<_>>()
        })
        .collect()
}
