//! Compares tensors and collects errors with their bounds.

use burn::tensor::{Tensor, TensorData};

/// Bound on the error of forward passes.
pub(crate) const FORWARD: f64 = 1e-4;
/// Bound on the error of gradients.
pub(crate) const GRADIENT: f64 = 1e-3;
/// Bound on the error of whole sampling loops.
pub(crate) const SAMPLING: f64 = 2e-3;
/// Bound on the error of whole runs of speech: latents are fed back, frame after frame.
pub(crate) const GENERATION: f64 = 1e-3;
/// Bound on the error of forward passes with weights in bfloat16. Its numbers have 8 significant bits: each
/// rounding is off by up to 0.4 %, and about a dozen follow each other.
pub(crate) const ROUNDED: f64 = 3e-2;
/// Bound on the error of gradients with weights in bfloat16: forward and backward pass together are twice as
/// long.
pub(crate) const ROUNDED_GRADIENT: f64 = 6e-2;
/// Bound on the error of hidden states with weights of 8 bits or more.
pub(crate) const QUANTIZED: f64 = 8e-2;
/// Bound on the difference between a stream and the offline result of the same weights.
pub(crate) const STREAM: f64 = 1e-5;

/// The result of comparing one tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Name of the compared tensor.
    pub name: String,
    /// `max|ours - reference| / max(1, max|reference|)`; with weights of
    /// fewer bits `|ours - reference| / |reference|` in the Euclidean norm. NaN if ours has values that are not finite.
    pub error: f64,
    /// Largest accepted error.
    pub bound: f64,
}

impl Comparison {
    /// Whether the error is within the bound.
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// The comparisons of a case.
#[derive(Debug, Clone)]
pub struct Report {
    /// The compared tensors, in order.
    pub comparisons: Vec<Comparison>,
    slack: f64,
}

impl Report {
    pub(crate) fn new(slack: f64) -> Self {
        Self {
            comparisons: Vec::new(),
            slack,
        }
    }

    /// Whether all comparisons passed, and there is at least one.
    pub fn passed(&self) -> bool {
        !self.comparisons.is_empty() && self.comparisons.iter().all(Comparison::passed)
    }

    /// Compares a tensor with the reference's, by the largest difference.
    pub(crate) fn compare<const D: usize>(
        &mut self,
        name: &str,
        ours: Tensor<D>,
        reference: Tensor<D>,
        bound: f64,
    ) {
        let error = if ours.dims() == reference.dims() {
            error(&host(ours), &host(reference))
        } else {
            f64::NAN
        };
        self.push(name, error, bound * self.slack);
    }

    /// Compares a tensor with the reference's, by the norm of the difference.
    pub(crate) fn near<const D: usize>(
        &mut self,
        name: &str,
        ours: Tensor<D>,
        reference: Tensor<D>,
        bound: f64,
    ) {
        self.near_values(name, &host(ours), &host(reference), bound);
    }

    /// As [`near`](Self::near), for values on the host.
    pub(crate) fn near_values(&mut self, name: &str, ours: &[f32], reference: &[f32], bound: f64) {
        self.push(name, distance(ours, reference), bound);
    }

    /// Records a number of differences in counts, names or bytes, where only 0 is accepted.
    pub(crate) fn equal(&mut self, name: &str, differences: usize) {
        self.push(name, differences as f64, 0.0);
    }

    fn push(&mut self, name: &str, error: f64, bound: f64) {
        self.comparisons.push(Comparison {
            name: name.to_owned(),
            error,
            bound,
        });
    }
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    values(tensor.into_data())
}

/// A float tensor's values as f32 on the host.
pub(crate) fn values(data: TensorData) -> Vec<f32> {
    let data = data.convert::<f32>();
    data.try_to_vec().expect("a float tensor converts to f32")
}

/// `|a - b| / |b|` in the Euclidean norm, computed in float64. NaN if the lengths differ.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let (mut differences, mut size) = (0.0_f64, 0.0_f64);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        differences += (a - b).powi(2);
        size += b.powi(2);
    }
    (differences / size).sqrt()
}

/// `max|a - b| / max(1, max|b|)`, computed in float64. NaN if any difference is not finite.
fn error(a: &[f32], b: &[f32]) -> f64 {
    let (mut worst, mut scale) = (0.0_f64, 1.0_f64);
    for (a, b) in a.iter().zip(b) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        let difference = (a - b).abs();
        if !difference.is_finite() {
            return f64::NAN;
        }
        worst = worst.max(difference);
        scale = scale.max(b.abs());
    }
    worst / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_relative_to_the_largest_value_or_one() {
        assert_eq!(error(&[1.0, 2.0], &[1.0, 4.0]), 0.5);
        assert_eq!(error(&[0.1], &[0.0]), f64::from(0.1f32));
    }

    #[test]
    fn distances_are_relative_to_the_reference() {
        assert_eq!(distance(&[3.0, 4.5], &[3.0, 4.0]), 0.1);
        assert!(distance(&[1.0], &[1.0, 2.0]).is_nan());
        assert!(distance(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan());
    }

    #[test]
    fn what_is_no_number_fails() {
        for broken in [f32::NAN, f32::INFINITY] {
            let comparison = Comparison {
                name: String::new(),
                error: error(&[1.0, broken], &[1.0, 1.0]),
                bound: 1.0,
            };
            assert!(!comparison.passed());
        }
    }
}
