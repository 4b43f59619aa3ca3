//! Repetition-aware sampling of codes (VALL-E 2, Chen et al. 2024, arXiv 2406.05370, algorithm 1): nucleus sampling,
//! but a code that fills too much of the last codes is drawn again from all codes. Small nuclei alone fall into
//! endless loops, large ones babble.

use serde::{Deserialize, Serialize};

use crate::error::BaselineError;

/// Sampling options of codes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CodeOptions {
    /// Temperature of the softmax; 0 takes the most likely code.
    pub temperature: f64,
    /// Probability of the most likely codes that are drawn from; 1 for all codes.
    pub top_p: f64,
    /// Number of the last codes that are searched for a repetition; 0 for none.
    pub window: usize,
    /// Largest share of the window that a code may fill before it is drawn again.
    pub repetition: f64,
}

impl Default for CodeOptions {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 0.8,
            window: 10,
            repetition: 0.1,
        }
    }
}

impl CodeOptions {
    /// Checks the options.
    ///
    /// # Errors
    /// If a number is not finite or out of its range.
    pub fn validate(&self) -> Result<(), BaselineError> {
        let fail = |reason: &str| {
            Err(BaselineError::Config {
                model: "code language model",
                reason: reason.into(),
            })
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return fail("temperature must be 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return fail("top_p must be above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.repetition) {
            return fail("repetition must be from 0 to 1");
        }
        Ok(())
    }
}

/// Draws a code. `history` holds the codes before, and `numbers` are in `[0, 1)`: one for the nucleus, one for
/// all codes.
pub(crate) fn draw_code(
    logits: &[f32],
    history: &[i64],
    options: &CodeOptions,
    numbers: [f64; 2],
) -> usize {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let Some(&best) = order.first() else {
        return 0;
    };
    if options.temperature <= 0.0 {
        return best;
    }
    let weight =
        |code: &usize| (f64::from(logits[*code] - logits[best]) / options.temperature).exp();
    let weights: Vec<f64> = order.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let (mut kept, mut sum) = (0, 0.0);
    while kept < weights.len() && (kept == 0 || sum < options.top_p * total) {
        sum += weights[kept];
        kept += 1;
    }
    let code = order[place(&weights[..kept], numbers[0])];
    let recent = &history[history.len().saturating_sub(options.window)..];
    let repeated = recent.iter().filter(|own| **own == code as i64).count();
    // An empty window has no repetition.
    if repeated as f64 > options.repetition * options.window as f64 {
        return order[place(&weights, numbers[1])];
    }
    code
}

/// The index at which the sum of weights exceeds `number` times their total.
fn place(weights: &[f64], number: f64) -> usize {
    let mut left = number * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return index;
        }
    }
    // Rounding may leave a small rest above the last.
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of probabilities 1/2, 1/3 and 1/6 of the codes 1, 2 and 0.
    fn logits() -> [f32; 3] {
        [1.0f32, 3.0, 2.0].map(f32::ln)
    }

    /// Counts of 600 draws, as the first of both numbers goes from 0 to 1, or the second.
    fn counts(options: CodeOptions, history: &[i64], second: bool) -> [usize; 3] {
        let mut counts = [0; 3];
        for i in 0..600 {
            let number = (f64::from(i) + 0.5) / 600.0;
            let numbers = if second { [0.1, number] } else { [number, 0.1] };
            counts[draw_code(&logits(), history, &options, numbers)] += 1;
        }
        counts
    }

    #[test]
    fn the_nucleus_has_the_likeliest_codes() {
        let all = CodeOptions {
            top_p: 1.0,
            window: 0,
            ..CodeOptions::default()
        };
        assert_eq!(counts(all, &[], false), [100, 300, 200]);
        // 1/2 is not enough for 0.6, 1/2 and 1/3 are.
        let some = CodeOptions { top_p: 0.6, ..all };
        assert_eq!(counts(some, &[], false), [0, 360, 240]);
        let one = CodeOptions { top_p: 0.4, ..all };
        assert_eq!(counts(one, &[1, 1, 1], false), [0, 600, 0], "no window");
        let greedy = CodeOptions {
            temperature: 0.0,
            ..all
        };
        assert_eq!(counts(greedy, &[], false), [0, 600, 0]);
    }

    /// Code 1 alone is in the nucleus. As soon as it fills more than a quarter of the last four codes, it is
    /// drawn from all.
    #[test]
    fn a_code_that_repeats_is_drawn_from_all() {
        let options = CodeOptions {
            temperature: 1.0,
            top_p: 0.4,
            window: 4,
            repetition: 0.25,
        };
        assert_eq!(counts(options, &[1, 1, 0, 0, 0, 1], true), [0, 600, 0]);
        assert_eq!(counts(options, &[0, 0, 1, 0, 1], true), [100, 300, 200]);
    }

    #[test]
    fn wrong_options_are_refused() {
        let fine = CodeOptions::default();
        fine.validate().unwrap();
        let wrong = [
            CodeOptions { top_p: 0.0, ..fine },
            CodeOptions {
                repetition: f64::NAN,
                ..fine
            },
            CodeOptions {
                temperature: f64::INFINITY,
                ..fine
            },
        ];
        assert!(wrong.iter().all(|own| own.validate().is_err()));
    }
}
