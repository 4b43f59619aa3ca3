//! How an answer is written: the likeliest token, step by step.

use burn::tensor::Tensor;
use latentlm_adapters::packed::indices;
use latentlm_backbone::KvCache;
use latentlm_core::CausalBackbone;

use super::VibeVoiceAsr;
use super::error::AsrError;
use super::prompt::AsrPrompt;
use crate::{PIECE_POSITIONS, read_positions};

/// Positions that the KV cache has room for at first, behind the prompt. It grows.
const ROOM: usize = 256;

/// How an answer is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsrOptions {
    /// Tokens that end it, see [`AsrTokens`](super::AsrTokens).
    pub ends: Vec<u32>,
    /// Tokens that are written at most.
    pub max_tokens: usize,
    /// Positions of the KV cache at most: it grows as the answer does, and bounds memory.
    pub max_positions: usize,
}

/// Why an answer goes on no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsrEnd {
    /// The model has ended it.
    Written,
    /// The limit on tokens was reached.
    Tokens,
    /// The limit on positions was reached.
    Positions,
    /// The model's numbers are not finite: its weights are damaged.
    NotFinite,
}

/// A token of an answer, with what it was chosen by.
#[derive(Debug, Clone)]
pub struct AsrStep {
    /// The token; the last of an answer ends it and is no text.
    pub token: u32,
    /// Last hidden state, `[1, D]`.
    pub hidden: Tensor<2>,
    /// Logits of the vocabulary, `[1, V]`.
    pub logits: Tensor<2>,
}

/// An answer that is being written.
#[derive(Debug)]
pub struct AsrStream<'a> {
    model: &'a VibeVoiceAsr,
    options: AsrOptions,
    cache: KvCache,
    /// What is read next, `[1, T, D]`: the prompt, then a token.
    input: Tensor<3>,
    written: usize,
    end: Option<AsrEnd>,
}

impl VibeVoiceAsr {
    /// Begins an answer. The prompt is read with the first token.
    ///
    /// # Shapes
    /// - `sound`: `[F, D]`, [`embedded`](super::HeardSound::embedded) of the recording
    ///
    /// # Errors
    /// If the prompt leaves no room for an answer.
    ///
    /// # Panics
    /// If the prompt has places for more or fewer latents.
    pub fn transcribe(
        &self,
        prompt: &AsrPrompt,
        sound: Tensor<2>,
        options: AsrOptions,
    ) -> Result<AsrStream<'_>, AsrError> {
        prompt.check(options.max_positions)?;
        let room = (prompt.tokens.len() + ROOM).min(options.max_positions);
        Ok(AsrStream {
            model: self,
            cache: self.backbone.init_state(1, room, &self.device()),
            input: self.embed_prompt(prompt, sound),
            options,
            written: 0,
            end: None,
        })
    }

    /// Positions of a prompt, `[1, L, D]`.
    ///
    /// # Shapes
    /// - `sound`: `[F, D]`
    ///
    /// # Panics
    /// If the prompt has places for more or fewer latents.
    pub fn embed_prompt(&self, prompt: &AsrPrompt, sound: Tensor<2>) -> Tensor<3> {
        let (frames, given) = (prompt.sound.frames(), sound.dims()[0]);
        assert_eq!(given, frames, "latents for the places in a prompt");
        let (before, behind) = prompt.tokens.split_at(prompt.first_frame);
        let parts = vec![
            self.embed(before),
            sound.unsqueeze_dim(0),
            self.embed(&behind[frames..]),
        ];
        Tensor::cat(parts, 1)
    }

    /// Positions of tokens, `[1, T, D]`.
    fn embed(&self, tokens: &[u32]) -> Tensor<3> {
        let ids: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        let ids = indices(&ids, &self.device()).unsqueeze_dim(0);
        self.tokens.embed(ids)
    }
}

impl AsrStream<'_> {
    /// Why the answer goes on no further; `None` while it does.
    pub fn end(&self) -> Option<AsrEnd> {
        self.end
    }

    /// The next token; `None` when the answer has ended. The token that ends it comes too.
    pub fn next_token(&mut self) -> Option<AsrStep> {
        let further = self.input.dims()[1];
        let most = self.options.max_positions;
        if self.end.is_some() {
            return None;
        } else if self.written >= self.options.max_tokens {
            self.end = Some(AsrEnd::Tokens);
            return None;
        } else if self.cache.len() + further > most {
            self.end = Some(AsrEnd::Positions);
            return None;
        }
        self.cache.reserve(further, most);
        let backbone = &self.model.backbone;
        let hidden = read_positions(backbone, &self.input, &mut self.cache, PIECE_POSITIONS); // [1, 1, D]
        let logits: Tensor<2> = self.model.tokens.logits(hidden.clone()).squeeze_dim(1);
        let Some(token) = likeliest(&logits) else {
            self.end = Some(AsrEnd::NotFinite);
            return None;
        };
        self.written += 1;
        if self.options.ends.contains(&token) {
            self.end = Some(AsrEnd::Written);
        }
        self.input = self.model.embed(&[token]);
        Some(AsrStep {
            token,
            hidden: hidden.squeeze_dim(1),
            logits,
        })
    }
}

/// The token of the highest logit of `[1, V]`, the first of several; `None` if one is not finite.
fn likeliest(logits: &Tensor<2>) -> Option<u32> {
    let logits = logits.to_data().convert::<f32>();
    let logits = logits.as_slice::<f32>().ok()?;
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if !logit.is_finite() {
            return None;
        }
        if *logit > logits[best] {
            best = index;
        }
    }
    u32::try_from(best).ok()
}
