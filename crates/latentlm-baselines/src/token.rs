//! Sampling of a token from its logits, classifier-free guidance, and cross entropy.

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

/// Sampling options of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenOptions {
    /// Temperature of the softmax; 0 takes the most likely token.
    pub temperature: f64,
    /// Number of most likely tokens to sample from; 0 for all.
    pub top_k: usize,
    /// Scale of classifier-free guidance of the logits; 1 switches it off.
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

/// Samples from `softmax(logits / temperature)`, restricted to the `top_k` most likely tokens: the
/// token at which the cumulative probability, most likely tokens first, exceeds `number`, which is in
/// `[0, 1)`.
pub(crate) fn draw_token(logits: &[f32], options: &TokenOptions, number: f64) -> usize {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
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
        |token: &usize| (f64::from(logits[*token] - logits[best]) / options.temperature).exp();
    let mut left = number * order.iter().map(weight).sum::<f64>();
    for token in &order {
        left -= weight(token);
        if left < 0.0 {
            return *token;
        }
    }
    // Rounding may leave a small rest above the last token.
    best
}

/// The mean cross entropy of tokens.
///
/// # Shapes
/// - `logits`: `[B, T, V]`; `tokens`: `[B, T]`
/// - returns: `[1]`
pub(crate) fn cross_entropy(logits: Tensor<3>, tokens: Tensor<2, Int>) -> Tensor<1> {
    let [batch, length, vocabulary] = logits.dims();
    let rows = logits.reshape([batch * length, vocabulary]);
    latentlm_kernels::cross_entropy(rows, tokens.reshape([batch * length])).mean()
}

/// Classifier-free guidance of logits or latents: `null + scale * (cond - null)`. The first `batch` rows are
/// conditional; the null rows follow, or there are none and the conditional ones are returned as they are.
pub(crate) fn guide(predictions: Tensor<2>, batch: usize, scale: f64) -> Tensor<2> {
    if predictions.dims()[0] == batch {
        return predictions;
    }
    let cond = predictions.clone().narrow(0, 0, batch);
    let null = predictions.narrow(0, batch, batch);
    null.clone() + (cond - null).mul_scalar(scale)
}

/// Logits on the host, row by row.
pub(crate) fn host_logits(logits: Tensor<2>) -> Vec<f32> {
    let data = logits.into_data().convert::<f32>();
    data.try_into_vec().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits of probabilities 1/2, 1/3 and 1/6 of the tokens 1, 2 and 0.
    fn logits() -> [f32; 3] {
        [1.0f32, 3.0, 2.0].map(f32::ln)
    }

    #[test]
    fn tokens_are_as_frequent_as_the_softmax_says() {
        let count = |options: TokenOptions| {
            let mut counts = [0; 3];
            for i in 0..600 {
                let number = (f64::from(i) + 0.5) / 600.0;
                counts[draw_token(&logits(), &options, number)] += 1;
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
