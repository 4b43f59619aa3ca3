//! The next token, drawn from the softmax head's logits.

use burn::serde::{Deserialize, Serialize};
use latentlm_core::RandomStream;

/// How text is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(crate = "burn::serde")]
pub struct TextOptions {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// Number of likeliest tokens that are drawn from; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens are drawn, as many as it takes until their probabilities add up to it; 1
    /// for all.
    pub top_p: f64,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
        }
    }
}

impl TextOptions {
    /// The likeliest token, always.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
    };

    /// Draws a token. Those with a logit of minus infinity never come.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn choose(&self, logits: &[f32], random: &mut RandomStream) -> u32 {
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if self.temperature <= 0.0 {
            return order[0] as u32;
        }
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let highest = f64::from(logits[order[0]]);
        let weight =
            |&token: &usize| ((f64::from(logits[token]) - highest) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let kept = nucleus(&weights, self.top_p);
        let total: f64 = weights[..kept].iter().sum();
        let mut left = random.uniform() * total;
        for (token, weight) in order.iter().zip(&weights[..kept]) {
            left -= weight;
            if left < 0.0 {
                return *token as u32;
            }
        }
        order[0] as u32
    }
}

/// Number of weights, largest first, whose sum reaches a share of the total; at least one.
fn nucleus(weights: &[f64], share: f64) -> usize {
    let total: f64 = weights.iter().sum();
    let mut sum = 0.0;
    for (index, weight) in weights.iter().enumerate() {
        sum += weight;
        if sum >= share * total {
            return index + 1;
        }
    }
    weights.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 0.5, 0.25, 0.15, 0.1, in another order.
    const PROBABILITIES: [f64; 4] = [0.15, 0.5, 0.1, 0.25];

    fn shares(options: TextOptions) -> [f64; 4] {
        let logits = PROBABILITIES.map(|p| p.ln() as f32 + 3.0);
        let mut random = RandomStream::new(1);
        let mut counts = [0.0; 4];
        for _ in 0..20_000 {
            counts[options.choose(&logits, &mut random) as usize] += 1.0 / 20_000.0;
        }
        counts
    }

    fn assert_shares(options: TextOptions, expected: [f64; 4]) {
        let found = shares(options);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 0.015, "{found} for {expected}");
            assert!(*found == 0.0 || expected > 0.0, "{found} of what is cut");
        }
    }

    #[test]
    fn tokens_come_as_often_as_they_should() {
        let all = TextOptions::default();
        assert_shares(all, PROBABILITIES);
        assert_shares(
            TextOptions { top_k: 2, ..all },
            [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0],
        );
        assert_shares(
            TextOptions { top_p: 0.8, ..all },
            [0.15 / 0.9, 0.5 / 0.9, 0.0, 0.25 / 0.9],
        );
        let squares: f64 = PROBABILITIES.iter().map(|p| p * p).sum();
        let sharper = PROBABILITIES.map(|p| p * p / squares);
        assert_shares(
            TextOptions {
                temperature: 0.5,
                ..all
            },
            sharper,
        );
        assert_shares(TextOptions::GREEDY, [0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn forbidden_tokens_never_come() {
        let mut random = RandomStream::new(2);
        let logits = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
        for _ in 0..1000 {
            assert_eq!(TextOptions::default().choose(&logits, &mut random), 1);
        }
    }
}
