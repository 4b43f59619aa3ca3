//! Packed documents as tensors: what a Transformer reads, what the softmax head is asked.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_core::ModalityAdapter;
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
