//! How much a language model learned to read the text of held-out speech.

use burn::tensor::{Device, Tensor};
use latentlm::codec_audio::Codec;
use latentlm::sequence::Document;
use latentlm::{Batch, LatentCodec, LatentHead, LatentLm, Loss, RandomStream};
use latentlm_data::{Skipped, TextTokenizer};
use latentlm_pipelines::{SpeechData, hop_samples, signal};

use super::said::{Spoken, without_text};
use crate::stage::number;

/// Utterances that are measured.
const UTTERANCES: usize = 32;
/// Seed of noise and timesteps, the same at every measurement.
const SEED: u64 = 0;

/// Held-out utterances in one packed sequence.
pub struct HeldOut {
    documents: Vec<Document>,
    /// Means of the codec's posterior, `[N, Z]`.
    latents: Tensor<2>,
}

impl HeldOut {
    /// `None` if nothing can be measured. Recordings that are broken or whose text can't be encoded are
    /// listed.
    pub fn new(
        data: &mut SpeechData,
        codec: &Codec,
        tokenizer: &TextTokenizer,
        aligned: bool,
        device: &Device,
    ) -> Option<Self> {
        let (mut documents, mut latents) = (Vec::new(), Vec::new());
        let hop = hop_samples(codec);
        for utterance in data.held_out(UTTERANCES) {
            let sound = signal(utterance.samples, hop, device);
            let frames = sound.dims()[2] / hop;
            let words = utterance.words.filter(|_| aligned);
            match Spoken::of(&utterance.text, words.as_deref(), frames, hop, tokenizer) {
                Ok(spoken) => documents.push(spoken.document()),
                Err(error) => {
                    data.skipped.add(Skipped::of(&utterance.source, &error));
                    continue;
                }
            }
            let mean = codec.encode(sound).mode(); // [1, T, Z]
            let [_, frames, dim] = mean.dims();
            latents.push(mean.reshape([frames, dim]));
        }
        (!documents.is_empty()).then(|| Self {
            documents,
            latents: Tensor::cat(latents, 0),
        })
    }

    /// The denoising error with the texts and without, on the same noise, and the cross entropy of the tokens that
    /// the latents say. The difference of the first two shows how much the model uses the text: while it is 0, speech
    /// babbles in a clear voice.
    pub fn losses(&self, model: &LatentLm) -> [(&'static str, f64); 3] {
        let device = self.latents.device();
        let [count, _] = self.latents.dims();
        let mut random = RandomStream::for_step(SEED, "held-out", 0);
        let draws = model.head_of(0).draw(count, &mut random, &device);
        let latents = model.latents[0].whiten(self.latents.clone());
        let mute = self.documents.iter().map(without_text).collect();
        let [with_text, without] = [self.documents.clone(), mute].map(|documents| {
            let (latents, draws) = (vec![latents.clone()], vec![draws.clone()]);
            model.loss(Batch::new(documents, latents, draws))
        });
        let of_latents = |loss: &Loss| number(loss.diffusion[0].clone());
        [
            ("held_out_loss", of_latents(&with_text)),
            ("held_out_loss_without_text", of_latents(&without)),
            ("held_out_token_loss", number(with_text.token)),
        ]
    }
}
