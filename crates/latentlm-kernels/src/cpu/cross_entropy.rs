//! Cross entropy of rows of logits, and its gradient.

use latentlm_products::math::{exp, largest};
use latentlm_products::tasks::each_row;
use multiversion::multiversion;
use rayon::prelude::*;

/// The largest logit, and the sum of `exp(logit - largest)`.
#[inline(always)]
fn total(logits: &[f32]) -> (f32, f32) {
    let most = largest(logits);
    // Sixteen sums, so that an addition does not wait for the one before it.
    let mut sums = [0.0; 16];
    let mut chunks = logits.chunks_exact(16);
    for chunk in &mut chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += exp(*x - most);
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|x| exp(*x - most)).sum();
    (most, sums.iter().sum::<f32>() + rest)
}

/// `-log softmax(logits)[answer]` of each row.
#[multiversion(targets = "simd")]
pub(super) fn forward(logits: &[f32], answers: &[usize]) -> Vec<f32> {
    let width = logits.len() / answers.len().max(1);
    let mut out = vec![0.0; answers.len()];
    // Not `each_row`, which makes tasks by the numbers of the result: a row has one, but its work is a row of
    // logits.
    out.par_iter_mut().enumerate().for_each(|(row, out)| {
        let logits = &logits[row * width..][..width];
        let (most, sum) = total(logits);
        *out = sum.ln() + most - logits[answers[row]];
    });
    out
}

// The sums are computed again: the loop behind them then finds the row in the cache, and the graph keeps only
// the logits.
/// Gradient of the logits: `(softmax(logits) - onehot(answer)) * dout`.
#[multiversion(targets = "simd")]
pub(super) fn backward(logits: &[f32], answers: &[usize], dout: &[f32]) -> Vec<f32> {
    let width = logits.len() / answers.len().max(1);
    let mut gradient = vec![0.0; logits.len()];
    each_row(&mut gradient, width, |row, out| {
        let logits = &logits[row * width..][..width];
        let (most, sum) = total(logits);
        let scale = dout[row] / sum;
        for (out, x) in out.iter_mut().zip(logits) {
            *out = exp(*x - most) * scale;
        }
        out[answers[row]] -= dout[row];
    });
    gradient
}
