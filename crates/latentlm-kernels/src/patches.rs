//! The network of a patch discriminator (PatchGAN, Isola et al. 2017), which codecs of pictures and of clips share.

use burn::nn::GroupNorm;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn::tensor::activation::leaky_relu;

use crate::{conv2d_layer, group_norm_layer};

/// Slope of the leaky ReLU for negative numbers.
const SLOPE: f64 = 0.2;

/// Logits for each region of pictures: convolutions with leaky ReLU and, from the second on, group norm, then a last
/// convolution. `norms` are those of the second and further layers.
///
/// # Shapes
/// - `pictures`: `[B, C, H, W]`
/// - returns: `[B, O, h, w]`
pub fn patch_logits(
    layers: &[Conv2d],
    norms: &[GroupNorm],
    output: &Conv2d,
    pictures: Tensor<4>,
) -> Tensor<4> {
    let mut x = pictures;
    for (i, layer) in layers.iter().enumerate() {
        x = conv2d_layer(layer, x);
        if let Some(norm) = i.checked_sub(1).and_then(|i| norms.get(i)) {
            x = group_norm_layer(norm, x);
        }
        x = leaky_relu(x, SLOPE);
    }
    conv2d_layer(output, x)
}

#[cfg(test)]
mod tests {
    use burn::module::{Param, ParamId};
    use burn::nn::GroupNormConfig;
    use burn::nn::conv::Conv2dConfig;
    use burn::tensor::Device;

    use super::*;

    /// A layer that multiplies each pixel.
    fn times(factor: f64, device: &Device) -> Conv2d {
        let config = Conv2dConfig::new([1, 1], [1, 1]).with_bias(false);
        let mut layer = config.init(device);
        let weight = Tensor::<4>::full([1, 1, 1, 1], factor, device);
        layer.weight = Param::initialized(ParamId::new(), weight);
        layer
    }

    #[test]
    fn logits_by_hand() {
        let device = Device::default();
        let layers = [times(2.0, &device), times(1.0, &device)];
        let norms = [GroupNormConfig::new(1, 1).init(&device)];
        let pictures = Tensor::<4>::from_floats([[[[1.0, -1.0]]]], &device);
        let logits = patch_logits(&layers, &norms, &times(3.0, &device), pictures);
        // 2 and -2 become 2 and -0.4, with a mean of 0.8 and a deviation of 1.2: the norm makes 1 and -1 of them, and
        // the ReLU 1 and -0.2.
        let expected = Tensor::<4>::from_floats([[[[3.0, -0.6]]]], &device);
        assert!(logits.all_close(expected, None, Some(1e-4)));
    }
}
