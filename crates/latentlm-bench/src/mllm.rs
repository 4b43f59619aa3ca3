//! The step of text and pictures.

use latentlm::core::Precision;
use latentlm::{LatentLmConfig, Modality};
use latentlm_data::PICTURES;
use latentlm_data::sequence::{Document, Segment, SpecialTokens};
use latentlm_pipelines::MllmRecipe;
use latentlm_train::Trainer;

use crate::Unit;
use crate::image;
use crate::inputs::Inputs;
use crate::sizes::MllmSizes;

pub(super) fn config(sizes: MllmSizes) -> LatentLmConfig {
    let pictures = Modality::new(sizes.model.latent_dim, sizes.model.tokens);
    LatentLmConfig::mllm(sizes.vocabulary, vec![pictures])
        .with_sizes(image::config(sizes.model).sizes)
}

/// Training documents of equal length, in turn `<BOS> text <BOD> picture <EOD> <EOS>`,
/// `<BOS> <BOD> picture <EOD> text <EOS>` and `<BOS> text`.
fn documents(sizes: MllmSizes) -> Vec<Document> {
    let special = SpecialTokens::after(sizes.vocabulary, 1);
    let text = |parts: [&[u32]; 2]| Segment::Text {
        tokens: parts.concat(),
        learned: true,
    };
    let document = |index: usize| {
        let count = match index % 3 {
            2 => sizes.text_tokens + sizes.model.tokens + 3,
            _ => sizes.text_tokens,
        };
        let word = |place| ((index * 31 + place * 7) % sizes.vocabulary) as u32;
        let words: Vec<u32> = (0..count).map(word).collect();
        // The text stands before a picture that is drawn, and after one that is captioned.
        let captioned = index % 3 == 1;
        let (before, after) = words.split_at(if captioned { 0 } else { count });
        let mut segments = vec![text([&[special.start], before])];
        if index % 3 < 2 {
            segments.push(Segment::Latents {
                modality: PICTURES,
                frames: sizes.model.tokens,
                open_ended: false,
                said: Vec::new(),
                learned: !captioned,
            });
            segments.push(text([after, &[special.stop]]));
        }
        Document { segments }
    };
    (0..3 * sizes.documents).map(document).collect()
}

pub(super) fn lm_step(sizes: MllmSizes, precision: Precision, inputs: Inputs) -> Unit {
    let recipe = MllmRecipe::default();
    let mut trainer = Trainer::new(config(sizes).init(&inputs.device), &recipe.lm_train);
    trainer.precision = precision;
    let drawn = sizes.documents * sizes.model.tokens * sizes.model.draws;
    let token_weight = recipe.text.weights.loss;
    image::steps(trainer, documents(sizes), drawn, token_weight, inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_of_one_length() {
        let documents = documents(crate::sizes::MLLM);
        let lengths: Vec<usize> = documents.iter().map(Document::positions).collect();
        assert_eq!(lengths, [28; 36]);
    }

    /// A picture is drawn for a text, the next is captioned, the last document is text.
    #[test]
    fn documents_are_of_three_kinds() {
        let sizes = MllmSizes {
            vocabulary: 100,
            documents: 1,
            text_tokens: 2,
            ..crate::sizes::MLLM
        };
        let special = SpecialTokens::after(100, 1);
        let text = |tokens: &[u32]| Segment::Text {
            tokens: tokens.to_vec(),
            learned: true,
        };
        let picture = |learned| Segment::Latents {
            modality: PICTURES,
            frames: 16,
            open_ended: false,
            said: Vec::new(),
            learned,
        };
        let (start, stop) = (special.start, special.stop);
        let drawn = vec![text(&[start, 0, 7]), picture(true), text(&[stop])];
        let captioned = vec![text(&[start]), picture(false), text(&[31, 38, stop])];
        let mut written = vec![start];
        written.extend((0..21_u32).map(|place| (62 + 7 * place) % 100));
        let expected = [drawn, captioned, vec![text(&written)]];
        assert_eq!(
            documents(sizes),
            expected.map(|segments| Document { segments })
        );
    }
}
