//! The discriminator, which judges each region of a frame and how it has changed since the frame before.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use latentlm_core::{CodecDiscriminator, PatchSizes, Verdict};
use latentlm_kernels::patch_logits;

/// A patch discriminator (PatchGAN) over frames: convolutions that halve them, with leaky ReLU and, from the second
/// on, group norm. It reads each frame and its difference from the frame before, so that it sees motion without
/// convolutions over time.
#[derive(Module, Debug)]
pub struct FrameDiscriminator {
    layers: Vec<Conv2d>,
    norms: Vec<GroupNorm>,
    output: Conv2d,
}

impl FrameDiscriminator {
    /// A discriminator of frames with `channels` channels.
    pub(crate) fn new(channels: usize, sizes: PatchSizes, device: &Device) -> Self {
        let widths = sizes.widths();
        let inputs = [2 * channels].into_iter().chain(widths.iter().copied());
        Self {
            layers: inputs
                .zip(&widths)
                .map(|(input, output)| conv([input, *output], 4, 2, device))
                .collect(),
            norms: widths[1..]
                .iter()
                .map(|width| GroupNormConfig::new(PatchSizes::NORM_GROUPS, *width).init(device))
                .collect(),
            output: conv([widths[sizes.layers - 1], 1], 3, 1, device),
        }
    }

    /// Logits, which are positive where a clip looks real.
    ///
    /// # Shapes
    /// - `clips`: `[B, F, C, H, W]`
    /// - returns: `[B * F, 1, h, w]`
    pub fn forward(&self, clips: Tensor<5>) -> Tensor<4> {
        patch_logits(&self.layers, &self.norms, &self.output, with_changes(clips))
    }
}

impl CodecDiscriminator<5> for FrameDiscriminator {
    fn judge(&self, clips: Tensor<5>) -> Verdict {
        Verdict::of_one(self.forward(clips))
    }
}

/// A convolution of `[input, output]` channels with a pixel of zeros on each side.
fn conv(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
        .init(device)
}

/// Frames, and behind the channels of each its difference from the frame before: `[B, F, C, H, W]` to
/// `[B * F, 2 C, H, W]`. The first frame has not changed.
fn with_changes(clips: Tensor<5>) -> Tensor<4> {
    let [batch, frames, channels, height, width] = clips.dims();
    let mut before = vec![clips.clone().narrow(1, 0, 1)];
    if frames > 1 {
        before.push(clips.clone().narrow(1, 0, frames - 1));
    }
    let changes = clips.clone() - Tensor::cat(before, 1);
    Tensor::cat(vec![clips, changes], 2).reshape([batch * frames, 2 * channels, height, width])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_stand_behind_the_frames() {
        let device = Device::default();
        // Three frames of one pixel: 1, 4 and 2.
        let clip = Tensor::<1>::from_floats([1.0, 4.0, 2.0], &device).reshape([1, 3, 1, 1, 1]);
        let got = with_changes(clip.clone());
        assert_eq!(got.dims(), [3, 2, 1, 1]);
        let got: Vec<f32> = got.into_data().try_to_vec().unwrap();
        assert_eq!(got, [1.0, 0.0, 4.0, 3.0, 2.0, -2.0]);
        let picture = with_changes(clip.narrow(1, 1, 1));
        let got: Vec<f32> = picture.into_data().try_to_vec().unwrap();
        assert_eq!(got, [4.0, 0.0]);
    }
}
