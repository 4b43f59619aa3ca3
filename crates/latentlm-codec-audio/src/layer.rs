//! The layer that encoder and decoder have at each resolution.

use burn::module::{Initializer, Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig};
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{depthwise_conv, gelu, linear_layer, rms_norm};

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
        let normed = |norm: &RmsNorm, x| rms_norm(x, Some(norm.gamma.val()), norm.epsilon);
        let mixed = normed(&self.norm, x.clone());
        let past = pass.before(&mixed, self.kernel_size - 1);
        let mixed = depthwise_conv(mixed, past, self.mixer.weight.val(), self.bias());
        let x = x + mixed * self.gamma.val().unsqueeze();
        let fed = linear_layer(&self.up, normed(&self.ffn_norm, x.clone()));
        let fed = linear_layer(&self.down, gelu(fed));
        x + fed * self.ffn_gamma.val().unsqueeze()
    }

    /// Bias of the depthwise convolution.
    fn bias(&self) -> Tensor<1> {
        let bias = self.mixer.bias.as_ref();
        bias.expect("the mixer is made with a bias").val()
    }
}
