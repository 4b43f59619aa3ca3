//! Means, deviations, shares, medians and intervals of measurements.

use std::collections::BTreeMap;

use latentlm::RandomStream;

/// Resamples of an interval.
const RESAMPLES: usize = 1000;
/// Resamples below an interval, and as many above it: 2.5 % each.
const OUTSIDE: usize = RESAMPLES / 40;

/// The mean; `None` if there are no values.
pub fn mean(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_usize);
    for value in values {
        sum += value;
        count += 1;
    }
    (count > 0).then(|| sum / count as f64)
}

/// The standard deviation of what the values are a sample of, with one less than their number as divisor; `None` if there are
/// fewer than two.
pub fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values.iter().copied())?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
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

/// The 95 % interval of a statistic by the percentile bootstrap (Efron 1979): 1,000 times as many observations are drawn,
/// with replacement. `statistic` gets the numbers of drawn observations, from 0. `None` if there are no observations, or
/// the statistic of some is not finite.
pub fn interval(count: usize, seed: u64, statistic: impl Fn(&[usize]) -> f64) -> Option<[f64; 2]> {
    if count == 0 {
        return None;
    }
    let mut random = RandomStream::for_step(seed, "bootstrap", 0);
    let mut drawn = vec![0; count];
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        drawn.fill_with(|| random.below(count));
        values.push(statistic(&drawn));
    }
    values.sort_by(f64::total_cmp);
    let are_finite = values.iter().all(|value| value.is_finite());
    are_finite.then(|| [values[OUTSIDE], values[RESAMPLES - 1 - OUTSIDE]])
}

/// How often each item occurs.
pub fn counts<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

/// Perplexity of counts: the exponential of the entropy of their frequencies. It is the number of things that occur if
/// all of them occur equally often.
pub fn perplexity(counts: &[usize]) -> f64 {
    let total = counts.iter().sum::<usize>().max(1) as f64;
    let found = counts.iter().filter(|count| **count > 0);
    let entropy = found.map(|count| {
        let frequency = *count as f64 / total;
        -frequency * frequency.ln()
    });
    entropy.sum::<f64>().exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perplexity_counts_what_occurs_equally_often() {
        assert!((perplexity(&[3, 0, 3, 3, 0]) - 3.0).abs() < 1e-9);
        assert!((perplexity(&[0, 8]) - 1.0).abs() < 1e-9);
        assert_eq!(perplexity(&[0, 0]), 1.0);
    }

    #[test]
    fn measurements_are_summed_up() {
        assert_eq!((mean([1.0, 2.0, 6.0]), mean([])), (Some(3.0), None));
        // The squares of the differences from 3 are 4, 1 and 9.
        assert_eq!(deviation(&[1.0, 2.0, 6.0]), Some(7f64.sqrt()));
        assert_eq!((deviation(&[1.0]), deviation(&[])), (None, None));
        assert_eq!(share([true, false, false, true]), Some(0.5));
        assert_eq!(
            (smallest(&[2.0, -1.0]), smallest(&[])),
            (-1.0, f64::INFINITY)
        );
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert!(median(Vec::new()).is_nan());
        assert_eq!(counts([0, 4, 4, 4]), BTreeMap::from([(0, 1), (4, 3)]));
    }

    fn mean_of(values: &[f64]) -> impl Fn(&[usize]) -> f64 {
        move |drawn: &[usize]| mean(drawn.iter().map(|index| values[*index])).unwrap()
    }

    /// The mean of many observations is normal: its interval is 1.96 standard errors wide to both sides.
    #[test]
    fn intervals_are_those_of_the_normal_distribution() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(i) - 199.5).collect();
        let variance = mean(values.iter().map(|x| x * x)).unwrap();
        let error = (variance / 400.0).sqrt();
        for seed in 0..3 {
            let [low, high] = interval(400, seed, mean_of(&values)).unwrap();
            // A quantile at 2.5 % of 1,000 draws is off by 0.085 standard errors; this is five times that.
            for (end, expected) in [(low, -1.96 * error), (high, 1.96 * error)] {
                assert!((end - expected).abs() < 0.43 * error, "{end}, {expected}");
            }
            assert_eq!(
                interval(400, seed, mean_of(&values)),
                Some([low, high]),
                "the seed decides"
            );
        }
    }

    #[test]
    fn intervals_of_what_does_not_vary_are_points() {
        let values = [0.25; 8];
        assert_eq!(interval(8, 1, mean_of(&values)), Some([0.25, 0.25]));
        assert_eq!(interval(1, 1, mean_of(&[3.0])), Some([3.0, 3.0]));
        assert_eq!(interval(0, 1, |_| 1.0), None);
        assert_eq!(interval(2, 1, |_| f64::NAN), None);
    }
}
