//! Packed documents as tensors: the input embeddings of the Transformer, and the cross entropy of its
//! softmax head. In shapes, `N` is the number of latents and `M` the number of predicted tokens.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_core::sequence::Layout;
use latentlm_kernels::cross_entropy;

use crate::token::TokenAdapter;

pub use crate::token::indices;

/// The embeddings of all positions of a layout.
///
/// # Shapes
/// - `latents`: embedded latents of each modality, `[1, N, D]`
/// - returns: `[1, T, D]`
pub fn embed(
    token: &TokenAdapter,
    layout: &Layout,
    latents: Vec<Tensor<3>>,
    device: &Device,
) -> Tensor<3> {
    let tokens = indices(&layout.tokens, device).unsqueeze_dim(0);
    let mut embedded = vec![token.embed(tokens)];
    embedded.extend(latents);
    Tensor::cat(embedded, 1).select(1, indices(&layout.rows, device))
}

/// Cross entropy of each target token, in nats: `-log p`.
///
/// # Shapes
/// - `hidden`: `[M, D]`, hidden states; `answers`: `[M]`, target tokens
/// - returns: `[M]`
pub fn surprise(token: &TokenAdapter, hidden: Tensor<2>, answers: Tensor<1, Int>) -> Tensor<1> {
    let logits = token.logits(hidden.unsqueeze_dim(0));
    let [_, count, vocabulary] = logits.dims();
    cross_entropy(logits.reshape([count, vocabulary]), answers)
}

/// Weighted mean of the cross entropies, `sum(w x) / sum(w)`. A token has the weight of its document.
///
/// # Shapes
/// - `surprise`: `[M]`, cross entropy of each of the layout's target tokens
/// - `weights`: one for each document
/// - returns: `[1]`
///
/// # Panics
/// If there are not as many weights as documents.
pub fn weighted_mean(surprise: Tensor<1>, layout: &Layout, weights: &[f64]) -> Tensor<1> {
    let token_weights = layout.answer_weights(weights);
    if weights.windows(2).all(|pair| pair[0] == pair[1]) {
        return surprise.mean();
    }
    let total: f64 = token_weights.iter().sum();
    let normalized: Vec<f32> = token_weights
        .iter()
        .map(|weight| (weight / total) as f32)
        .collect();
    let normalized = TensorData::new(normalized, [token_weights.len()]);
    let normalized = Tensor::<1>::from_data(normalized, &surprise.device());
    (surprise * normalized).sum()
}
