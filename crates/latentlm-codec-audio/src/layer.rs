//! The layer that encoder and decoder have at each resolution.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{ConvLayerWeights, conv_layer};

use crate::config::AudioSigmaVaeConfig;
use crate::stream::Pass;

/// `x += gamma * depthwise(norm(x))`, `x += ffn_gamma * ffn(ffn_norm(x))` (reference
/// `VibeVoiceAcousticTokenizerConvNext1dLayer`).
#[derive(Module, Debug)]
pub struct ConvLayer {
    norm: RmsNorm,
    mixer: Conv1d,
    gamma: Param<Tensor<1>>,
    ffn_norm: RmsNorm,
    up: Linear,
    down: Linear,
    ffn_gamma: Param<Tensor<1>>,
    kernel_size: usize,
}

impl ConvLayer {
    /// A layer with new weights; `width` is its number of channels.
    pub(crate) fn new(config: &AudioSigmaVaeConfig, width: usize, device: &Device) -> Self {
        let norm = || {
            RmsNormConfig::new(width)
                .with_epsilon(config.norm_epsilon)
                .init(device)
        };
        let scale = || {
            Initializer::Constant {
                value: config.layer_scale,
            }
            .init([width], device)
        };
        let inner = config.ffn_expansion * width;
        Self {
            norm: norm(),
            mixer: Conv1dConfig::new(width, width, config.kernel_size)
                .with_groups(width)
                .init(device),
            gamma: scale(),
            ffn_norm: norm(),
            up: LinearConfig::new(width, inner).init(device),
            down: LinearConfig::new(inner, width).init(device),
            ffn_gamma: scale(),
            kernel_size: config.kernel_size,
        }
    }

    /// # Shapes
    /// - `x`: `[B, T, C]`
    /// - returns: `[B, T, C]`
    pub(crate) fn forward(&self, x: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<3> {
        // A stream remembers the layer's input and not what the norm makes of it: the norm of a frame is cheap.
        let past = pass.before(&x, self.kernel_size - 1);
        conv_layer(x, past, &self.weights())
    }

    fn weights(&self) -> ConvLayerWeights {
        ConvLayerWeights {
            norm: self.norm.gamma.val(),
            epsilon: self.norm.epsilon,
            filter: self.mixer.weight.val(),
            filter_bias: bias(&self.mixer.bias),
            gamma: self.gamma.val(),
            ffn_norm: self.ffn_norm.gamma.val(),
            ffn_epsilon: self.ffn_norm.epsilon,
            up: self.up.weight.val(),
            up_bias: bias(&self.up.bias),
            down: self.down.weight.val(),
            down_bias: bias(&self.down.bias),
            ffn_gamma: self.ffn_gamma.val(),
        }
    }
}

fn bias(bias: &Option<Param<Tensor<1>>>) -> Tensor<1> {
    let bias = bias.as_ref();
    bias.expect("every part of a layer is made with a bias")
        .val()
}
