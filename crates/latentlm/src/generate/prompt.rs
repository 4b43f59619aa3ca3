//! Beginnings of sequences, and how the backbone reads them.

use burn::tensor::Tensor;
use latentlm_adapters::packed::indices;
use latentlm_core::sequence::{Document, Segment};
use latentlm_core::{CausalBackbone, LatentHead};

use crate::model::LatentLm;

/// A piece of a prompt or a continuation.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "a tensor is a handle: a prompt has a few"
)]
pub enum Piece {
    /// Tokens of text.
    Text(Vec<u32>),
    /// Latents as their codec makes and decodes them, `[T, Z]`.
    Latents {
        /// Their modality.
        modality: usize,
        /// `[T, Z]`
        latents: Tensor<2>,
    },
}

/// The beginning of a sequence that is to be continued.
#[derive(Debug, Clone, Default)]
pub struct Prompt {
    /// The class that it begins with, in a model that reads labels.
    pub label: Option<u32>,
    /// In the order in which they are read; the tokens around them are added.
    pub pieces: Vec<Piece>,
    /// The modality whose latents come next; `None` leaves the next token to the softmax head.
    pub open: Option<usize>,
    /// The first of these latents if they are given (a voice to continue with), as their codec makes
    /// them, `[P, Z]`.
    pub begun: Option<Tensor<2>>,
    /// Seed of this prompt's noise: the result does not depend on the other prompts of the batch.
    pub seed: u64,
}

impl Prompt {
    /// The prompt without condition that guidance leads away from: null label, no pieces. Latents of a
    /// begun run stay.
    pub(super) fn null<B: CausalBackbone, H: LatentHead>(&self, model: &LatentLm<B, H>) -> Self {
        Self {
            label: self.label.map(|_| model.label_adapter().null_class()),
            pieces: Vec::new(),
            ..self.clone()
        }
    }

    fn document<B: CausalBackbone, H: LatentHead>(&self, model: &LatentLm<B, H>) -> Document {
        let text = |tokens: Vec<u32>| Segment::Text {
            tokens,
            learned: false,
        };
        let latents = |modality, frames| Segment::Latents {
            modality,
            frames,
            open_ended: false,
            said: Vec::new(),
            learned: false,
        };
        let mut segments = Vec::with_capacity(self.pieces.len() + 3);
        segments.extend(model.document.map(|tokens| text(vec![tokens.start])));
        segments.extend(self.label.map(|class| Segment::Label { class }));
        segments.extend(self.pieces.iter().map(|piece| match piece {
            Piece::Text(tokens) => text(tokens.clone()),
            Piece::Latents {
                modality,
                latents: given,
            } => latents(*modality, given.dims()[0]),
        }));
        let reads_tokens = model.tokens.is_some();
        let given = self.begun.as_ref().map(|given| given.dims()[0]);
        segments.push(match (self.open, given) {
            (Some(modality), Some(frames)) if reads_tokens => latents(modality, frames),
            (Some(modality), Some(frames)) => Segment::Bare {
                modality,
                frames,
                learned: false,
            },
            (Some(modality), None) if reads_tokens => text(vec![model.control[modality].begin]),
            // A layout ends latents with `<EOD>` only if another segment follows, be it empty.
            _ => text(Vec::new()),
        });
        Document { segments }
    }

    /// Latents of a modality that are given, in their order.
    fn given(&self, modality: usize) -> impl Iterator<Item = &Tensor<2>> {
        let pieces = self.pieces.iter().filter_map(move |piece| match piece {
            Piece::Latents {
                modality: own,
                latents,
            } if *own == modality => Some(latents),
            _ => None,
        });
        let begun = self
            .begun
            .iter()
            .filter(move |_| self.open == Some(modality));
        pieces.chain(begun)
    }
}

impl<B: CausalBackbone, H: LatentHead> LatentLm<B, H> {
    /// Prompts as positions, `[R, T, D]`, padded in front to one length, and the padding of each.
    pub(super) fn embed_prompts(&self, prompts: &[Prompt]) -> (Tensor<3>, Vec<usize>) {
        let device = self.device();
        let documents: Vec<Document> = prompts.iter().map(|prompt| prompt.document(self)).collect();
        let heard = self.latents.iter().enumerate().map(|(modality, adapter)| {
            let given: Vec<Tensor<2>> = prompts
                .iter()
                .flat_map(|prompt| prompt.given(modality))
                .cloned()
                .collect();
            if given.is_empty() {
                return Tensor::zeros([0, self.head_of(modality).latent_dim()], &device);
            }
            adapter.whiten(Tensor::cat(given, 0))
        });
        let heard: Vec<Tensor<2>> = heard.collect();
        let layout = self.layout(&documents);
        let positions = self.embed(&layout, &heard);
        let [count, width] = positions.dims();
        let longest = layout.lengths.iter().copied().max().unwrap_or(0);
        let padding: Vec<usize> = layout
            .lengths
            .iter()
            .map(|length| longest - length)
            .collect();
        let shape = [prompts.len(), longest, width];
        if count == prompts.len() * longest {
            return (positions.reshape(shape), padding);
        }
        // The last row is the padding.
        let nothing = Tensor::zeros([1, width], &device);
        let mut rows = Vec::with_capacity(prompts.len() * longest);
        let mut next = 0;
        for (length, missing) in layout.lengths.iter().zip(&padding) {
            rows.extend(std::iter::repeat_n(count as i64, *missing));
            rows.extend(next..next + *length as i64);
            next += *length as i64;
        }
        let padded = Tensor::cat(vec![positions, nothing], 0).select(0, indices(&rows, &device));
        (padded.reshape(shape), padding)
    }
}
