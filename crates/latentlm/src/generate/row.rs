//! Sequences under way.

use latentlm_core::RandomStream;
use latentlm_core::sequence::ControlTokens;

use super::prompt::Prompt;
use crate::model::DocumentTokens;
use crate::text_sampling::TextOptions;

/// The action of a sequence at its next position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Text,
    Latents,
    /// The last latent of a run of known length is read next, then `<EOD>`.
    Closing(usize),
    Done,
}

/// The next input of a sequence.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    Token(u32),
    /// One of all latents drawn last, in the order of runs.
    Latent(i64),
    /// Ignored, because the sequence has ended.
    Nothing,
}

/// A sequence.
pub(super) struct Row {
    pub(super) mode: Mode,
    pub(super) next: Next,
    pub(super) random: RandomStream,
    /// Prompt without condition for the next run.
    pub(super) null: Prompt,
    /// Latents of the current run so far, with those of the prompt.
    pub(super) latents: usize,
    /// The token that the next latent says.
    pub(super) said: i64,
    pub(super) cut: bool,
}

impl Row {
    /// A sequence that begins.
    pub(super) fn new(null: Prompt, random: RandomStream) -> Self {
        Self {
            mode: Mode::Text,
            next: Next::Nothing,
            random,
            null,
            latents: 0,
            said: 0,
            cut: false,
        }
    }

    /// Draws the next token; returns it.
    pub(super) fn write(
        &mut self,
        document: DocumentTokens,
        control: &[ControlTokens],
        options: &TextOptions,
        mut logits: Vec<f32>,
    ) -> u32 {
        logits[document.start as usize] = f32::NEG_INFINITY;
        for control in control {
            logits[control.end as usize] = f32::NEG_INFINITY;
            logits[control.more as usize] = f32::NEG_INFINITY;
        }
        let token = options.choose(&logits, &mut self.random);
        self.next = Next::Token(token);
        if token == document.stop {
            self.mode = Mode::Done;
        }
        token
    }

    /// Ends an open-ended run: a model that writes reads `<EOD>` and goes on.
    pub(super) fn end_open(&mut self, control: ControlTokens, writes: bool) {
        if writes {
            self.next = Next::Token(control.end);
            self.mode = Mode::Text;
        } else {
            self.next = Next::Nothing;
            self.mode = Mode::Done;
        }
    }
}

/// The likeliest token other than `excluded`; `None` if there is no other.
pub(super) fn likeliest_but(excluded: u32, logits: &[f32]) -> Option<u32> {
    let others = (0..logits.len()).filter(|token| *token != excluded as usize);
    let likeliest = others.max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    likeliest.map(|token| token as u32)
}
