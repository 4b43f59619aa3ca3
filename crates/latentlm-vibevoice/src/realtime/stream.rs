//! How a text is spoken while it arrives: a window of text is read, a window of latents is drawn, and so on.

use std::collections::VecDeque;

use burn::tensor::{Device, Tensor};
use latentlm_adapters::packed::indices;
use latentlm_backbone::{CacheNumbers, KvCache};
use latentlm_codec_audio::DecoderState;
use latentlm_core::{CausalBackbone, LatentHead, RandomStream, SampleOptions};
use latentlm_kernels::embedding;

use super::context::SavedContext;
use super::voice::{SavedVoice, VoiceError};
use super::{InputType, VibeVoiceRealtime};
use crate::{End, FrameNoise};

/// Tokens that are read at a time.
pub const TEXT_WINDOW: usize = 5;
/// Latents that are drawn before more text is read.
pub const SPEECH_WINDOW: usize = 6;
/// Positions that a KV cache has room for at first, behind the voice. It grows.
const ROOM: usize = 256;

/// How a text is spoken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RealtimeOptions {
    /// How latents are drawn.
    pub sample: SampleOptions,
    /// Latents at most.
    pub max_frames: usize,
    /// Number of latents to speak, even if the classifier would end earlier or later: to compare times.
    pub forced_frames: Option<usize>,
    /// Positions of a KV cache at most, those of the voice too: it bounds memory.
    pub max_positions: usize,
}

impl Default for RealtimeOptions {
    /// As the original repository speaks: guidance 1.5, 5 solver steps, 8192 positions.
    fn default() -> Self {
        Self {
            sample: SampleOptions {
                steps: 5,
                guidance_scale: 1.5,
                ..SampleOptions::default()
            },
            max_frames: usize::MAX,
            forced_frames: None,
            max_positions: 8192,
        }
    }
}

/// Result of a step.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // One at a time: nothing to save.
pub enum RealtimeStep {
    /// More text was read.
    Text(TextWindow),
    /// A latent was drawn.
    Frame(RealtimeFrame),
    /// Nothing: more text must come, or its end. The next step asks again.
    Waits,
}

/// Tokens that were read at once, `N` of them.
#[derive(Debug, Clone)]
pub struct TextWindow {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Output of the text model, `[N, D]`.
    pub text_hidden: Tensor<2>,
    /// Output of the speech model, `[N, D]`.
    pub speech_hidden: Tensor<2>,
}

/// A latent and its sound.
#[derive(Debug, Clone)]
pub struct RealtimeFrame {
    /// Condition of the diffusion head, `[1, D]`.
    pub condition: Tensor<2>,
    /// Condition of the unconditional prediction, `[1, D]`.
    pub null_condition: Tensor<2>,
    /// The latent as the head draws it, whitened, `[1, Z]`.
    pub latents: Tensor<2>,
    /// The latent as the decoder reads it, `[1, Z]`.
    pub decoder_latents: Tensor<2>,
    /// Samples, `[1, H]`.
    pub sound: Tensor<2>,
    /// Hidden state after the latent was read, `[1, D]`.
    pub hidden: Tensor<2>,
    /// Unconditional hidden state after the latent was read, `[1, D]`.
    pub null_hidden: Tensor<2>,
    /// Logit of the end of speech.
    pub stop: f32,
}

/// A text that is being spoken.
#[derive(Debug)]
pub struct RealtimeStream<'a> {
    model: &'a VibeVoiceRealtime,
    options: RealtimeOptions,
    text: KvCache,
    speech: KvCache,
    /// Reads latents and never text.
    null: KvCache,
    /// Last hidden states of `speech` and `null`, `[1, D]`.
    hidden: Tensor<2>,
    null_hidden: Tensor<2>,
    decoder: DecoderState,
    /// Given noise, `[F, Z]`.
    noise: Option<Tensor<2>>,
    random: RandomStream,
    /// Tokens that were not read yet.
    tokens: VecDeque<u32>,
    text_ended: bool,
    /// Latents that are left of the window.
    window: usize,
    frames: usize,
    max_frames: usize,
    end: Option<End>,
}

impl VibeVoiceRealtime {
    /// Begins to speak with a voice. Text comes by [`push`](RealtimeStream::push), sound step by step.
    ///
    /// # Errors
    /// If the voice is one of another model, or longer than the limit on positions.
    pub fn speak(
        &self,
        voice: &SavedVoice,
        options: RealtimeOptions,
        noise: FrameNoise,
    ) -> Result<RealtimeStream<'_>, VoiceError> {
        let most = options.max_positions;
        voice.check(self, most)?;
        let device = self.device();
        let (noise, random) = match noise {
            FrameNoise::Given(noise) => (Some(noise), RandomStream::new(0)),
            FrameNoise::Drawn(random) => (None, random),
        };
        let given = noise.as_ref().map_or(usize::MAX, |noise| noise.dims()[0]);
        let cache = |context: &SavedContext, numbers: CacheNumbers| {
            let capacity = (context.positions() + ROOM).min(most);
            context.cache(capacity, numbers, &device)
        };
        let (text, speech, null) = (voice.text(), voice.speech(), voice.null_speech());
        Ok(RealtimeStream {
            model: self,
            options,
            text: cache(text, self.text_lm.cache_numbers()),
            speech: cache(speech, self.speech_lm.cache_numbers()),
            null: cache(null, self.speech_lm.cache_numbers()),
            hidden: speech.last_hidden(&device),
            null_hidden: null.last_hidden(&device),
            decoder: DecoderState::default(),
            noise,
            random,
            tokens: VecDeque::new(),
            text_ended: false,
            window: 0,
            frames: 0,
            max_frames: options.max_frames.min(given),
            end: None,
        })
    }
}

impl RealtimeStream<'_> {
    /// Takes more of the text: tokens that can no longer change ([`RealtimeText`](super::RealtimeText)).
    ///
    /// # Panics
    /// If a token is not in the vocabulary, or the text has ended.
    pub fn push(&mut self, tokens: &[u32]) {
        assert!(!self.text_ended, "text behind its end");
        let vocabulary = self.model.vocabulary();
        for token in tokens {
            assert!(
                (*token as usize) < vocabulary,
                "token {token} of a vocabulary of {vocabulary}"
            );
        }
        self.tokens.extend(tokens);
    }

    /// Says that no more text comes: what is left is read, and spoken to its end.
    pub fn end_text(&mut self) {
        self.text_ended = true;
    }

    /// Why nothing more is spoken; `None` while it goes on.
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// The next step: a window of text is read, or a latent is drawn. `None` when all is said.
    ///
    /// Where a window of text may be read, and less than a whole one is there, the stream waits for more unless
    /// the text has ended. So it does not matter when text comes.
    pub fn next_step(&mut self) -> Option<RealtimeStep> {
        self.stop_at_limits();
        if self.end.is_some() {
            return None;
        }
        if self.window == 0 {
            if !self.text_ended && self.tokens.len() < TEXT_WINDOW {
                return Some(RealtimeStep::Waits);
            }
            let count = self.tokens.len().min(TEXT_WINDOW);
            if self.speech.len() + count >= self.options.max_positions {
                self.end = Some(End::Positions);
                return None;
            }
            self.window = SPEECH_WINDOW;
            if count > 0 {
                let tokens = self.tokens.drain(..count).collect();
                return Some(RealtimeStep::Text(self.read(tokens)));
            }
        }
        self.draw().map(RealtimeStep::Frame)
    }

    fn stop_at_limits(&mut self) {
        if self.end.is_some() {
            return;
        }
        let forced = self.options.forced_frames;
        if forced.is_some_and(|frames| self.frames >= frames) {
            self.end = Some(End::Forced);
        } else if self.frames >= self.max_frames {
            self.end = Some(End::Frames);
        } else if self.speech.len() >= self.options.max_positions {
            self.end = Some(End::Positions);
        }
    }

    /// Reads a window of text.
    fn read(&mut self, tokens: Vec<u32>) -> TextWindow {
        let (model, most) = (self.model, self.options.max_positions);
        let count = tokens.len();
        self.text.reserve(count, most);
        self.speech.reserve(count, most);
        let ids: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        let ids = indices(&ids, &model.device()).unsqueeze_dim(0);
        let embedded = embedding(model.table.weight.val(), ids);
        let text = model.text_lm.step(embedded, &mut self.text); // [1, N, D]
        let kind = model.input_type(InputType::Text).unsqueeze_dim::<3>(0);
        let speech = model.speech_lm.step(text.clone() + kind, &mut self.speech);
        let speech: Tensor<2> = speech.squeeze_dim(0); // [N, D]
        self.hidden = speech.clone().narrow(0, count - 1, 1);
        TextWindow {
            tokens,
            text_hidden: text.squeeze_dim(0),
            speech_hidden: speech,
        }
    }

    /// Draws a latent, and reads it with condition and without as one batch. `None` if its numbers are not
    /// finite.
    fn draw(&mut self) -> Option<RealtimeFrame> {
        let (model, most) = (self.model, self.options.max_positions);
        let (condition, null_condition) = (self.hidden.clone(), self.null_hidden.clone());
        let noise = self.noise(&condition.device());
        let latents = model.head.sample(
            condition.clone(),
            Some(null_condition.clone()),
            noise,
            &self.options.sample,
            &mut self.random,
        );
        let embedded = model.latents.embed(latents.clone()) + model.input_type(InputType::Speech);
        self.speech.reserve(1, most);
        self.null.reserve(1, most);
        let mut caches = [&mut self.speech, &mut self.null];
        let both = Tensor::cat(vec![embedded.clone(), embedded], 0);
        let both = model.speech_lm.step_rows(both, &mut caches); // [2, D]
        let hidden = both.clone().narrow(0, 0, 1);
        let null_hidden = both.narrow(0, 1, 1);
        let stop: f32 = model.stop.forward(hidden.clone()).into_scalar();
        // The classifier may make a number of what is none.
        let sum: f32 = hidden.clone().sum().into_scalar();
        if !stop.is_finite() || !sum.is_finite() {
            self.end = Some(End::NotFinite);
            return None;
        }
        let decoder_latents = model.latents.unwhiten(latents.clone());
        let frame = decoder_latents.clone().unsqueeze_dim(1); // [1, 1, Z]
        let sound = model.decoder.step(frame, &mut self.decoder); // [1, 1, H]
        self.hidden = hidden.clone();
        self.null_hidden = null_hidden.clone();
        self.frames += 1;
        self.window -= 1;
        // A probability above one half. The frame is heard.
        if stop > 0.0 && self.options.forced_frames.is_none() {
            self.end = Some(End::Spoken);
        }
        Some(RealtimeFrame {
            condition,
            null_condition,
            latents,
            decoder_latents,
            sound: sound.squeeze_dim(1),
            hidden,
            null_hidden,
            stop,
        })
    }

    /// Noise of the next latent, `[1, Z]`.
    fn noise(&mut self, device: &Device) -> Tensor<2> {
        match &self.noise {
            Some(given) => given.clone().narrow(0, self.frames, 1),
            None => {
                let shape = [1, self.model.head.latent_dim()];
                self.random.normal(shape, device)
            }
        }
    }
}
