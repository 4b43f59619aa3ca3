//! Speech as it is drawn: one latent after the other, for a batch of texts.

use burn::tensor::{Device, Int, Tensor, TensorData};
use latentlm_adapters::packed::indices;
use latentlm_core::{CausalBackbone, LatentHead, ModalityAdapter, RandomStream, SampleOptions};

use crate::draw::draw_latents;
use crate::model::LatentLm;
use crate::tts::TtsAdapters;

/// What is to be said.
#[derive(Debug, Clone)]
pub struct SpeechPrompt {
    /// Tokens of the text; where there is a voice, those of its text come first.
    pub text: Vec<u32>,
    /// Latents of a voice to go on with, `[P, Z]`, as its codec made them.
    pub voice: Option<Tensor<2>>,
    /// Seed of this text's noise: what is drawn does not depend on the others of the batch.
    pub seed: u64,
}

/// One latent for every text of a batch.
#[derive(Debug, Clone)]
pub struct SpeechFrame {
    /// `[B, 1, Z]`, as the codec decodes them (whitening undone).
    pub latents: Tensor<3>,
    /// Which of them belong to a text that has not ended. The others mean nothing.
    pub sounding: Vec<bool>,
}

/// Speech under way: texts, their KV cache, and what was heard last. Latents come one at a time, so
/// that the first can be decoded and played before the second is made.
#[derive(Debug)]
pub struct SpeechStream<'a, B: CausalBackbone, H> {
    model: &'a LatentLm<TtsAdapters, B, H>,
    options: SampleOptions,
    kv_cache: B::State,
    /// What the backbone sees next, `[R, T, D]`: the prompts, then one latent at a time.
    input: Tensor<3>,
    random: Vec<RandomStream>,
    sounding: Vec<bool>,
    frames: usize,
    max_frames: usize,
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<TtsAdapters, B, H> {
    /// Begins to speak. With guidance the batch is doubled: the second half has no text, the same
    /// voice and the same latents. Prompts of different lengths are filled up in front.
    ///
    /// # Panics
    /// If there are no prompts or `max_frames` is 0.
    pub fn speak(
        &self,
        prompts: &[SpeechPrompt],
        max_frames: usize,
        options: SampleOptions,
        device: &Device,
    ) -> SpeechStream<'_, B, H> {
        assert!(!prompts.is_empty() && max_frames > 0, "nothing to say");
        let mut rows: Vec<Tensor<3>> = prompts
            .iter()
            .map(|prompt| self.embed_prompt(&prompt.text, prompt.voice.as_ref(), device))
            .collect();
        if options.guidance_scale != 1.0 {
            let null = prompts.iter();
            rows.extend(null.map(|prompt| self.embed_prompt(&[], prompt.voice.as_ref(), device)));
        }
        let length = rows.iter().map(|row| row.dims()[1]).max().unwrap_or(0);
        let padding: Vec<usize> = rows.iter().map(|row| length - row.dims()[1]).collect();
        let padded = rows.into_iter().zip(&padding).map(|(row, &missing)| {
            if missing == 0 {
                return row;
            }
            let width = row.dims()[2];
            Tensor::cat(vec![Tensor::zeros([1, missing, width], device), row], 1)
        });
        SpeechStream {
            kv_cache: self
                .backbone
                .init_padded_state(&padding, length + max_frames, device),
            input: Tensor::cat(padded.collect(), 0),
            random: prompts
                .iter()
                .map(|prompt| RandomStream::for_step(prompt.seed, "speech", 0))
                .collect(),
            sounding: vec![true; prompts.len()],
            frames: 0,
            model: self,
            options,
            max_frames,
        }
    }

    /// Text, `<BOD>` and voice, `[1, T, D]`.
    fn embed_prompt(&self, text: &[u32], voice: Option<&Tensor<2>>, device: &Device) -> Tensor<3> {
        let begin = self.control_tokens().begin;
        let ids: Vec<i64> = text.iter().chain([&begin]).map(|&t| i64::from(t)).collect();
        let shape = [1, ids.len()];
        let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), device);
        let text = self.adapters.token.embed(tokens);
        let Some(voice) = voice else { return text };
        let latents = self.adapters.latent.whiten(voice.clone().unsqueeze_dim(0));
        let more = i64::from(self.control_tokens().more);
        let said = Tensor::full([1, voice.dims()[0]], more, device);
        Tensor::cat(vec![text, self.embed_latents(latents, said)], 1)
    }
}

impl<B: CausalBackbone, H: LatentHead> SpeechStream<'_, B, H> {
    /// Whether the text's speech ran into the limit instead of an `<EOD>`.
    pub fn was_cut(&self, text: usize) -> bool {
        self.sounding[text] && self.frames == self.max_frames
    }

    /// The next latent of every text; `None` when all have ended or the limit is reached.
    pub fn next_frame(&mut self) -> Option<SpeechFrame> {
        if self.frames == self.max_frames {
            return None;
        }
        let batch = self.sounding.len();
        let hidden = self
            .model
            .backbone
            .step(self.input.clone(), &mut self.kv_cache);
        let [rows, length, width] = hidden.dims();
        let hidden = hidden.narrow(1, length - 1, 1).reshape([rows, width]);
        let condition = hidden.clone().narrow(0, 0, batch);
        let said = self.listen(condition.clone());
        if !self.sounding.contains(&true) {
            return None;
        }
        let null = (rows > batch).then(|| hidden.narrow(0, batch, batch));
        let latents = self.draw(condition, null).unsqueeze_dim::<3>(1); // [B, 1, Z]
        self.input = self.read(latents.clone(), said, rows);
        self.frames += 1;
        Some(SpeechFrame {
            latents: self.model.adapters.latent.unwhiten(latents),
            sounding: self.sounding.clone(),
        })
    }

    /// What the backbone reads next, `[R, 1, D]`. Rows without text are not told what is said.
    ///
    /// # Shapes
    /// - `latents`: `[B, 1, Z]`, whitened; `said`: `B` tokens
    fn read(&self, latents: Tensor<3>, mut said: Vec<i64>, rows: usize) -> Tensor<3> {
        let batch = said.len();
        said.resize(rows, i64::from(self.model.control_tokens().more));
        let said = Tensor::from_data(TensorData::new(said, [rows, 1]), &latents.device());
        let latents = latents.repeat_dim(0, rows / batch);
        self.model.embed_latents(latents, said)
    }

    /// Texts whose `<EOD>` is likelier than anything else have ended. Returns what the others say
    /// next: the likeliest token but that.
    ///
    /// # Shapes
    /// - `hidden`: `[B, D]`
    fn listen(&mut self, hidden: Tensor<2>) -> Vec<i64> {
        let control = self.model.control_tokens();
        let logits = self.model.adapters.token.logits(hidden.unsqueeze_dim(1)); // [B, 1, V]
        let vocabulary = logits.dims()[2];
        let logits = logits.into_data().convert::<f32>();
        let logits: &[f32] = logits.as_slice().expect("logits are numbers");
        let mut said = Vec::with_capacity(self.sounding.len());
        for (sounding, logits) in self.sounding.iter_mut().zip(logits.chunks(vocabulary)) {
            let other = |token: &usize| *token != control.end as usize;
            let likeliest = (0..vocabulary).filter(other);
            let likeliest = likeliest.max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            let likeliest = likeliest.unwrap_or(control.more as usize);
            *sounding &= logits[control.end as usize] <= logits[likeliest];
            said.push(likeliest as i64);
        }
        said
    }

    /// Whitened latents, `[B, Z]`; zeros for texts that have ended, for which nothing is drawn.
    fn draw(&mut self, condition: Tensor<2>, null: Option<Tensor<2>>) -> Tensor<2> {
        let (device, batch) = (condition.device(), self.sounding.len());
        let sounding = (0..).zip(&self.sounding).filter(|(_, sounding)| **sounding);
        let sounding: Vec<i64> = sounding.map(|(row, _)| row).collect();
        let own = |x: Tensor<2>| x.select(0, indices(&sounding, &device));
        let streams = self.random.iter_mut().zip(&self.sounding);
        let streams = streams.filter(|(_, sounding)| **sounding);
        let streams = streams.map(|(random, _)| random).collect();
        let (condition, null) = (own(condition), null.map(own));
        let latents = draw_latents(&self.model.head, condition, null, &self.options, streams);
        if sounding.len() == batch {
            return latents;
        }
        let silence = Tensor::zeros([1, latents.dims()[1]], &device);
        let mut places = vec![sounding.len() as i64; batch];
        for (place, &row) in (0..).zip(&sounding) {
            places[row as usize] = place;
        }
        Tensor::cat(vec![latents, silence], 0).select(0, indices(&places, &device))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::LmSizes;
    use crate::stir::Stir;
    use crate::tts::{SpeechDocument, SpeechLm, SpeechLmConfig};
    use burn::module::Module;
    use latentlm_core::Sampler;
    use latentlm_core::conformance::{assert_close, seeded};

    fn config() -> SpeechLmConfig {
        let sizes = LmSizes::new().with_width(32).with_depth(2).with_heads(4);
        SpeechLmConfig::new(8, 4).with_sizes(sizes)
    }

    fn model(config: &SpeechLmConfig, seed: u64, device: &Device) -> SpeechLm {
        seeded(seed, device, |device| config.init(device))
    }

    fn stirred(mut model: SpeechLm, seed: u64) -> SpeechLm {
        let mut stir = Stir(RandomStream::for_step(seed, "stir", 0));
        model.adapters.token = model.adapters.token.map(&mut stir);
        model.head = model.head.map(&mut stir);
        model
    }

    fn prompt(text: &[u32], voice: Option<Tensor<2>>, seed: u64) -> SpeechPrompt {
        SpeechPrompt {
            text: text.to_vec(),
            voice,
            seed,
        }
    }

    fn latents(
        model: &SpeechLm,
        prompts: &[SpeechPrompt],
        sampler: Sampler,
        device: &Device,
    ) -> Vec<SpeechFrame> {
        let options = SampleOptions {
            sampler,
            steps: 4,
            guidance_scale: 2.0,
            ..Default::default()
        };
        let mut stream = model.speak(prompts, 5, options, device);
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
            let model = stirred(model(&config(), seed, &device), seed);
            let sampler = if seed % 2 == 0 {
                Sampler::DpmSolverPlusPlus
            } else {
                Sampler::Ddpm
            };
            let together = latents(&model, &prompts, sampler, &device);
            let mut lengths = Vec::new();
            for (row, prompt) in prompts.iter().enumerate() {
                let prompt = std::slice::from_ref(prompt);
                let alone = latents(&model, prompt, sampler, &device);
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
        let config = config().with_aligned(true);
        let mut told = 0;
        for seed in 0..MODELS {
            let model = model(&config, seed, &device);
            let more = model.control_tokens().more;
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
    fn said_as_in_training(model: &SpeechLm, device: &Device) -> Vec<u32> {
        let more = model.control_tokens().more;
        let text = vec![1, 2, 3];
        let options = SampleOptions {
            steps: 4,
            guidance_scale: 1.0,
            ..Default::default()
        };
        let mut stream = model.speak(&[prompt(&text, None, 1)], 6, options, device);
        let mut heard: Tensor<2> = Tensor::zeros([1, 4], device);
        let mut said = vec![more];
        while let Some(frame) = stream.next_frame() {
            // What comes last is not read yet: nothing looks ahead.
            let document = SpeechDocument {
                text: text.clone(),
                frames: said.len(),
                said: said.clone(),
            };
            let documents = [document];
            let hidden = model.hidden(&model.layout(&documents), &documents, heard.clone());
            let last = hidden.narrow(0, text.len() + said.len() - 1, 1);
            let named = stream.listen(last)[0];
            let embedded = Tensor::from_ints([[named]], device);
            let expected = model.embed_latents(frame.latents.clone(), embedded);
            assert_close("the next input", stream.input.clone(), expected, 1e-5);
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

    #[test]
    fn the_limit_cuts() {
        let device = Device::default();
        let model = model(&config(), 5, &device);
        let mut stream = model.speak(
            &[prompt(&[1], None, 1)],
            2,
            SampleOptions::default(),
            &device,
        );
        let count = std::iter::from_fn(|| stream.next_frame()).count();
        assert!(count <= 2);
        assert_eq!(stream.was_cut(0), count == 2);
    }
}
