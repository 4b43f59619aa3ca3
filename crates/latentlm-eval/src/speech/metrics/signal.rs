//! Arithmetic on signals that several measures share.

/// Checks that two signals have the same length.
///
/// # Panics
/// If the signals differ in length.
pub(super) fn assert_same_length(reference: &[f32], estimate: &[f32]) {
    assert_eq!(
        reference.len(),
        estimate.len(),
        "the reference and the estimate differ in length"
    );
}

/// The signal without its mean.
pub(super) fn zero_mean(signal: &[f32]) -> Vec<f64> {
    let values = widened(signal);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    values.into_iter().map(|value| value - mean).collect()
}

/// The signal in float64.
pub(super) fn widened(signal: &[f32]) -> Vec<f64> {
    signal.iter().map(|sample| f64::from(*sample)).collect()
}

/// Inner product.
pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
