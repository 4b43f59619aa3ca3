//! A pack of documents cut for the devices or threads that there are, and what of its losses each
//! part has.

use std::ops::Range;

use latentlm::core::DiffusionDraws;
use latentlm_data::PICTURES;
use latentlm_data::sequence::{ControlTokens, Document, Layout};
use latentlm_pipelines::TokenWeights;

use crate::stage::share_out;

/// Some documents of a pack, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// In their order.
    pub documents: Vec<Document>,
    /// Of each document's learned tokens.
    pub weights: Vec<f64>,
    /// Of the weights of all learned tokens.
    pub of_tokens: f64,
    /// Of all learned latents.
    pub of_latents: f64,
    /// The documents' latents among those of the pack.
    pub frames: Range<usize>,
    /// Their learned latents among those of the pack.
    learned: Range<usize>,
    /// Learned latents of the pack.
    all_learned: usize,
}

impl Share {
    /// Cuts a pack between documents into at most `count` shares of about as many positions each.
    pub fn all(
        documents: &[Document],
        modalities: &[ControlTokens],
        weights: TokenWeights,
        count: usize,
    ) -> Vec<Self> {
        let (all_learned, all_tokens) = measure(documents, modalities, &weights.of(documents));
        let (mut frame, mut learned) = (0, 0);
        let ranges = share_out(documents, count, Document::positions).into_iter();
        let shares = ranges.map(|range| {
            let documents = documents[range].to_vec();
            let weights = weights.of(&documents);
            let frames: usize = documents.iter().map(|d| d.frames(PICTURES)).sum();
            let (latents, tokens) = measure(&documents, modalities, &weights);
            let share = Self {
                of_tokens: match tokens > 0.0 {
                    true => tokens / all_tokens,
                    false => 0.0,
                },
                of_latents: latents as f64 / all_learned.max(1) as f64,
                frames: frame..frame + frames,
                learned: learned..learned + latents,
                all_learned,
                weights,
                documents,
            };
            frame += frames;
            learned += latents;
            share
        });
        shares.collect()
    }

    /// Its rows of the draws of a pack, each of which is for so many learned latents; the first of the
    /// pack, at which nobody looks, where it has none.
    pub fn draws(&self, pack: &DiffusionDraws, latents_a_row: usize) -> DiffusionDraws {
        let row = |latent: usize| latent / latents_a_row;
        let count = row(self.all_learned).max(1);
        match self.learned.is_empty() {
            true => pack.of_latents(0..1, count),
            false => pack.of_latents(row(self.learned.start)..row(self.learned.end), count),
        }
    }
}

/// Learned latents of pictures, and the weights of all learned tokens together.
fn measure(documents: &[Document], modalities: &[ControlTokens], weights: &[f64]) -> (usize, f64) {
    let layout = Layout::new(documents, modalities);
    let tokens: f64 = layout.answer_weights(weights).iter().sum();
    (layout.learned[PICTURES].latents.len(), tokens)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Int, Tensor};
    use latentlm_data::sequence::{Segment, SpecialTokens};

    fn text(tokens: &[u32]) -> Segment {
        Segment::Text {
            tokens: tokens.to_vec(),
            learned: true,
        }
    }

    fn picture(learned: bool) -> Segment {
        Segment::Latents {
            modality: PICTURES,
            frames: 2,
            open_ended: false,
            said: Vec::new(),
            learned,
        }
    }

    /// A picture that is drawn, one that is read, text, another that is drawn. Start is 4, stop 5.
    fn documents() -> Vec<Document> {
        [
            vec![text(&[4, 1]), picture(true), text(&[5])],
            vec![text(&[4]), picture(false), text(&[2, 3, 5])],
            vec![text(&[4, 1, 2, 3, 0, 5])],
            vec![text(&[4, 3]), picture(true), text(&[5])],
        ]
        .map(|segments| Document { segments })
        .to_vec()
    }

    /// Learned tokens are 3 (the word, `<BOD>`, the end), 3, 5 and 3; those of the second document
    /// count fourfold: 3 + 12 of 3 + 12 + 5 + 3.
    #[test]
    fn shares_are_of_weights_and_of_latents() {
        let modalities = SpecialTokens::after(4, 1).modalities;
        let weights = TokenWeights {
            loss: 0.5,
            caption: 4.0,
        };
        let shares = Share::all(&documents(), &modalities, weights, 2);
        let counts: Vec<usize> = shares.iter().map(|share| share.documents.len()).collect();
        assert_eq!(counts, [2, 2], "7 + 8 positions and 6 + 7");
        assert_eq!(shares[0].weights, [1.0, 4.0]);
        let of_tokens = [shares[0].of_tokens, shares[1].of_tokens];
        for (found, expected) in of_tokens.iter().zip([15.0 / 23.0, 8.0 / 23.0]) {
            assert!((found - expected).abs() < 1e-12, "{of_tokens:?}");
        }
        assert_eq!((shares[0].of_latents, shares[1].of_latents), (0.5, 0.5));
        assert_eq!((&shares[0].frames, &shares[1].frames), (&(0..4), &(4..6)));
        assert_eq!(Share::all(&documents(), &modalities, weights, 1).len(), 1);
        let alike = Share::all(&documents(), &modalities, 0.5.into(), 2);
        assert!((alike[0].of_tokens - 6.0 / 14.0).abs() < 1e-12);
    }

    /// Four learned latents, or two pictures, with two draws each.
    #[test]
    fn draws_go_with_what_they_are_for() {
        let device = Device::default();
        let modalities = SpecialTokens::after(4, 1).modalities;
        let shares = Share::all(&documents(), &modalities, 1.0.into(), 4);
        assert_eq!(shares.len(), 4);
        let pack = |rows: i64| DiffusionDraws {
            timesteps: Tensor::<1, Int>::arange(0..rows, &device),
            noise: Tensor::zeros([rows as usize, 1], &device),
        };
        let steps = |share: &Share, rows: i64, latents_a_row: usize| -> Vec<i64> {
            let draws = share.draws(&pack(rows), latents_a_row);
            let data = draws.timesteps.into_data().convert::<i64>();
            data.try_into_vec().unwrap()
        };
        assert_eq!(steps(&shares[0], 8, 1), [0, 1, 4, 5]);
        assert_eq!(steps(&shares[3], 8, 1), [2, 3, 6, 7]);
        assert_eq!(steps(&shares[3], 4, 2), [1, 3]);
        assert_eq!(steps(&shares[2], 8, 1), [0, 4], "nobody looks at them");
    }
}
