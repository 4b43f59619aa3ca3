//! Discriminators on spectra of several window lengths (EnCodec's MS-STFT discriminator, Défossez
//! et al. 2022).

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{leaky_relu, relu};
use burn::tensor::{Device, Tensor};
use latentlm_core::CodecDiscriminator;
use latentlm_kernels::conv2d_layer;

use crate::spectrum::Stft;

/// Kernel size in time and frequency.
const KERNEL: [usize; 2] = [3, 9];
/// Slope of the leaky ReLU for negative numbers.
const SLOPE: f64 = 0.2;

/// Outputs of a discriminator: logits, which are positive for signals that it takes for real, and the
/// features of its layers. Both lists have one entry for each window length.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Logits, `[B, 1, F, bins]` each.
    pub logits: Vec<Tensor<4>>,
    /// Outputs of all layers, `[B, C, F, bins]` each.
    pub features: Vec<Vec<Tensor<4>>>,
}

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

    /// Judges signals.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, N]`; each channel is judged by itself
    pub fn forward(&self, signal: Tensor<3>) -> Verdict {
        let [batch, channels, samples] = signal.dims();
        let signal = signal.reshape([batch * channels, samples]);
        let each = self
            .scales
            .iter()
            .map(|scale| scale.forward(signal.clone()));
        let (logits, features) = each.unzip();
        Verdict { logits, features }
    }
}

impl CodecDiscriminator<3> for StftDiscriminator {
    /// The hinge loss, `(mean relu(1 - D(real)) + mean relu(1 + D(fake))) / 2`, averaged over window
    /// lengths.
    fn loss(&self, real: Tensor<3>, fake: Tensor<3>) -> Tensor<1> {
        let real = self.forward(real).logits;
        let fake = self.forward(fake.detach()).logits;
        mean(real.into_iter().zip(fake).map(|(real, fake)| {
            let real = relu(real.neg() + 1.0).mean();
            let fake = relu(fake + 1.0).mean();
            (real + fake).mul_scalar(0.5)
        }))
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

/// The mean of losses.
///
/// # Panics
/// If there are none.
pub(crate) fn mean(parts: impl ExactSizeIterator<Item = Tensor<1>>) -> Tensor<1> {
    let count = parts.len() as f64;
    parts
        .reduce(|sum, part| sum + part)
        .expect("a list that was validated is not empty")
        .div_scalar(count)
}
