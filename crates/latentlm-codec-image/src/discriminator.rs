//! The patch discriminator (PatchGAN): a picture of logits, one for each neighbourhood.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Tensor};
use latentlm_kernels::{conv2d_layer, group_norm_layer};

use crate::conv::conv_down;

/// Halving convolutions with leaky ReLU, group norm from the second on, then one logit a position.
#[derive(Module, Debug)]
pub struct PatchDiscriminator {
    layers: Vec<Conv2d>,
    norms: Vec<GroupNorm>,
    output: Conv2d,
}

impl PatchDiscriminator {
    /// A discriminator whose first layer has `width` channels, each further one twice as many.
    pub(crate) fn new(channels: usize, width: usize, layers: usize, device: &Device) -> Self {
        let widths: Vec<usize> = (0..layers).map(|i| width << i.min(3)).collect();
        let inputs = [channels].into_iter().chain(widths.iter().copied());
        Self {
            layers: inputs
                .zip(&widths)
                .map(|(input, output)| conv_down(input, *output, device))
                .collect(),
            norms: widths[1..]
                .iter()
                .map(|width| GroupNormConfig::new(4, *width).init(device))
                .collect(),
            output: Conv2dConfig::new([widths[layers - 1], 1], [3, 3])
                .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                .init(device),
        }
    }

    /// Logits, positive for pictures taken to be real.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`
    /// - returns: `[B, 1, h, w]`
    pub fn forward(&self, pictures: Tensor<4>) -> Tensor<4> {
        let mut x = pictures;
        for (i, layer) in self.layers.iter().enumerate() {
            x = conv2d_layer(layer, x);
            if let Some(norm) = i.checked_sub(1).and_then(|i| self.norms.get(i)) {
                x = group_norm_layer(norm, x);
            }
            x = leaky_relu(x, 0.2);
        }
        conv2d_layer(&self.output, x)
    }
}
