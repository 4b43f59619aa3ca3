//! The codec of a run, by itself.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use latentlm::codec_audio::Codec;
use latentlm::{LatentCodec, core::SignalLayout};

use super::recipe::SpeechRecipe;
use super::stage_codec::{self, hop_samples, signal};
use crate::error::TrainError;
use crate::image::host_values;
use crate::run::RunFolder;

/// A trained codec: samples to latents and back.
#[derive(Debug)]
pub struct SpeechCodec {
    codec: Codec,
    device: Device,
}

impl SpeechCodec {
    /// Loads the codec of a run, with the averaged weights.
    ///
    /// # Errors
    /// If the folder is no run, has no checkpoint, or one that is damaged.
    pub fn from_run(path: &Path, device: &Device) -> Result<Self, TrainError> {
        let (run, _) = RunFolder::<SpeechRecipe>::open(path)?;
        Ok(Self {
            codec: stage_codec::load(&run, device)?,
            device: device.clone(),
        })
    }

    /// Samples a second.
    pub fn sample_rate_hz(&self) -> u32 {
        match self.codec.spec().layout {
            SignalLayout::Frames { sample_rate_hz, .. } => sample_rate_hz,
            SignalLayout::Grid { .. } => 0,
        }
    }

    /// `Z`, numbers a latent.
    pub fn latent_dim(&self) -> usize {
        self.codec.spec().dim
    }

    /// Latents of a sound, `[1, T, Z]`; silence is put behind it up to a whole latent.
    pub fn encode(&self, samples: Vec<f32>) -> Tensor<3> {
        let hop = hop_samples(&self.codec);
        self.codec.encode(signal(samples, hop, &self.device)).mode()
    }

    /// Samples of latents, `[1, T, Z]`.
    pub fn decode(&self, latents: Tensor<3>) -> Vec<f32> {
        host_values(self.codec.decode(latents))
    }

    /// A sound and what the codec makes of it, of one length.
    pub fn reconstruct(&self, samples: Vec<f32>) -> (Vec<f32>, Vec<f32>) {
        stage_codec::reconstruct(&self.codec, samples, &self.device)
    }
}
