//! The codec of a run, by itself, and sounds as a codec takes them.

use std::path::Path;

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm::codec_audio::Codec;
use latentlm::core::{LatentQuantizer, SignalLayout};
use latentlm::{LatentCodec, StreamingCodec};

use super::recipe::SpeechRecipe;
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::pipeline::codec_of;
use crate::tensors::host_values;

pub(super) type DecoderState = <Codec as StreamingCodec>::DecoderState;

/// Number of latents that are encoded or decoded at once, so that memory does not grow with the length of the
/// sound.
const CHUNK: usize = 64;

/// A trained codec: samples to latents and back.
#[derive(Debug)]
pub struct SpeechCodec {
    codec: Codec,
    device: Device,
    /// What a user should know about the checkpoint, one line each: see [`Checkpoint::notes`].
    pub notes: Vec<String>,
}

impl SpeechCodec {
    /// Loads the codec of a run, with the averaged weights.
    ///
    /// # Errors
    /// If the folder is no run, has no checkpoint, or one that is damaged.
    pub fn from_run(path: &Path, device: &Device) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::newest::<SpeechRecipe>(path, "codec")?, device)
    }

    /// Loads a checkpoint of the codec's stage.
    ///
    /// # Errors
    /// If a file is missing, damaged or of another shape.
    pub fn from_checkpoint(checkpoint: &Checkpoint, device: &Device) -> Result<Self> {
        Ok(Self {
            codec: codec_of::<SpeechRecipe>(checkpoint, device)?,
            device: device.clone(),
            notes: checkpoint.notes().to_vec(),
        })
    }

    /// Samples per second.
    pub fn sample_rate_hz(&self) -> u32 {
        match self.codec.spec().layout {
            SignalLayout::Frames { sample_rate_hz, .. } => sample_rate_hz,
            SignalLayout::Grid { .. } | SignalLayout::Video { .. } => 0,
        }
    }

    /// `Z`, numbers per latent.
    pub fn latent_dim(&self) -> usize {
        self.codec.spec().dim
    }

    /// The codebooks; `None` if latents are continuous.
    pub fn quantizer(&self) -> Option<&dyn LatentQuantizer> {
        self.codec.quantizer()
    }

    /// Codes of a sound, `[1, T, Q]`; silence is put behind it up to a whole latent. `None` without codebooks.
    pub fn encode_codes(&self, samples: &[f32]) -> Option<Tensor<3, Int>> {
        let quantizer = self.codec.quantizer()?;
        let parameters = parameters(&self.codec, samples, &self.device);
        let chunks = parameters.map(|chunk| quantizer.codes(chunk));
        Some(Tensor::cat(chunks.collect(), 1))
    }

    /// Samples of codes, `[1, T, K]` of the first `K` codebooks. `None` without codebooks.
    ///
    /// # Panics
    /// If the codes are of more codebooks than the codec has.
    pub fn decode_codes(&self, codes: Tensor<3, Int>) -> Option<Vec<f32>> {
        let quantizer = self.codec.quantizer()?;
        Some(self.decode(quantizer.latents(codes)))
    }

    /// Latents of a sound, `[1, T, Z]`; silence is put behind it up to a whole latent.
    pub fn encode(&self, samples: Vec<f32>) -> Tensor<3> {
        let chunks = encoded(&self.codec, &samples, &self.device);
        Tensor::cat(chunks.collect(), 1)
    }

    /// Samples of latents, `[1, T, Z]`.
    pub fn decode(&self, latents: Tensor<3>) -> Vec<f32> {
        decode(&self.codec, latents)
    }

    /// A sound and its reconstruction by the codec, of the same length.
    pub fn reconstruct(&self, samples: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        let mut state = DecoderState::default();
        let mut copy = Vec::with_capacity(samples.len());
        // As a stream: latents of an hour are never held at once, and a sound without samples has none.
        for latents in encoded(&self.codec, &samples, &self.device) {
            copy.extend(host_values(self.codec.decode_step(latents, &mut state)));
        }
        copy.truncate(samples.len());
        (samples, copy)
    }
}

/// Latents of a sound, `[1, k, Z]` at a time.
fn encoded(codec: &Codec, samples: &[f32], device: &Device) -> impl Iterator<Item = Tensor<3>> {
    let chunks = parameters(codec, samples, device);
    chunks.map(move |chunk| codec.posterior(chunk).mode())
}

/// What the encoder puts out for a sound, `[1, k, P]` at a time.
fn parameters(codec: &Codec, samples: &[f32], device: &Device) -> impl Iterator<Item = Tensor<3>> {
    let hop = hop_samples(codec);
    let mut state = <Codec as StreamingCodec>::EncoderState::default();
    // No sound at all has one latent, of silence.
    let samples: &[f32] = if samples.is_empty() { &[0.0] } else { samples };
    samples.chunks(CHUNK * hop).map(move |chunk| {
        let sound = signal(chunk.to_vec(), hop, device);
        codec.encode_parameters_step(sound, &mut state)
    })
}

/// Samples of latents, `[1, T, Z]`.
pub fn decode(codec: &Codec, latents: Tensor<3>) -> Vec<f32> {
    let frames = latents.dims()[1];
    let mut state = DecoderState::default();
    let mut samples = Vec::with_capacity(frames * hop_samples(codec));
    for start in (0..frames).step_by(CHUNK) {
        let chunk = latents.clone().narrow(1, start, CHUNK.min(frames - start));
        samples.extend(host_values(codec.decode_step(chunk, &mut state)));
    }
    samples
}

/// Samples as a batch of one, `[1, 1, N]`, silence behind them up to a whole latent.
pub fn signal(mut samples: Vec<f32>, hop_samples: usize, device: &Device) -> Tensor<3> {
    let whole = samples.len().next_multiple_of(hop_samples).max(hop_samples);
    samples.resize(whole, 0.0);
    Tensor::from_data(TensorData::new(samples, [1, 1, whole]), device)
}

/// A sound and its reconstruction by the codec, of the same length.
pub fn reconstruct(codec: &Codec, samples: Vec<f32>, device: &Device) -> (Vec<f32>, Vec<f32>) {
    let hop = hop_samples(codec);
    let latents = codec.encode(signal(samples.clone(), hop, device)).mode();
    let mut decoded = host_values(codec.decode(latents));
    decoded.truncate(samples.len());
    (samples, decoded)
}

/// Samples per latent.
pub fn hop_samples(codec: &impl LatentCodec<3>) -> usize {
    match codec.spec().layout {
        SignalLayout::Frames { hop_samples, .. } => hop_samples,
        // A codec of sound has frames. Other layouts would count as one sample per latent.
        SignalLayout::Grid { .. } | SignalLayout::Video { .. } => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use latentlm::codec_audio::{CodecConfig, QuantizerConfig};
    use latentlm::core::LatentCodecConfig;
    use latentlm::core::conformance::{assert_close, seeded};

    fn speech_codec(codec: Codec, device: &Device) -> SpeechCodec {
        SpeechCodec {
            codec,
            device: device.clone(),
            notes: Vec::new(),
        }
    }

    /// Three chunks, the last not whole, against the codec over all of it at once. What streaming and
    /// the whole differ by is float32's rounding of sums over other numbers of rows.
    #[test]
    fn chunks_are_the_whole() {
        let device = Device::default();
        let config = CodecConfig::new()
            .with_ratios(vec![2, 4])
            .with_depths(vec![1, 1, 1])
            .with_width(4)
            .with_latent_dim(6);
        let codec = seeded(1, &device, |device| config.init(device));
        let codec = speech_codec(codec, &device);
        let length = 8 * (2 * CHUNK + 20) - 3;
        let sound: Vec<f32> = (0..length).map(|i| 0.3 * (i as f32 * 0.37).sin()).collect();
        let whole = signal(sound.clone(), 8, &device);
        let latents = codec.codec.encode(whole).mode();
        assert_close(
            "latents",
            codec.encode(sound.clone()),
            latents.clone(),
            1e-5,
        );

        let expected = host_values(codec.codec.decode(latents.clone()));
        let largest_error = |got: &[f32], expected: &[f32]| {
            assert_eq!(got.len(), expected.len());
            let pairs = got.iter().zip(expected);
            pairs.fold(0.0_f32, |error, (a, b)| error.max((a - b).abs()))
        };
        let error = largest_error(&codec.decode(latents), &expected);
        assert!(error < 1e-5, "decoded: {error}");
        let (original, copy) = codec.reconstruct(sound.clone());
        assert_eq!(original, sound);
        let error = largest_error(&copy, &expected[..length]);
        assert!(error < 1e-5, "reconstructed: {error}");
    }

    /// Codes of three chunks decode to what the codec's own latents decode to.
    #[test]
    fn a_sound_goes_through_its_codes() {
        let device = Device::default();
        let quantizer = QuantizerConfig {
            codebooks: 2,
            entries: 5,
            ..QuantizerConfig::default()
        };
        let config = CodecConfig::new()
            .with_ratios(vec![2, 4])
            .with_depths(vec![1, 1, 1])
            .with_width(4)
            .with_latent_dim(6);
        let plain = seeded(1, &device, |device| config.init(device));
        assert!(
            speech_codec(plain, &device)
                .encode_codes(&[0.1; 9])
                .is_none()
        );
        let config = config.with_quantizer(quantizer);
        let codec = seeded(1, &device, |device| config.init(device));
        let codec = speech_codec(codec, &device);
        let sound: Vec<f32> = (0..8 * (2 * CHUNK + 3) - 1)
            .map(|i| 0.3 * (i as f32 * 0.37).sin())
            .collect();
        let codes = codec.encode_codes(&sound).unwrap();
        assert_eq!(codes.dims(), [1, 2 * CHUNK + 3, 2]);
        let decoded = codec.decode_codes(codes).unwrap();
        let latents = codec.encode(sound.clone());
        assert_eq!(decoded, codec.decode(latents));
        assert_eq!(decoded[..sound.len()], codec.reconstruct(sound.clone()).1);
    }

    #[test]
    fn no_sound_is_one_latent() {
        let device = Device::default();
        let config = CodecConfig::new()
            .with_ratios(vec![4])
            .with_depths(vec![1, 1])
            .with_width(4)
            .with_latent_dim(3);
        let codec = seeded(1, &device, |device| config.init(device));
        let codec = speech_codec(codec, &device);
        assert_eq!(codec.encode(Vec::new()).dims(), [1, 1, 3]);
        assert_eq!(codec.reconstruct(Vec::new()), (Vec::new(), Vec::new()));
    }
}
