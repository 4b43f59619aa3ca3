//! State of a stream between chunks of frames or latents.

use burn::tensor::Tensor;
use latentlm_core::stream::{Pass, Past};

/// State of an encoder between chunks, for one batch of clips. A new one stands for the start of a clip.
#[derive(Debug, Clone, Default)]
pub struct EncoderState(pub(crate) Progress);

/// State of a decoder between chunks, for one batch of clips. A new one stands for the start of a clip.
#[derive(Debug, Clone, Default)]
pub struct DecoderState {
    pub(crate) progress: Progress,
    pub(crate) shown: Shown,
}

/// What a decoder has shown of a clip.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    pub(crate) begun: bool,
    /// The first frame, `[B, C, H, W]`, where later ones are parts of it.
    pub(crate) first: Option<Tensor<4>>,
}

/// State of a network in a stream: what it needs of earlier groups. Its size does not depend on their number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    past: Past,
    begun: bool,
}

impl Progress {
    /// The place of the next chunk.
    pub(crate) fn next_chunk(&mut self) -> Chunk<'_> {
        let begins = !self.begun;
        self.begun = true;
        Chunk {
            begins,
            pass: Pass::chunk(&mut self.past),
        }
    }
}

/// The place of some groups in their clip.
pub(crate) struct Chunk<'a> {
    /// Whether the first group is the first frame of the clip.
    pub(crate) begins: bool,
    /// The groups before, for the mixing over time.
    pub(crate) pass: Pass<'a>,
}

impl Chunk<'_> {
    /// All groups of a clip.
    pub(crate) fn whole() -> Self {
        Self {
            begins: true,
            pass: Pass::Whole,
        }
    }
}
