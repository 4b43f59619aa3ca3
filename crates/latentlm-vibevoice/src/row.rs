//! A script under way: its caches, its streams, and what it reads next.

use burn::tensor::{Device, Tensor};
use latentlm_backbone::KvCache;
use latentlm_codec_audio::{DecoderState, EncoderState};
use latentlm_core::{CausalBackbone, RandomStream};

use super::VibeVoice;
use super::rules::Rules;
use super::spoken::{
    End, FrameNoise, SpeakError, SpeakOptions, SpeakRequest, SpeechToken, SpokenStep,
};
use super::{PIECE_POSITIONS, read_positions};

/// Positions that a KV cache has room for at first, behind the prompt. It grows.
const ROOM: usize = 256;

/// A script under way.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) own: KvCache,
    /// Begins anew wherever speech starts, and reads a position only if a latent comes of it.
    pub(super) null: KvCache,
    /// Reads the embeddings of the chosen tokens, where the rules guide tokens.
    pub(super) tokens: Option<KvCache>,
    /// Next input of `own` and `null`, `[1, D]`.
    pub(super) input: Tensor<2>,
    /// Next input of `tokens`, `[1, D]`.
    pub(super) token_input: Tensor<2>,
    pub(super) decoder: DecoderState,
    pub(super) semantic: EncoderState,
    /// Given noise, `[F, Z]`.
    noise: Option<Tensor<2>>,
    pub(super) random: RandomStream,
    frames: usize,
    max_frames: usize,
    steps: usize,
    pub(super) forced: Option<Vec<SpeechToken>>,
    pub(super) end: Option<End>,
}

impl Row {
    /// Reads all of a prompt but its last position, which is read with the first step.
    pub(super) fn new(
        model: &VibeVoice,
        request: SpeakRequest,
        options: &SpeakOptions,
    ) -> Result<Self, SpeakError> {
        let SpeakRequest {
            prompt,
            voices,
            noise,
        } = request;
        let (positions, most) = (prompt.tokens.len(), options.max_positions);
        if positions > most {
            return Err(SpeakError::TooLong { positions, most });
        }
        let x = model.embed_prompt(&prompt, voices);
        let (backbone, device) = (&model.lm.backbone, x.device());
        let before = positions - 1;
        let mut own = backbone.init_state(1, (positions + ROOM).min(most), &device);
        if before > 0 {
            let prompt = x.clone().narrow(1, 0, before);
            read_positions(backbone, &prompt, &mut own, PIECE_POSITIONS);
        }
        let input: Tensor<2> = x.narrow(1, before, 1).squeeze_dim(1);
        let empty = || backbone.init_state(1, ROOM.min(most), &device);
        let (noise, random) = match noise {
            FrameNoise::Given(noise) => (Some(noise), RandomStream::new(0)),
            FrameNoise::Drawn(random) => (None, random),
        };
        let given = noise.as_ref().map_or(usize::MAX, |noise| noise.dims()[0]);
        Ok(Self {
            own,
            null: empty(),
            tokens: options.rules.guides_tokens.then(empty),
            token_input: input.clone(),
            input,
            decoder: DecoderState::default(),
            semantic: EncoderState::default(),
            noise,
            random,
            frames: 0,
            max_frames: options.max_frames.min(given),
            steps: 0,
            forced: None,
            end: None,
        })
    }

    pub(super) fn stop_at_limits(&mut self, options: &SpeakOptions) {
        if self.end.is_some() {
            return;
        }
        let forced = self.forced.as_ref();
        if forced.is_some_and(|tokens| self.steps >= tokens.len()) {
            self.end = Some(End::Forced);
        } else if self.steps >= options.max_steps {
            self.end = Some(End::Steps);
        } else if self.own.len() >= options.max_positions {
            self.end = Some(End::Positions);
        }
    }

    /// The token with the highest score, or why there is none.
    pub(super) fn choose(&self, scores: [f32; 4]) -> Result<SpeechToken, End> {
        if !scores.iter().all(|score| score.is_finite()) {
            return Err(End::NotFinite);
        }
        let mut best = 0;
        for (index, score) in scores.iter().enumerate() {
            if *score > scores[best] {
                best = index;
            }
        }
        let token = match &self.forced {
            Some(tokens) => tokens[self.steps],
            None => SpeechToken::ALL[best],
        };
        if token == SpeechToken::Audio && self.frames >= self.max_frames {
            return Err(End::Frames);
        }
        Ok(token)
    }

    /// Noise of the next latent, `[1, Z]`.
    pub(super) fn noise(&mut self, dim: usize, device: &Device) -> Tensor<2> {
        match &self.noise {
            Some(given) => given.clone().narrow(0, self.frames, 1),
            None => self.random.normal([1, dim], device),
        }
    }

    /// What follows from a step; `token` is the embedding of what was chosen, `[1, D]`.
    pub(super) fn go_on(&mut self, step: &SpokenStep, token: Tensor<2>, rules: Rules) {
        self.steps += 1;
        self.token_input = token.clone();
        if let Some(frame) = &step.frame {
            self.frames += 1;
            self.input = frame.embedded.clone();
            return;
        }
        self.input = token;
        self.null.truncate(self.null.len() - 1);
        match step.token {
            SpeechToken::Start => self.null.truncate(0),
            SpeechToken::Stop if rules.resets_at_stop => {
                self.decoder = DecoderState::default();
                self.semantic = EncoderState::default();
            }
            SpeechToken::End => self.end = Some(End::Spoken),
            SpeechToken::Stop | SpeechToken::Audio => {}
        }
    }
}
