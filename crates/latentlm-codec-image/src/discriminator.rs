//! The patch discriminator (PatchGAN), which judges each region of a picture by itself.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::{Device, Tensor};
use latentlm_core::CodecDiscriminator;
use latentlm_kernels::{conv2d_layer, group_norm_layer};

use crate::conv::conv_down;

/// Convolutions that halve the picture, with leaky ReLU and, from the second on, group norm. The last
/// convolution gives a logit for each position.
#[derive(Module, Debug)]
pub struct PatchDiscriminator {
    layers: Vec<Conv2d>,
    norms: Vec<GroupNorm>,
    output: Conv2d,
}

impl PatchDiscriminator {
    /// A discriminator. Its first layer has `width` channels, and each further one twice as many, up to eight
    /// times `width`.
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

    /// Logits, which are positive where a picture looks real.
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

impl CodecDiscriminator<4> for PatchDiscriminator {
    /// The hinge loss, `(mean relu(1 - D(real)) + mean relu(1 + D(fake))) / 2`.
    fn loss(&self, real: Tensor<4>, fake: Tensor<4>) -> Tensor<1> {
        let real = self.forward(real);
        let fake = self.forward(fake.detach());
        hinge(real, fake)
    }
}

/// The hinge loss of logits.
fn hinge(real: Tensor<4>, fake: Tensor<4>) -> Tensor<1> {
    let real = relu(real.neg() + 1.0).mean();
    let fake = relu(fake + 1.0).mean();
    (real + fake).mul_scalar(0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hinge_by_hand() {
        let device = Device::default();
        let logits = |values: [f32; 2]| Tensor::<4>::from_floats([[[values]]], &device);
        // relu(1 - 2) = 0, relu(1 - 0.5) = 0.5; relu(1 - 3) = 0, relu(1 + 1) = 2.
        let got = hinge(logits([2.0, 0.5]), logits([-3.0, 1.0])).into_scalar::<f32>();
        assert!((got - 0.5 * (0.25 + 1.0)).abs() < 1e-6, "{got}");
    }
}
