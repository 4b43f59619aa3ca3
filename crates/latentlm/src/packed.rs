//! Packed documents as tensors: what the backbone reads, what the softmax head is asked.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::TokenAdapter;
use latentlm_core::ModalityAdapter;
use latentlm_core::sequence::Layout;

pub(crate) fn indices(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// All positions of a layout, `[1, T, D]`.
///
/// # Shapes
/// - `latents`: a modality's `[1, N, D]` each, embedded
pub(crate) fn embed(
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
pub(crate) fn surprise(
    token: &TokenAdapter,
    hidden: Tensor<2>,
    answers: Tensor<1, Int>,
) -> Tensor<1> {
    let logits = token.logits(hidden.unsqueeze_dim(0));
    let [_, count, vocabulary] = logits.dims();
    let log = log_softmax(logits.reshape([count, vocabulary]), 1);
    log.gather(1, answers.reshape([count, 1]))
        .neg()
        .reshape([count])
}
