//! How a dialogue is spoken: a loop of tokens, and a latent wherever the model chooses `audio`.
//!
//! Every script is a row of several caches: its own, one without condition, and with
//! [`Rules::guides_tokens`](crate::Rules::guides_tokens) one that reads tokens only. All caches of all scripts are
//! read as one batch, each with its own length, so that a script is spoken as if it were alone. Latents that are
//! drawn at the same step become sound as one batch too.

use std::mem::take;

use burn::tensor::Tensor;
use latentlm_adapters::packed::indices;
use latentlm_codec_audio::{DecoderState, EncoderState};
use latentlm_core::{LatentHead, RandomStream, StreamingCodec};

use super::VibeVoice;
use super::prompt::VibeVoicePrompt;
use super::row::Row;
use super::spoken::{
    End, FrameNoise, SpeakError, SpeakOptions, SpeakRequest, SpeechToken, SpokenFrame, SpokenStep,
};

/// Scripts that are being spoken.
#[derive(Debug)]
pub struct VibeVoiceStream<'a> {
    model: &'a VibeVoice,
    options: SpeakOptions,
    /// The softmax head of the four tokens, `[D, 4]`.
    head: Tensor<2>,
    /// Their embeddings, `[4, D]`.
    embeddings: Tensor<2>,
    rows: Vec<Row>,
}

impl VibeVoice {
    /// Begins to speak a script: reads the prompt. What follows comes step by step.
    ///
    /// # Shapes
    /// - `voices`: `[K, Z]`, as [`encode_voices`](Self::encode_voices) gives them
    ///
    /// # Errors
    /// If the prompt is longer than the limit on positions.
    ///
    /// # Panics
    /// If the prompt has places for more or fewer latents of voices.
    pub fn speak(
        &self,
        prompt: VibeVoicePrompt,
        voices: Option<Tensor<2>>,
        options: SpeakOptions,
        noise: FrameNoise,
    ) -> Result<VibeVoiceStream<'_>, SpeakError> {
        let request = SpeakRequest {
            prompt,
            voices,
            noise,
        };
        self.speak_all(vec![request], options)
    }

    /// Begins to speak several scripts as one batch, each as if it were alone.
    ///
    /// # Errors
    /// If a prompt is longer than the limit on positions.
    ///
    /// # Panics
    /// As [`speak`](Self::speak).
    pub fn speak_all(
        &self,
        requests: Vec<SpeakRequest>,
        options: SpeakOptions,
    ) -> Result<VibeVoiceStream<'_>, SpeakError> {
        let tokens = self.speech_tokens();
        let tokens = [tokens.start, tokens.stop, tokens.audio, tokens.end];
        let adapter = self.lm.token_adapter();
        let ids = indices(&tokens.map(i64::from), &self.lm.device());
        let mut rows = Vec::with_capacity(requests.len());
        for request in requests {
            rows.push(Row::new(self, request, &options)?);
        }
        Ok(VibeVoiceStream {
            model: self,
            options,
            head: adapter.head_of(&tokens),
            embeddings: adapter.embed(ids.unsqueeze_dim(0)).squeeze_dim(0),
            rows,
        })
    }

    /// Positions of a prompt, `[1, L, D]`.
    ///
    /// # Shapes
    /// - `voices`: `[K, Z]`, whitened
    ///
    /// # Panics
    /// If the prompt has places for more or fewer latents of voices.
    pub fn embed_prompt(&self, prompt: &VibeVoicePrompt, voices: Option<Tensor<2>>) -> Tensor<3> {
        let device = self.lm.device();
        let tokens: Vec<i64> = prompt
            .tokens
            .iter()
            .map(|token| i64::from(*token))
            .collect();
        let ids = indices(&tokens, &device).unsqueeze_dim(0);
        let embedded = self.lm.token_adapter().embed(ids); // [1, L, D]
        let given = voices.as_ref().map_or(0, |voices| voices.dims()[0]);
        let places = prompt.voice_positions.len();
        assert_eq!(
            given, places,
            "latents of voices for the places in a prompt"
        );
        let Some(voices) = voices else {
            return embedded;
        };
        let mut rows: Vec<i64> = (0..).take(tokens.len()).collect();
        for (frame, &place) in prompt.voice_positions.iter().enumerate() {
            rows[place] = (tokens.len() + frame) as i64;
        }
        let voices = self.lm.latents[0].embed(voices).unsqueeze_dim(0);
        Tensor::cat(vec![embedded, voices], 1).select(1, indices(&rows, &device))
    }
}

impl VibeVoiceStream<'_> {
    /// Says what a script chooses from its first step on, whatever the model prefers; it ends after that. A
    /// comparison of times needs a fixed number of frames.
    ///
    /// # Panics
    /// If there is no such script.
    pub fn force(&mut self, script: usize, tokens: Vec<SpeechToken>) {
        self.rows[script].forced = Some(tokens);
    }

    /// Why a script is spoken no further; `None` while it goes on.
    ///
    /// # Panics
    /// If there is no such script.
    pub fn end_of(&self, script: usize) -> Option<End> {
        self.rows[script].end
    }

    /// The next token of every script that goes on, and the sound of those that chose a latent. `None` when all
    /// have ended.
    pub fn next_step(&mut self) -> Option<Vec<SpokenStep>> {
        for row in &mut self.rows {
            row.stop_at_limits(&self.options);
        }
        if self.rows.iter().all(|row| row.end.is_some()) {
            return None;
        }
        let hidden = self.read();
        let mut steps = self.choose(&hidden);
        if let Some(latents) = self.draw(&steps) {
            let spoken = steps.iter_mut();
            let spoken = spoken.filter(|step| step.token == SpeechToken::Audio);
            self.hear(spoken.collect(), latents);
        }
        for step in &steps {
            let token = self.embeddings.clone().narrow(0, step.token as usize, 1);
            self.rows[step.script].go_on(step, token, self.options.rules);
        }
        Some(steps)
    }

    /// Caches of each script.
    fn branches(&self) -> usize {
        2 + usize::from(self.options.rules.guides_tokens)
    }

    /// Reads the next position into all caches of the scripts that go on. Returns the hidden states, `[R, D]`,
    /// those of a script's caches one after the other.
    fn read(&mut self) -> Tensor<2> {
        let mut inputs = Vec::new();
        let mut caches = Vec::new();
        for row in self.rows.iter_mut().filter(|row| row.end.is_none()) {
            inputs.extend([row.input.clone(), row.input.clone()]);
            caches.extend([&mut row.own, &mut row.null]);
            if let Some(tokens) = &mut row.tokens {
                inputs.push(row.token_input.clone());
                caches.push(tokens);
            }
        }
        for cache in &mut caches {
            cache.reserve(1, self.options.max_positions);
        }
        let backbone = &self.model.lm.backbone;
        backbone.step_rows(Tensor::cat(inputs, 0), &mut caches)
    }

    /// Chooses the tokens of the scripts that go on, and ends those that can't.
    fn choose(&mut self, hidden: &Tensor<2>) -> Vec<SpokenStep> {
        let branches = self.branches();
        let scores = self.scores(hidden);
        let going_on = self.rows.iter_mut().enumerate();
        let going_on = going_on.filter(|(_, row)| row.end.is_none());
        let mut steps = Vec::with_capacity(scores.len());
        for (place, ((script, row), scores)) in going_on.zip(scores).enumerate() {
            let branch = |index| hidden.clone().narrow(0, place * branches + index, 1);
            match row.choose(scores) {
                Ok(token) => steps.push(SpokenStep {
                    script,
                    token,
                    hidden: branch(0),
                    null_hidden: branch(1),
                    token_hidden: (branches > 2).then(|| branch(2)),
                    frame: None,
                }),
                Err(end) => row.end = Some(end),
            }
        }
        steps
    }

    /// Scores of the four tokens for each script that goes on.
    ///
    /// `transformers` guides logarithms of probabilities over the whole vocabulary. Their normalizers are the
    /// same for all tokens, so that logits choose the same.
    fn scores(&self, hidden: &Tensor<2>) -> Vec<[f32; 4]> {
        let head = self.head.clone().cast(hidden.dtype());
        let logits = hidden.clone().matmul(head);
        let logits = logits.into_data().convert::<f32>();
        let logits: &[f32] = logits.as_slice().expect("logits are numbers");
        let guidance = self.options.sample.guidance_scale as f32;
        let scores = logits.chunks(4 * self.branches()).map(|own| {
            let mut scores = [own[0], own[1], own[2], own[3]];
            if let Some(alone) = own.get(8..) {
                for (score, alone) in scores.iter_mut().zip(alone) {
                    *score = alone + guidance * (*score - alone);
                }
            }
            scores
        });
        scores.collect()
    }

    /// Draws the latents of the steps that chose one, `[N, Z]`.
    fn draw(&mut self, steps: &[SpokenStep]) -> Option<Tensor<2>> {
        let chosen = steps.iter().filter(|step| step.token == SpeechToken::Audio);
        let chosen: Vec<&SpokenStep> = chosen.collect();
        let device = chosen.first()?.hidden.device();
        let (lm, options) = (&self.model.lm, &self.options.sample);
        let head = lm.head_of(0);
        let hidden = chosen.iter().map(|step| step.hidden.clone());
        let null = chosen.iter().map(|step| step.null_hidden.clone());
        let condition = Tensor::cat(hidden.collect(), 0);
        let null = Tensor::cat(null.collect(), 0);
        let (mut noise, mut streams) = (Vec::new(), Vec::new());
        for (script, row) in self.rows.iter_mut().enumerate() {
            if chosen.iter().any(|step| step.script == script) {
                noise.push(row.noise(head.latent_dim(), &device));
                streams.push(&mut row.random);
            }
        }
        let noise = Tensor::cat(noise, 0);
        Some(RandomStream::of_rows(streams, |random| {
            head.sample(condition, Some(null), noise, options, random)
        }))
    }

    /// Adds the sound of latents, `[N, Z]`, to the steps that drew them, and what is read of it: one batch for
    /// all, which streams enter and leave as their scripts go on.
    fn hear(&mut self, steps: Vec<&mut SpokenStep>, latents: Tensor<2>) {
        let (model, count) = (self.model, steps.len());
        let (mut decoders, mut encoders) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for step in &steps {
            let row = &mut self.rows[step.script];
            decoders.push(take(&mut row.decoder));
            encoders.push(take(&mut row.semantic));
        }
        let mut decoder = DecoderState::join(decoders);
        let mut encoder = EncoderState::join(encoders);
        let adapter = &model.lm.latents[0];
        let decoder_latents = adapter.unwhiten(latents.clone());
        let frames = decoder_latents.clone().unsqueeze_dim(1); // [N, 1, Z]
        let sound = model.codec.decode_step(frames, &mut decoder); // [N, 1, H]
        let semantic = model.semantic.step(sound.clone(), &mut encoder);
        let semantic: Tensor<2> = semantic.squeeze_dim(1); // [N, Y]
        let sound: Tensor<2> = sound.squeeze_dim(1); // [N, H]
        let embedded =
            adapter.embed(latents.clone()) + model.semantic_connector.embed(semantic.clone());
        let states = decoder.split(count).into_iter().zip(encoder.split(count));
        for (place, (step, (decoder, encoder))) in steps.into_iter().zip(states).enumerate() {
            let row = &mut self.rows[step.script];
            (row.decoder, row.semantic) = (decoder, encoder);
            let own = |all: &Tensor<2>| all.clone().narrow(0, place, 1);
            step.frame = Some(SpokenFrame {
                latents: own(&latents),
                decoder_latents: own(&decoder_latents),
                sound: own(&sound),
                semantic: own(&semantic),
                embedded: own(&embedded),
            });
        }
    }
}
