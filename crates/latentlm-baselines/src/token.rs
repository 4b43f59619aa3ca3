//! How a token is drawn from its scores, and how well those foretell it.

use burn::tensor::{Int, Tensor};

/// Options of one draw of tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenOptions {
    /// Scores are divided by it; 0 takes the likeliest token.
    pub temperature: f64,
    /// The likeliest tokens that are drawn from; 0 for all.
    pub top_k: usize,
    /// Classifier-free guidance of the scores; 1 switches it off.
    pub guidance_scale: f64,
}

impl Default for TokenOptions {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            guidance_scale: 1.0,
        }
    }
}

/// The token at which the distribution function of `softmax(scores / temperature)`, cut to the `top_k`
/// likeliest, reaches `number` in `[0, 1)`.
pub(crate) fn draw_token(scores: &[f32], options: &TokenOptions, number: f64) -> usize {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    if options.top_k > 0 {
        order.truncate(options.top_k);
    }
    let Some(&best) = order.first() else {
        return 0;
    };
    if options.temperature <= 0.0 {
        return best;
    }
    let weight =
        |token: &usize| (f64::from(scores[*token] - scores[best]) / options.temperature).exp();
    let mut left = number * order.iter().map(weight).sum::<f64>();
    for token in &order {
        left -= weight(token);
        if left < 0.0 {
            return *token;
        }
    }
    // Rounding may leave a crumb.
    best
}

/// The mean cross entropy of tokens under their scores.
///
/// # Shapes
/// - `logits`: `[B, T, V]`; `tokens`: `[B, T]`
/// - returns: `[1]`
pub(crate) fn cross_entropy(logits: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<1> {
    let [batch, length, vocabulary] = logits.dims();
    let rows = logits.reshape([batch * length, vocabulary]);
    latentlm_kernels::cross_entropy(rows, tokens.reshape([batch * length])).mean()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities 1/2, 1/3, 1/6 of the tokens 1, 2, 0.
    fn scores() -> [f32; 3] {
        [1.0f32, 3.0, 2.0].map(f32::ln)
    }

    #[test]
    fn shares_are_the_softmax() {
        let count = |options: TokenOptions| {
            let mut counts = [0; 3];
            for i in 0..600 {
                let number = (f64::from(i) + 0.5) / 600.0;
                counts[draw_token(&scores(), &options, number)] += 1;
            }
            counts
        };
        let plain = TokenOptions::default();
        assert_eq!(count(plain), [100, 300, 200]);
        assert_eq!(count(TokenOptions { top_k: 2, ..plain }), [0, 360, 240]);
        let sharp = TokenOptions {
            temperature: 0.5,
            ..plain
        };
        // Squared and normalized: 1, 9 and 4 of 14.
        assert_eq!(count(sharp), [43, 386, 171]);
        let greedy = TokenOptions {
            temperature: 0.0,
            ..plain
        };
        assert_eq!(count(greedy), [0, 600, 0]);
    }
}
