//! Packed documents as tensors: what a Transformer reads, what the softmax head is asked.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_core::sequence::Layout;
use latentlm_kernels::cross_entropy;

use crate::token::TokenAdapter;

/// Numbers of a [`Layout`] as a tensor.
pub fn indices(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// All positions of a layout, `[1, T, D]`.
///
/// # Shapes
/// - `latents`: a modality's `[1, N, D]` each, embedded
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

/// `-log p` of each answer, `[M]`.
///
/// # Shapes
/// - `hidden`: `[M, D]`; `answers`: `[M]`
pub fn surprise(token: &TokenAdapter, hidden: Tensor<2>, answers: Tensor<1, Int>) -> Tensor<1> {
    let logits = token.logits(hidden.unsqueeze_dim(0));
    let [_, count, vocabulary] = logits.dims();
    cross_entropy(logits.reshape([count, vocabulary]), answers)
}

/// The mean of the answers' surprises, each as heavy as its document: `sum(w x) / sum(w)`.
///
/// # Shapes
/// - `surprise`: `[M]`, of the layout's answers; `weights`: one a document
/// - returns: `[1]`
///
/// # Panics
/// If there are not as many weights as documents.
pub fn weighted_mean(surprise: Tensor<1>, layout: &Layout, weights: &[f64]) -> Tensor<1> {
    let each = layout.answer_weights(weights);
    if weights.windows(2).all(|pair| pair[0] == pair[1]) {
        return surprise.mean();
    }
    let total: f64 = each.iter().sum();
    let shares: Vec<f32> = each.iter().map(|weight| (weight / total) as f32).collect();
    let shares = TensorData::new(shares, [each.len()]);
    let shares = Tensor::<1>::from_data(shares, &surprise.device());
    (surprise * shares).sum()
}
