//! Encoder and decoder: layers at each resolution, with a convolution between that changes the resolution.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use crate::config::AudioSigmaVaeConfig;
use crate::conv::{CausalConv1d, CausalConvTranspose1d, filled};
use crate::layer::ConvLayer;
use crate::stream::{DecoderState, EncoderState, Pass};

/// Fewest numbers of a codec's matrix that is kept in bfloat16 where weights are. Smaller ones, those of up to 128
/// channels at VibeVoice's sizes, stay float32: they have less than a percent of the numbers, and products with them have
/// hundreds of rows a latent, which would all be rounded to bfloat16.
pub const LEAST_BF16_NUMBERS: usize = 1 << 17;

/// The layers after a number of downsamplings.
fn layers(config: &AudioSigmaVaeConfig, downsamplings: usize, device: &Device) -> Vec<ConvLayer> {
    let width = config.width_at(downsamplings);
    (0..config.depths[downsamplings])
        .map(|_| ConvLayer::new(config, width, device))
        .collect()
}

/// Applies layers one after the other.
fn run(layers: &[ConvLayer], x: Tensor<3>, pass: &mut Pass<'_>) -> Tensor<3> {
    layers.iter().fold(x, |x, layer| layer.forward(x, pass))
}

/// A convolution to a coarser resolution, then layers.
#[derive(Module, Debug)]
struct Downsampling {
    conv: CausalConv1d,
    layers: Vec<ConvLayer>,
}

impl Downsampling {
    /// The step from resolution `index`, counted from the finest, to the next coarser one.
    fn new(config: &AudioSigmaVaeConfig, index: usize, device: &Device) -> Self {
        let ratio = config.ratios[index];
        let (fine, coarse) = (config.width_at(index), config.width_at(index + 1));
        Self {
            conv: CausalConv1d::new(fine, coarse, 2 * ratio, ratio, device),
            layers: layers(config, index + 1, device),
        }
    }
}

/// The encoder, from sound to latents. VibeVoice's semantic tokenizer is this encoder with other weights.
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

impl AudioSigmaVaeConfig {
    /// Builds the encoder alone: VibeVoice's semantic tokenizer is one.
    ///
    /// # Panics
    /// If [`validate`](latentlm_core::PartConfig::validate) fails.
    pub fn init_encoder(&self, device: &Device) -> AudioEncoder {
        self.assert_valid();
        AudioEncoder::new(self, device)
    }

    /// Builds the decoder alone: a model that only speaks has no encoder.
    ///
    /// # Panics
    /// If [`validate`](latentlm_core::PartConfig::validate) fails.
    pub fn init_decoder(&self, device: &Device) -> AudioDecoder {
        self.assert_valid();
        AudioDecoder::new(self, device)
    }
}

impl AudioEncoder {
    /// An encoder with new weights. The configuration must be valid.
    pub(crate) fn new(config: &AudioSigmaVaeConfig, device: &Device) -> Self {
        let coarsest = config.width_at(config.ratios.len());
        let kernel = config.kernel_size;
        Self {
            stem: CausalConv1d::new(config.channels, config.width_at(0), kernel, 1, device),
            layers: layers(config, 0, device),
            stages: (0..config.ratios.len())
                .map(|index| Downsampling::new(config, index, device))
                .collect(),
            head: CausalConv1d::new(coarsest, config.frame_dim(), kernel, 1, device),
            signal_rms: config.signal_rms,
            frames_per_latent: config.frames_per_latent,
            hop_samples: config.hop_samples(),
        }
    }

    /// Latents of whole signals. Samples after the last whole hop are ignored: in a causal encoder no
    /// latent depends on them.
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

    /// Latents of whole signals to their end. In the original repository every convolution with a stride pads
    /// its own input with zeros. That is not the same as silence after the signal: if the last hop is not whole,
    /// its latent differs.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, N]`
    /// - returns: `[B, ceil(N / hop), Z]`
    pub fn forward_to_end(&self, signal: Tensor<3>) -> Tensor<3> {
        self.pass(signal, &mut Pass::Whole)
    }

    /// Latents of the next chunk of a stream. They are the same as those that [`forward`](Self::forward)
    /// computes from the whole signal.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, k * hop]`
    /// - returns: `[B, k, Z]`
    ///
    /// # Panics
    /// If the chunk is not a multiple of the hop.
    pub fn step(&self, signal: Tensor<3>, state: &mut EncoderState) -> Tensor<3> {
        let samples = signal.dims()[2];
        let hop = self.hop_samples;
        assert!(
            samples > 0 && samples.is_multiple_of(hop),
            "a chunk of {samples} samples is no multiple of the hop {hop}"
        );
        self.pass(signal, &mut Pass::chunk(&mut state.0))
    }

    /// Latents of the next chunk of a stream. Only the last chunk may end within a hop: every convolution
    /// with a stride pads it as [`forward_to_end`](Self::forward_to_end) does.
    ///
    /// # Shapes
    /// - `signal`: `[B, C, N]`
    /// - returns: `[B, ceil(N / hop), Z]`
    pub fn step_to_end(&self, signal: Tensor<3>, state: &mut EncoderState) -> Tensor<3> {
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
        let count = self.frames_per_latent;
        let frames = filled(frames, count);
        let [batch, length, dim] = frames.dims();
        frames.reshape([batch, length / count, dim * count])
    }
}

/// A signal times a factor, which brings it to unit level or back. If the weights of the outermost
/// convolutions contained the factor, they would be small, and the optimizer's steps, which do not depend on
/// the size of weights, would be too large for them (docs/log.md, 2026-11-24).
fn level(signal: Tensor<3>, factor: f64) -> Tensor<3> {
    if factor == 1.0 {
        signal
    } else {
        signal.mul_scalar(factor)
    }
}

/// A transposed convolution to a finer resolution, then layers.
#[derive(Module, Debug)]
struct Upsampling {
    conv: CausalConvTranspose1d,
    layers: Vec<ConvLayer>,
}

impl Upsampling {
    /// The step to resolution `index`, counted from the finest, from the next coarser one.
    fn new(config: &AudioSigmaVaeConfig, index: usize, device: &Device) -> Self {
        let (fine, coarse) = (config.width_at(index), config.width_at(index + 1));
        Self {
            conv: CausalConvTranspose1d::new(coarse, fine, config.ratios[index], device),
            layers: layers(config, index, device),
        }
    }
}

/// The decoder, from latents to sound: the encoder's layers in reverse order.
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
        let steps = config.ratios.len();
        let kernel = config.kernel_size;
        Self {
            stem: CausalConv1d::new(
                config.frame_dim(),
                config.width_at(steps),
                kernel,
                1,
                device,
            ),
            layers: layers(config, steps, device),
            stages: (0..config.ratios.len())
                .rev()
                .map(|index| Upsampling::new(config, index, device))
                .collect(),
            head: CausalConv1d::new(config.width_at(0), config.channels, kernel, 1, device),
            signal_rms: config.signal_rms,
            frames_per_latent: config.frames_per_latent,
        }
    }

    /// Sound of the next latents of a stream.
    ///
    /// # Shapes
    /// - `latents`: `[B, T, Z]`
    /// - returns: `[B, C, T * hop]`
    pub fn step(&self, latents: Tensor<3>, state: &mut DecoderState) -> Tensor<3> {
        self.pass(latents, &mut Pass::chunk(&mut state.0))
    }

    /// Sound of latents: whole signals, or the next chunk of a stream.
    ///
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
