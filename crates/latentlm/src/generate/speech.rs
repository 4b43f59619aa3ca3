//! Speech, latent by latent.

use burn::tensor::Tensor;
use latentlm_adapters::packed::indices;
use latentlm_core::{CausalBackbone, LatentHead, RandomStream, SampleOptions};

use super::options::GenerateOptions;
use super::prompt::{Piece, Prompt};
use super::steps::{Drawn, Generation};
use crate::model::LatentLm;
use crate::text_sampling::TextOptions;

/// A text to be spoken.
#[derive(Debug, Clone)]
pub struct SpeechPrompt {
    /// Tokens of the text; if there is a voice, the tokens of its text come first.
    pub text: Vec<u32>,
    /// Latents of a voice to continue with, `[P, Z]`, as its codec made them.
    pub voice: Option<Tensor<2>>,
    /// Seed of this text's noise: what is drawn does not depend on the others of the batch.
    pub seed: u64,
}

/// One latent for every text of a batch.
#[derive(Debug, Clone)]
pub struct SpeechFrame {
    /// `[B, 1, Z]`, as the codec decodes them (whitening undone).
    pub latents: Tensor<3>,
    /// Whether each latent belongs to a text that has not ended. Other latents are meaningless.
    pub sounding: Vec<bool>,
}

/// Speech that is being made. Latents come one at a time: the first can be decoded and played before the
/// second is drawn.
pub struct SpeechStream<'a, B: CausalBackbone, H> {
    model: &'a LatentLm<B, H>,
    pub(super) generation: Generation<'a, B, H>,
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<B, H> {
    /// Begins to speak. With guidance the batch is doubled: the second half has no text, but the same
    /// voice and the same latents. Prompts may differ in length.
    ///
    /// # Panics
    /// If there are no prompts or `max_frames` is 0.
    pub fn speak(
        &self,
        prompts: &[SpeechPrompt],
        max_frames: usize,
        options: SampleOptions,
    ) -> SpeechStream<'_, B, H> {
        assert!(!prompts.is_empty() && max_frames > 0, "nothing to say");
        let streams = prompts
            .iter()
            .map(|prompt| RandomStream::for_step(prompt.seed, "speech", 0));
        let prompts = prompts.iter().map(|prompt| Prompt {
            label: None,
            pieces: vec![Piece::Text(prompt.text.clone())],
            open: Some(0),
            begun: prompt.voice.clone(),
            seed: prompt.seed,
        });
        let prompts: Vec<Prompt> = prompts.collect();
        let options = GenerateOptions {
            text: TextOptions::GREEDY,
            sample: options,
            max_positions: max_frames,
        };
        SpeechStream {
            model: self,
            generation: Generation::new(self, &prompts, streams.collect(), options),
        }
    }
}

impl<B: CausalBackbone, H: LatentHead> SpeechStream<'_, B, H> {
    /// Whether a text's speech was stopped by the limit on frames and not by an `<EOD>`.
    pub fn was_cut(&self, text: usize) -> bool {
        self.generation.was_cut(text)
    }

    /// The next latent of every text; `None` when all have ended or the limit is reached.
    pub fn next_frame(&mut self) -> Option<SpeechFrame> {
        let drawn = self.generation.step()?.drawn.into_iter().next()?;
        let mut sounding = vec![false; self.generation.rows.len()];
        for &row in &drawn.rows {
            sounding[row] = true;
        }
        let latents = of_all(drawn, sounding.len()).unsqueeze_dim::<3>(1);
        Some(SpeechFrame {
            latents: self.model.latents[0].unwhiten(latents),
            sounding,
        })
    }
}

/// Latents of all rows of a batch, `[B, Z]`; zeros for rows without a new latent.
fn of_all(drawn: Drawn, batch: usize) -> Tensor<2> {
    let Drawn { rows, latents, .. } = drawn;
    if rows.len() == batch {
        return latents;
    }
    let device = latents.device();
    let silence = Tensor::zeros([1, latents.dims()[1]], &device);
    let mut places = vec![rows.len() as i64; batch];
    for (place, &row) in (0..).zip(&rows) {
        places[row] = place;
    }
    Tensor::cat(vec![latents, silence], 0).select(0, indices(&places, &device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LatentLmConfig;
    use crate::sizes::LmSizes;
    use burn::module::Module;
    use burn::tensor::Device;
    use latentlm_core::Sampler;
    use latentlm_core::conformance::{Stir, assert_close, seeded};
    use latentlm_core::sequence::{Document, UNTOLD};

    fn config(aligned: bool) -> LatentLmConfig {
        let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
        LatentLmConfig::speech(8, 4, aligned).with_sizes(sizes)
    }

    fn model(config: &LatentLmConfig, seed: u64, device: &Device) -> LatentLm {
        seeded(seed, device, |device| config.init(device))
    }

    fn stirred(mut model: LatentLm, seed: u64) -> LatentLm {
        let mut stir = Stir(RandomStream::for_step(seed, "stir", 0));
        model.tokens = model.tokens.map(|tokens| tokens.map(&mut stir));
        model.heads = model.heads.map(&mut stir);
        model
    }

    fn prompt(text: &[u32], voice: Option<Tensor<2>>, seed: u64) -> SpeechPrompt {
        SpeechPrompt {
            text: text.to_vec(),
            voice,
            seed,
        }
    }

    fn latents(model: &LatentLm, prompts: &[SpeechPrompt], sampler: Sampler) -> Vec<SpeechFrame> {
        let options = SampleOptions {
            sampler,
            steps: 4,
            guidance_scale: 2.0,
            ..Default::default()
        };
        let mut stream = model.speak(prompts, 5, options);
        std::iter::from_fn(|| stream.next_frame()).collect()
    }

    /// Texts of different lengths, one with a voice, drawn together and each alone, by a solver that
    /// draws noise at the beginning only and by one that does at every step, with many models: texts
    /// end at different times.
    #[test]
    fn a_text_does_not_hear_its_neighbours() {
        const MODELS: u64 = 40;
        let device = Device::default();
        let voice = RandomStream::new(3).normal([3, 4], &device);
        let prompts = [
            prompt(&[1, 2, 3, 4], None, 1),
            prompt(&[5], Some(voice), 2),
            prompt(&[], None, 3),
        ];
        let mut uneven = 0;
        for seed in 0..MODELS {
            let model = stirred(model(&config(false), seed, &device), seed);
            let sampler = if seed % 2 == 0 {
                Sampler::DpmSolverPlusPlus
            } else {
                Sampler::Ddpm
            };
            let together = latents(&model, &prompts, sampler);
            let mut lengths = Vec::new();
            for (row, prompt) in prompts.iter().enumerate() {
                let prompt = std::slice::from_ref(prompt);
                let alone = latents(&model, prompt, sampler);
                let sounding = together.iter().filter(|frame| frame.sounding[row]);
                assert_eq!(alone.len(), sounding.count(), "model {seed}, text {row}");
                lengths.push(alone.len());
                for (alone, together) in alone.iter().zip(&together) {
                    let within = together.latents.clone().narrow(0, row, 1);
                    let what = format!("latents of text {row}, model {seed}");
                    // Rounding, handed on from latent to latent; other noise is off by 1.
                    assert_close(&what, within, alone.latents.clone(), 1e-3);
                }
            }
            uneven += usize::from(lengths.iter().any(|length| *length != lengths[0]));
        }
        assert!(
            uneven >= 5,
            "only {uneven} models ended texts at different times"
        );
    }

    /// What is said, drawn latent by latent, is what the model names when it reads all of them at
    /// once, as in training; and it is read back. With several models: some end soon.
    #[test]
    fn what_is_said_is_read_as_in_training() {
        const MODELS: u64 = 12;
        let device = Device::default();
        let config = config(true);
        let mut told = 0;
        for seed in 0..MODELS {
            let model = model(&config, seed, &device);
            let more = model.control[0].more;
            let said = said_as_in_training(&model, &device);
            // Long enough for the order of things to matter, and not only silence.
            told += usize::from(said.len() >= 3 && said.iter().any(|token| *token != more));
        }
        assert!(
            told >= 3,
            "only {told} models said anything that could differ"
        );
    }

    /// Speaks a text, compares all that is read with what training would have read, and returns what
    /// was said.
    fn said_as_in_training(model: &LatentLm, device: &Device) -> Vec<u32> {
        let more = model.control[0].more;
        let text = vec![1, 2, 3];
        let options = SampleOptions {
            steps: 4,
            guidance_scale: 1.0,
            ..Default::default()
        };
        let mut stream = model.speak(&[prompt(&text, None, 1)], 6, options);
        let mut heard: Tensor<2> = Tensor::zeros([1, 4], device);
        let mut said = vec![more];
        while let Some(frame) = stream.next_frame() {
            // What comes last is not read yet: nothing looks ahead.
            let document = Document::of_speech(text.clone(), said.len(), said.clone());
            let hidden = model.hidden(&model.layout(&[document]), &[heard.clone()]);
            let last = hidden.narrow(0, text.len() + said.len() - 1, 1);
            let named = likeliest(model, last);
            assert_eq!(stream.generation.rows[0].said, named, "what is said next");
            let latents = frame.latents.clone().squeeze_dim(0);
            let expected = model.embed_latents(0, latents, &[named]);
            let input = stream.generation.branch.input.clone().squeeze_dim(0);
            assert_close("the next input", input, expected, 1e-5);
            let known = said.len() - 1;
            said[known] = named as u32;
            said.push(more);
            let before = heard.slice(0..known);
            let next = Tensor::zeros([1, 4], device);
            heard = Tensor::cat(vec![before, frame.latents.squeeze_dim(0), next], 0);
        }
        said.pop();
        said
    }

    /// A training document behind a prompt whose words nobody tells begins with the positions that speaking begins with:
    /// both texts, `<BOD>`, and latents that say nothing. So does one without text, which guidance reads.
    #[test]
    fn an_untold_prompt_is_read_as_in_training() {
        let device = Device::default();
        let model = stirred(model(&config(true), 1, &device), 1);
        let mut random = RandomStream::new(3);
        let [voice, own] = [3, 2].map(|count| random.normal::<2>([count, 4], &device));
        let text = vec![1, 2, 3];
        let options = SampleOptions {
            guidance_scale: 2.0,
            ..Default::default()
        };
        let stream = model.speak(&[prompt(&text, Some(voice.clone()), 1)], 6, options);
        let input = &stream.generation.branch.input; // [2, 7, D]
        let [with_text, without] =
            [0, 1].map(|row| input.clone().narrow(0, row, 1).squeeze_dim::<2>(0));
        let heard = model.latents[0].whiten(Tensor::cat(vec![voice, own], 0));
        let more = model.control[0].more;
        let said = vec![UNTOLD, UNTOLD, UNTOLD, more, 5];
        let trained = |document: Document| {
            let layout = model.layout(&[document]);
            model.embed(&layout, std::slice::from_ref(&heard))
        };
        let told = trained(Document::of_speech(text, 5, said)); // [9, D]
        assert_close("with text", with_text, told.narrow(0, 0, 7), 1e-6);
        let mute = trained(Document::of_speech(Vec::new(), 5, Vec::new())); // [6, D]
        // It is as long as the other: padded in front.
        assert_close(
            "dropped",
            without.narrow(0, 3, 4),
            mute.narrow(0, 0, 4),
            1e-6,
        );
    }

    /// The likeliest token but `<EOD>`.
    fn likeliest(model: &LatentLm, hidden: Tensor<2>) -> i64 {
        let logits = model.token_adapter().logits(hidden.unsqueeze_dim(0));
        let logits = logits.into_data().convert::<f32>();
        let logits: Vec<f32> = logits.try_into_vec().unwrap();
        let end = model.control[0].end as usize;
        let others = (0..logits.len()).filter(|token| *token != end);
        let likeliest = others.max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        likeliest.unwrap() as i64
    }

    #[test]
    fn the_limit_cuts() {
        let device = Device::default();
        let model = model(&config(false), 5, &device);
        let mut stream = model.speak(&[prompt(&[1], None, 1)], 2, SampleOptions::default());
        let count = std::iter::from_fn(|| stream.next_frame()).count();
        assert!(count <= 2);
        assert_eq!(stream.was_cut(0), count == 2);
    }
}
