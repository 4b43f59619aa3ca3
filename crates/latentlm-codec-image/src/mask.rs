//! Masking of patches while a codec learns (DeTok, arXiv 2507.15856): it has to restore what it does not see.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, TensorData};
use latentlm_core::RandomStream;

use crate::vit::{patchify, unpatchify};

/// The learned patch that stands for masked ones. It is made of pixels, so that every architecture can read it.
#[derive(Module, Debug)]
pub(crate) struct PatchMask {
    /// `[1, 1, C * P * P]`, in the order of [`patchify`].
    token: Param<Tensor<3>>,
    channels: usize,
    patch: usize,
}

impl PatchMask {
    pub(crate) fn new(channels: usize, patch: usize, device: &Device) -> Self {
        let small = Initializer::Normal {
            mean: 0.0,
            std: 0.02,
        };
        Self {
            token: small.init([1, 1, channels * patch * patch], device),
            channels,
            patch,
        }
    }

    /// Replaces masked patches. `masked` is `[B, T]`: 1 for masked patches, 0 for the others.
    pub(crate) fn forward(&self, pictures: Tensor<4>, masked: Tensor<2>) -> Tensor<4> {
        let patches = patchify(pictures, self.patch);
        let masked = masked.unsqueeze_dim::<3>(2);
        let seen = masked.clone().neg().add_scalar(1.0);
        let patches = patches * seen + self.token.val() * masked;
        unpatchify(patches, self.channels, self.patch)
    }
}

/// Draws which of `tokens` patches of each picture are masked, `[B, T]`. The share of masked patches of a
/// picture is uniform in `0..most`.
pub(crate) fn draw_mask(
    batch: usize,
    tokens: usize,
    most: f64,
    random: &mut RandomStream,
    device: &Device,
) -> Tensor<2> {
    let mut masked = Vec::with_capacity(batch * tokens);
    for _ in 0..batch {
        let share = most * random.uniform();
        masked.extend((0..tokens).map(|_| f32::from(random.chance(share))));
    }
    Tensor::from_data(TensorData::new(masked, [batch, tokens]), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::conformance::seeded;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Shares uniform in `0..0.7` have mean 0.35 and variance `0.7^2 / 12`; that of a picture's 16 patches is
    /// larger by the mean of `p (1 - p) / 16`.
    #[test]
    fn the_masked_share_is_uniform_up_to_the_key() {
        let (device, random) = (Device::default(), &mut RandomStream::new(1));
        let masked = values(draw_mask(20_000, 16, 0.7, random, &device));
        assert!(masked.iter().all(|&x| x == 0.0 || x == 1.0));
        let shares = masked.chunks(16).map(|own| own.iter().sum::<f32>() / 16.0);
        let shares: Vec<f64> = shares.map(f64::from).collect();
        let mean = shares.iter().sum::<f64>() / 20_000.0;
        let squares = shares.iter().map(|share| (share - mean).powi(2));
        let variance = squares.sum::<f64>() / 20_000.0;
        let of_share = 0.7 * 0.7 / 12.0;
        let expected = of_share + (0.35 - 0.7 * 0.7 / 3.0) / 16.0;
        // Four standard errors of 20,000 shares.
        assert!((mean - 0.35).abs() < 0.007, "{mean}");
        assert!((variance - expected).abs() < 0.002, "{variance} {expected}");
        let none = values(draw_mask(3, 16, 0.0, random, &device));
        assert_eq!(none, [0.0; 48]);
    }

    #[test]
    fn masked_patches_are_the_token_and_the_others_are_kept() {
        let device = Device::default();
        let mask = seeded(1, &device, |device| PatchMask::new(2, 2, device));
        let pictures = RandomStream::new(2).normal([2, 2, 4, 4], &device);
        let masked = [[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 1.0]];
        let result = mask.forward(pictures.clone(), Tensor::from_floats(masked, &device));
        let (result, token) = (values(patchify(result, 2)), values(mask.token.val()));
        let pictures = values(patchify(pictures, 2));
        for (place, masked) in masked.concat().into_iter().enumerate() {
            let own = place * 8..place * 8 + 8;
            let expected = if masked == 1.0 {
                &token[..]
            } else {
                &pictures[own.clone()]
            };
            assert_eq!(&result[own], expected, "patch {place}");
        }
    }
}
