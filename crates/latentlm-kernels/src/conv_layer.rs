//! The residual layer of a causal convolutional codec.

use burn::tensor::Tensor;

use crate::activation::gelu;
use crate::causal_conv::check_past;
use crate::depthwise::depthwise_conv;
use crate::linear::linear;
use crate::norm::rms_norm;
use crate::types::ConvLayerWeights;

/// `x += gamma * filter(norm(x))`, then `x += ffn_gamma * down(gelu(up(ffn_norm(x))))`, where `filter` is a depthwise
/// convolution. `past` has the frames of `x` before those given, if there are any to see (`K > 1`); without it they are
/// zeros. Projections may be bfloat16, int8 or int4 where [`linear()`](fn@crate::linear) keeps a float32 `x`.
///
/// # Shapes
/// - `x`: `[B, T, C]`; `past`: `[B, K - 1, C]`
/// - returns: `[B, T, C]`
///
/// # Panics
/// If sizes do not fit each other.
pub fn conv_layer(x: Tensor<3>, past: Option<Tensor<3>>, weights: &ConvLayerWeights) -> Tensor<3> {
    let [channels, _, taps] = weights.filter.dims();
    let width = x.dims()[2];
    assert_eq!(width, channels, "channels of the frames and of the filters");
    let [inputs, inner] = weights.up.dims();
    let sizes = [
        inputs,
        inner,
        weights.down.dims()[0],
        weights.down.dims()[1],
    ];
    assert_eq!(sizes, [width, inner, inner, width], "the projections");
    check_past(&x, &past, taps);
    #[cfg(feature = "cpu")]
    if let Some(y) = crate::cpu::conv_layer(&x, &past, weights) {
        return y;
    }
    composed(x, past, weights)
}

/// This operation as a composition of others.
pub(crate) fn composed(
    x: Tensor<3>,
    past: Option<Tensor<3>>,
    weights: &ConvLayerWeights,
) -> Tensor<3> {
    let ConvLayerWeights {
        norm,
        epsilon,
        filter,
        filter_bias,
        gamma,
        ffn_norm,
        ffn_epsilon,
        up,
        up_bias,
        down,
        down_bias,
        ffn_gamma,
    } = weights.clone();
    let normed = |x: Tensor<3>| rms_norm(x, Some(norm.clone()), epsilon);
    let mixed = depthwise_conv(normed(x.clone()), past.map(normed), filter, filter_bias);
    let x = x + mixed * gamma.unsqueeze();
    let fed = rms_norm(x.clone(), Some(ffn_norm), ffn_epsilon);
    let fed = linear(gelu(linear(fed, up, Some(up_bias))), down, Some(down_bias));
    x + fed * ffn_gamma.unsqueeze()
}
