//! Sounds as a codec takes them.

use burn::tensor::{Device, Tensor, TensorData};
use latentlm::LatentCodec;
use latentlm::codec_audio::Codec;
use latentlm::core::SignalLayout;

use crate::tensors::host_values;

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
        // A codec of sound has frames. A grid would count as one sample per latent.
        SignalLayout::Grid { .. } => 1,
    }
}
