//! Discriminators on spectra of several window lengths (EnCodec's MS-STFT discriminator, Défossez
//! et al. 2022).

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::leaky_relu;
use burn::tensor::{Device, Tensor};
use latentlm_core::{CodecDiscriminator, Verdict};
use latentlm_kernels::conv2d_layer;

use crate::spectrum::Stft;

/// Kernel size in time and frequency.
const KERNEL: [usize; 2] = [3, 9];
/// Slope of the leaky ReLU for negative numbers.
const SLOPE: f64 = 0.2;

/// The discriminator: one network for each window length.
#[derive(Debug, Module)]
pub struct StftDiscriminator {
    scales: Vec<Scale>,
}

impl StftDiscriminator {
    /// A discriminator with `width` channels in each layer.
    pub(crate) fn new(windows: &[usize], width: usize, layers: usize, device: &Device) -> Self {
        Self {
            scales: windows
                .iter()
                .map(|n_fft| Scale::new(*n_fft, width, layers, device))
                .collect(),
        }
    }
}

impl CodecDiscriminator<3> for StftDiscriminator {
    /// Logits `[B * C, 1, F, bins]` and features `[B * C, width, F, bins]` of every window length, all layers of one
    /// before those of the next.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, N]`; each channel is judged by itself
    fn judge(&self, signal: Tensor<3>) -> Verdict {
        let [batch, channels, samples] = signal.dims();
        let signal = signal.reshape([batch * channels, samples]);
        let mut verdict = Verdict {
            logits: Vec::with_capacity(self.scales.len()),
            features: Vec::new(),
        };
        for scale in &self.scales {
            let (logits, features) = scale.forward(signal.clone());
            verdict.logits.push(logits);
            verdict.features.extend(features);
        }
        verdict
    }
}

/// Convolutions over the spectrum of one window length. Its real and imaginary parts are two channels.
#[derive(Debug, Module)]
struct Scale {
    stft: Stft,
    layers: Vec<Conv2d>,
    output: Conv2d,
}

impl Scale {
    fn new(n_fft: usize, width: usize, layers: usize, device: &Device) -> Self {
        Self {
            stft: Stft::new(n_fft, device),
            layers: (0..layers)
                .map(|index| Self::layer(index, width, device))
                .collect(),
            output: Conv2dConfig::new([width, 1], [3, 3])
                .with_padding(same([1, 1]))
                .init(device),
        }
    }

    /// Layer `index`: each sees a longer time than the one before, and frequency at half the resolution.
    fn layer(index: usize, width: usize, device: &Device) -> Conv2d {
        let input = if index == 0 { 2 } else { width };
        let dilation = if index < 2 { 1 } else { 1 << (index - 1) };
        let stride = if index == 0 { 1 } else { 2 };
        let [time, frequency] = KERNEL.map(|size| size / 2);
        Conv2dConfig::new([input, width], KERNEL)
            .with_stride([1, stride])
            .with_dilation([dilation, 1])
            .with_padding(same([time * dilation, frequency]))
            .init(device)
    }

    fn forward(&self, signal: Tensor<2>) -> (Tensor<4>, Vec<Tensor<4>>) {
        let [real, imaginary] = self.stft.forward(signal);
        let mut x = Tensor::stack::<4>(vec![real, imaginary], 1); // [B, 2, F, bins]
        let mut features = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            x = leaky_relu(conv2d_layer(layer, x), SLOPE);
            features.push(x.clone());
        }
        (conv2d_layer(&self.output, x), features)
    }
}

/// Padding that keeps the size.
fn same([time, frequency]: [usize; 2]) -> PaddingConfig2d {
    PaddingConfig2d::Explicit(time, frequency, time, frequency)
}
