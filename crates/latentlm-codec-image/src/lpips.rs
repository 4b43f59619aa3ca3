//! The perceptual distance LPIPS (Zhang et al. 2018, arXiv 1801.03924) on VGG16 features.
//!
//! Its weights (59 MB) are not part of this crate. They are loaded from a safetensors file, which these lines
//! write with the Python packages `torch`, `lpips` and `safetensors`:
//!
//! ```python
//! import lpips, safetensors.torch
//! net = lpips.LPIPS(net="vgg")
//! convs = [m for s in range(1, 6) for m in getattr(net.net, f"slice{s}") if hasattr(m, "weight")]
//! out = {f"convs.{i}.{k}": v for i, m in enumerate(convs) for k, v in m.state_dict().items()}
//! out |= {f"lins.{i}": net.lins[i].model[1].weight.reshape(-1) for i in range(5)}
//! safetensors.torch.save_file({k: v.contiguous() for k, v in out.items()}, "lpips.safetensors")
//! ```

use std::path::Path;

use burn::module::{Initializer, Module, Param};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::relu;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Tensor};
use latentlm_core::bundle::load_module;
use latentlm_kernels::conv2d_layer;

use crate::error::CodecError;

/// Channels of VGG16's thirteen convolutions, in the five stages whose outputs LPIPS compares.
const STAGES: [&[usize]; 5] = [
    &[64, 64],
    &[128, 128],
    &[256, 256, 256],
    &[512, 512, 512],
    &[512, 512, 512],
];
/// Mean of ImageNet's pictures in [-1, 1], as in LPIPS.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
/// Standard deviation of ImageNet's pictures in [-1, 1], as in LPIPS.
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// The distance network. Its weights are fixed.
#[derive(Module, Debug)]
pub struct Lpips {
    convs: Vec<Conv2d>,
    lins: Vec<Param<Tensor<1>>>,
}

impl Lpips {
    /// A network with random weights, for tests and to load weights into.
    pub(crate) fn new(device: &Device) -> Self {
        let outputs: Vec<usize> = STAGES.concat();
        let inputs = [3].into_iter().chain(outputs.iter().copied());
        Self {
            convs: inputs
                .zip(&outputs)
                .map(|(input, output)| {
                    Conv2dConfig::new([input, *output], [3, 3])
                        .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                        .init(device)
                })
                .collect(),
            lins: STAGES
                .iter()
                .map(|stage| {
                    let width = stage[stage.len() - 1];
                    Initializer::Uniform { min: 0.0, max: 1.0 }.init([width], device)
                })
                .collect(),
        }
    }

    /// Loads the weights (see the module's documentation for how to make them).
    ///
    /// # Errors
    /// If the file can't be read, or a tensor is missing, unknown or of the wrong shape.
    pub fn load(path: &Path, device: &Device) -> Result<Self, CodecError> {
        Ok(load_module(Self::new(device), path)?.no_grad())
    }

    /// The distance of two pictures, averaged over the batch. Grey pictures become three equal channels.
    ///
    /// # Shapes
    /// - `a`, `b`: `[B, 1 or 3, H, W]`, in `[-1, 1]`, 16 pixels a side or more
    /// - returns: `[1]`
    pub fn forward(&self, a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
        let (mut a, mut b) = (scaled(a), scaled(b));
        let mut distance = Tensor::zeros([1], &a.device());
        let mut convs = self.convs.iter();
        for (i, (stage, lin)) in STAGES.iter().zip(&self.lins).enumerate() {
            if i > 0 {
                (a, b) = (pool(a), pool(b));
            }
            for conv in convs.by_ref().take(stage.len()) {
                a = relu(conv2d_layer(conv, a));
                b = relu(conv2d_layer(conv, b));
            }
            let difference = (unit(a.clone()) - unit(b.clone())).square();
            let weight = lin.val().reshape([1, -1, 1, 1]);
            let [_, width, _, _] = difference.dims();
            // Mean over pictures and positions, weighted sum over channels.
            let stage = (difference * weight).mean().mul_scalar(width as f64);
            distance = distance + stage;
        }
        distance
    }
}

/// Pictures with three channels, scaled to ImageNet's mean and standard deviation.
fn scaled(x: Tensor<4>) -> Tensor<4> {
    let device = x.device();
    let row = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
    let x = if x.dims()[1] == 1 {
        x.repeat_dim(1, 3)
    } else {
        x
    };
    (x - row(SHIFT)) / row(SCALE)
}

/// Halves a picture: the largest of each 2 x 2 pixels.
fn pool(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([2, 2]))
}

/// Scales the channels of each position to length 1.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let norm = x.clone().square().sum_dim(1).sqrt();
    x / (norm + 1e-10)
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm_core::RandomStream;
    use latentlm_core::conformance::seeded;

    #[test]
    fn is_a_distance() {
        let device = Device::default();
        let lpips = seeded(1, &device, Lpips::new);
        let mut random = RandomStream::new(1);
        let a = random.normal([1, 1, 16, 16], &device);
        let b = random.normal([1, 1, 16, 16], &device);
        let of =
            |a: &Tensor<4>, b: &Tensor<4>| lpips.forward(a.clone(), b.clone()).into_scalar::<f32>();
        assert_eq!(of(&a, &a), 0.0);
        assert!(of(&a, &b) > 0.0);
        assert!((of(&a, &b) - of(&b, &a)).abs() < 1e-6);
    }

    #[test]
    fn weights_load_by_path_and_a_wrong_file_is_named() {
        let device = Device::default();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lpips.safetensors");
        let lpips = seeded(1, &device, Lpips::new);
        latentlm_core::bundle::save_module(&lpips, &path).unwrap();
        let loaded = Lpips::load(&path, &device).unwrap();
        let x = RandomStream::new(1).normal([1, 3, 16, 16], &device);
        let y = RandomStream::new(2).normal([1, 3, 16, 16], &device);
        let (a, b) = (lpips.forward(x.clone(), y.clone()), loaded.forward(x, y));
        assert_eq!(a.into_data(), b.into_data());
        let missing = Lpips::load(&dir.path().join("none"), &device).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
    }
}
