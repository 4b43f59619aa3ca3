//! What the text tells a language model of the speech it has not heard.

use burn::tensor::{Device, Tensor};
use latentlm::codec_audio::Codec;
use latentlm::{LatentCodec, LatentHead, RandomStream, SpeechDocument, SpeechLm};
use latentlm_data::TextTokenizer;

use super::data::SpeechData;
use super::stage_codec::{hop_samples, signal};
use crate::error::TrainError;
use crate::stage::number;

/// Utterances that are measured.
const UTTERANCES: usize = 32;
/// Seed of noise and timesteps, the same at every measurement.
const SEED: u64 = 0;

/// Held-out utterances in one packed sequence.
pub(crate) struct HeldOut {
    documents: Vec<SpeechDocument>,
    /// Means of the codec's posterior, `[N, Z]`.
    latents: Tensor<2>,
}

impl HeldOut {
    /// # Errors
    /// If a text can't be encoded.
    pub(crate) fn new(
        data: &SpeechData,
        codec: &Codec,
        tokenizer: &TextTokenizer,
        device: &Device,
    ) -> Result<Option<Self>, TrainError> {
        let (mut documents, mut latents) = (Vec::new(), Vec::new());
        for (text, samples) in data.held_out(UTTERANCES) {
            let sound = signal(samples, hop_samples(codec), device);
            let mean = codec.encode(sound).mode(); // [1, T, Z]
            let [_, frames, dim] = mean.dims();
            documents.push(SpeechDocument {
                text: tokenizer.encode(&text)?,
                frames,
            });
            latents.push(mean.reshape([frames, dim]));
        }
        if documents.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            documents,
            latents: Tensor::cat(latents, 0),
        }))
    }

    /// The denoising error with the texts and without, on the same noise. Their difference is what
    /// the model hears of the text: as long as it is nothing, speech babbles in a clear voice.
    pub(crate) fn losses(&self, model: &SpeechLm) -> [(&'static str, f64); 2] {
        let device = self.latents.device();
        let [count, dim] = self.latents.dims();
        let mut random = RandomStream::for_step(SEED, "held-out", 0);
        let draws = model.head.draw(count, &mut random, &device);
        let latents = self.latents.clone().unsqueeze_dim(0);
        let latents = model.adapters.latent.whiten(latents).reshape([count, dim]);
        let mute = |document: &SpeechDocument| SpeechDocument {
            text: Vec::new(),
            ..*document
        };
        let mute: Vec<SpeechDocument> = self.documents.iter().map(mute).collect();
        let loss = |documents: &[SpeechDocument]| {
            let loss = model.loss(documents, latents.clone(), latents.clone(), draws.clone());
            number(loss.diffusion)
        };
        [
            ("held_out_loss", loss(&self.documents)),
            ("held_out_loss_without_text", loss(&mute)),
        ]
    }
}
