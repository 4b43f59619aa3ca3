//! Means, shares and medians of measurements.

use std::collections::BTreeMap;

/// The mean; `None` if there are no values.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

/// The fraction of answers that are right; `None` if there are no answers.
pub fn share(right: impl IntoIterator<Item = bool>) -> Option<f64> {
    mean(right.into_iter().map(|right| f64::from(u8::from(right))))
}

/// The smallest value; infinity if there are none.
pub fn smallest(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The median; NaN if there are no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How often each item occurs.
pub fn counts<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_are_summed_up() {
        assert_eq!((mean([1.0, 2.0, 6.0]), mean([])), (Some(3.0), None));
        assert_eq!(share([true, false, false, true]), Some(0.5));
        assert_eq!(
            (smallest(&[2.0, -1.0]), smallest(&[])),
            (-1.0, f64::INFINITY)
        );
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
        assert_eq!(counts([0, 4, 4, 4]), BTreeMap::from([(0, 1), (4, 3)]));
    }
}
