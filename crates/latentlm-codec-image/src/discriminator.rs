//! The patch discriminator (PatchGAN), which judges each region of a picture by itself.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use latentlm_core::{CodecDiscriminator, PatchSizes, Verdict};
use latentlm_kernels::patch_logits;

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
    /// A discriminator of pictures with `channels` channels.
    pub(crate) fn new(channels: usize, sizes: PatchSizes, device: &Device) -> Self {
        let widths = sizes.widths();
        let inputs = [channels].into_iter().chain(widths.iter().copied());
        Self {
            layers: inputs
                .zip(&widths)
                .map(|(input, output)| conv_down(input, *output, device))
                .collect(),
            norms: widths[1..]
                .iter()
                .map(|width| GroupNormConfig::new(PatchSizes::NORM_GROUPS, *width).init(device))
                .collect(),
            output: Conv2dConfig::new([widths[sizes.layers - 1], 1], [3, 3])
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
        patch_logits(&self.layers, &self.norms, &self.output, pictures)
    }
}

impl CodecDiscriminator<4> for PatchDiscriminator {
    fn judge(&self, pictures: Tensor<4>) -> Verdict {
        Verdict::of_one(self.forward(pictures))
    }
}
