//! Encoder and decoder: layers at every resolution, resamplings between.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::AudioSigmaVaeConfig;
use crate::conv::{CausalConv1d, CausalConvTranspose1d};
use crate::layer::ConvLayer;
use crate::stream::{EncoderState, Pass};

fn layers(config: &AudioSigmaVaeConfig, downsamplings: usize, device: &Device) -> Vec<ConvLayer> {
    let width = config.width_at(downsamplings);
    (0..config.depths[downsamplings])
        .map(|_| ConvLayer::new(config, width, device))
        .collect()
}

fn run(layers: &[ConvLayer], x: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<3> {
    layers.iter().fold(x, |x, layer| layer.forward(x, pass))
}

/// A convolution to a coarser resolution, then layers.
#[derive(Module, Debug)]
struct Downsampling {
    conv: CausalConv1d,
    layers: Vec<ConvLayer>,
}

/// From sound to latents. VibeVoice's semantic tokenizer is this encoder, trained otherwise.
#[derive(Module, Debug)]
pub struct AudioEncoder {
    stem: CausalConv1d,
    layers: Vec<ConvLayer>,
    stages: Vec<Downsampling>,
    head: CausalConv1d,
    signal_rms: f64,
    frames_per_latent: usize,
    hop_samples: usize,
}

impl AudioEncoder {
    pub(crate) fn new(config: &AudioSigmaVaeConfig, device: &Device) -> Self {
        let stage = |(index, ratio): (usize, &usize)| Downsampling {
            conv: CausalConv1d::new(
                [config.width_at(index), config.width_at(index + 1)],
                2 * ratio,
                *ratio,
                device,
            ),
            layers: layers(config, index + 1, device),
        };
        let coarsest = config.width_at(config.ratios.len());
        let kernel = config.kernel_size;
        Self {
            stem: CausalConv1d::new([config.channels, config.width_at(0)], kernel, 1, device),
            layers: layers(config, 0, device),
            stages: config.ratios.iter().enumerate().map(stage).collect(),
            head: CausalConv1d::new([coarsest, config.frame_dim()], kernel, 1, device),
            signal_rms: config.signal_rms,
            frames_per_latent: config.frames_per_latent,
            hop_samples: config.hop_samples(),
        }
    }

    /// Latents of whole signals. Samples after the last whole hop are left out: in a causal encoder
    /// no latent depends on them.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, N]`
    /// - returns: `[B, N / hop, Z]`
    ///
    /// # Panics
    /// If the signal is shorter than one hop.
    pub fn forward(&self, signal: Tensor<3>) -> Tensor<3> {
        let samples = signal.dims()[2];
        let hop = self.hop_samples;
        assert!(
            samples >= hop,
            "a signal of {samples} samples has no latent; one takes {hop}"
        );
        let whole = signal.narrow(2, 0, samples - samples % hop);
        self.pass(whole, &mut Pass::Whole)
    }

    /// Latents of the next chunk of a stream, the same as [`forward`](Self::forward) gives there.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, k * hop]`
    /// - returns: `[B, k, Z]`
    ///
    /// # Panics
    /// If the chunk is no multiple of the hop.
    pub fn step(&self, signal: Tensor<3>, state: &mut EncoderState) -> Tensor<3> {
        let samples = signal.dims()[2];
        let hop = self.hop_samples;
        assert!(
            samples > 0 && samples.is_multiple_of(hop),
            "a chunk of {samples} samples is no multiple of the hop {hop}"
        );
        self.pass(signal, &mut Pass::chunk(&mut state.0))
    }

    fn pass(&self, signal: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<3> {
        let signal = level(signal, 1.0 / self.signal_rms).swap_dims(1, 2);
        let x = self.stem.forward(signal, pass); // [B, N, C]
        let mut x = run(&self.layers, x, pass);
        for stage in &self.stages {
            x = stage.conv.forward(x, pass);
            x = run(&stage.layers, x, pass);
        }
        let frames = self.head.forward(x, pass); // [B, T * frames_per_latent, Z / frames_per_latent]
        let [batch, length, dim] = frames.dims();
        let count = self.frames_per_latent;
        frames.reshape([batch, length / count, dim * count])
    }
}

/// A signal made louder or softer: weights of the outermost convolutions as large as all others, which
/// an optimizer's steps are in proportion to.
fn level(signal: Tensor<3>, factor: f64) -> Tensor<3> {
    match factor == 1.0 {
        true => signal,
        false => signal.mul_scalar(factor),
    }
}

/// A transposed convolution to a finer resolution, then layers.
#[derive(Module, Debug)]
struct Upsampling {
    conv: CausalConvTranspose1d,
    layers: Vec<ConvLayer>,
}

/// From latents to sound, the encoder's mirror.
#[derive(Module, Debug)]
pub struct AudioDecoder {
    stem: CausalConv1d,
    layers: Vec<ConvLayer>,
    stages: Vec<Upsampling>,
    head: CausalConv1d,
    signal_rms: f64,
    frames_per_latent: usize,
}

impl AudioDecoder {
    pub(crate) fn new(config: &AudioSigmaVaeConfig, device: &Device) -> Self {
        let stage = |(index, ratio): (usize, &usize)| Upsampling {
            conv: CausalConvTranspose1d::new(
                [config.width_at(index + 1), config.width_at(index)],
                *ratio,
                device,
            ),
            layers: layers(config, index, device),
        };
        let steps = config.ratios.len();
        let kernel = config.kernel_size;
        Self {
            stem: CausalConv1d::new(
                [config.frame_dim(), config.width_at(steps)],
                kernel,
                1,
                device,
            ),
            layers: layers(config, steps, device),
            stages: config.ratios.iter().enumerate().rev().map(stage).collect(),
            head: CausalConv1d::new([config.width_at(0), config.channels], kernel, 1, device),
            signal_rms: config.signal_rms,
            frames_per_latent: config.frames_per_latent,
        }
    }

    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, C, T * hop]`
    pub(crate) fn pass(&self, latents: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<3> {
        let [batch, length, dim] = latents.dims();
        let count = self.frames_per_latent;
        let frames = latents.reshape([batch, length * count, dim / count]);
        let x = self.stem.forward(frames, pass);
        let mut x = run(&self.layers, x, pass);
        for stage in &self.stages {
            x = stage.conv.forward(x, pass);
            x = run(&stage.layers, x, pass);
        }
        level(self.head.forward(x, pass).swap_dims(1, 2), self.signal_rms)
    }
}
