//! A block of a backbone over one long sequence.

use std::hint::black_box;

use burn::tensor::Tensor;
use latentlm::CausalBackbone;
use latentlm::backbone::TransformerConfig;
use latentlm::core::CausalBackboneConfig;

use crate::Unit;
use crate::inputs::Inputs;
use crate::sizes::AttentionSizes;

pub(super) fn config(sizes: AttentionSizes) -> TransformerConfig {
    TransformerConfig::new(sizes.width, 1, sizes.heads)
        .with_kv_heads(sizes.kv_heads)
        .with_mlp_ratio(sizes.mlp_ratio)
        .with_final_norm(false)
        .with_condition_layer(false)
}

/// Each unit is one pass forward and one backward, with gradients of the weights and of the input.
pub(super) fn step(sizes: AttentionSizes, mut inputs: Inputs) -> Unit {
    let block = config(sizes).init(&inputs.device);
    let x: Tensor<3> = inputs.normal([1, sizes.positions, sizes.width]);
    // As of a block that others stand before.
    let x = x.require_grad();
    Box::new(move || {
        let loss = block.forward(x.clone()).square().sum();
        black_box(loss.backward());
    })
}
