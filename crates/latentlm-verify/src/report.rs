//! Errors against bounds.

use burn::tensor::{Tensor, TensorData};

/// Bound of forward passes.
pub(crate) const FORWARD: f64 = 1e-4;
/// Bound of gradients.
pub(crate) const GRADIENT: f64 = 1e-3;
/// Bound of whole sampling loops.
pub(crate) const SAMPLING: f64 = 2e-3;
/// Bound of forward passes with weights in bfloat16, whose numbers have 8 digits of two: each rounding
/// is off by up to 0.4 %, and a dozen follow each other.
pub(crate) const ROUNDED: f64 = 3e-2;
/// Bound of the gradients of such passes, which are twice as long.
pub(crate) const ROUNDED_GRADIENT: f64 = 6e-2;
/// Bound of a stream against the same weights' offline result.
pub(crate) const STREAM: f64 = 1e-5;

/// One compared tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What was compared.
    pub name: String,
    /// `max|ours - reference| / max(1, max|reference|)`, or with weights in bfloat16 the norm of the
    /// difference over the reference's; not a number where ours is none.
    pub error: f64,
    /// What the error may be.
    pub bound: f64,
}

impl Comparison {
    /// Whether the error is within the bound.
    pub fn passed(&self) -> bool {
        self.error <= self.bound
    }
}

/// What comparing a case gave.
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

    /// Whether anything was compared and all of it is within bounds.
    pub fn passed(&self) -> bool {
        !self.comparisons.is_empty() && self.comparisons.iter().all(Comparison::passed)
    }

    /// Compares a tensor with what the reference gave.
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

    /// Compares by the norm of the difference over the reference's.
    pub(crate) fn near<const D: usize>(
        &mut self,
        name: &str,
        ours: Tensor<D>,
        reference: Tensor<D>,
        bound: f64,
    ) {
        self.near_values(name, &host(ours), &host(reference), bound);
    }

    /// As [`near`](Self::near), of numbers on the host.
    pub(crate) fn near_values(&mut self, name: &str, ours: &[f32], reference: &[f32], bound: f64) {
        self.push(name, distance(ours, reference), bound);
    }

    /// Compares counts, names or bytes, where only equality will do.
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

/// Floats on the host, whatever their type.
pub(crate) fn values(data: TensorData) -> Vec<f32> {
    let data = data.convert::<f32>();
    data.try_to_vec().expect("a float tensor converts to f32")
}

/// `|a - b| / |b|` in the Euclidean norm, in float64; not a number where the lengths differ.
fn distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::NAN;
    }
    let difference = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).powi(2);
    let differences: f64 = a.iter().zip(b).map(difference).sum();
    let size: f64 = b.iter().map(|b| f64::from(*b).powi(2)).sum();
    (differences / size).sqrt()
}

/// `max|a - b| / max(1, max|b|)`, in float64; not a number as soon as one number is none.
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
