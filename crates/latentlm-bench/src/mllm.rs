//! The step of text and pictures.

use burn::tensor::Device;
use latentlm::core::Precision;
use latentlm::{Batch, LatentHead, LatentLmConfig, LmSizes, Modality, RandomStream};
use latentlm_data::PICTURES;
use latentlm_data::sequence::{Document, Segment, SpecialTokens};
use latentlm_pipelines::MllmRecipe;
use latentlm_train::Trainer;

use crate::Unit;
use crate::image::{self, step};
use crate::sizes::MllmSizes;

pub(super) fn config(sizes: MllmSizes) -> LatentLmConfig {
    let lm: LmSizes = image::config(sizes.model).sizes;
    let pictures = Modality::new(sizes.model.latent_dim, sizes.model.tokens);
    LatentLmConfig::mllm(sizes.vocabulary, vec![pictures]).with_sizes(lm)
}

/// Training documents of equal length, in turn `<BOS> text <BOD> picture <EOD> <EOS>`,
/// `<BOS> <BOD> picture <EOD> text <EOS>` and `<BOS> text`.
fn documents(sizes: MllmSizes) -> Vec<Document> {
    let special = SpecialTokens::after(sizes.vocabulary, 1);
    let words = |from: usize, count: usize| -> Vec<u32> {
        let word = |index| ((from * 31 + index * 7) % sizes.vocabulary) as u32;
        (0..count).map(word).collect()
    };
    let text = |tokens: Vec<u32>| Segment::Text {
        tokens,
        learned: true,
    };
    let picture = |learned| Segment::Latents {
        modality: PICTURES,
        frames: sizes.model.tokens,
        open_ended: false,
        said: Vec::new(),
        learned,
    };
    let document = |index: usize| {
        let own = words(index, sizes.text_tokens);
        let segments = match index % 3 {
            0 => vec![
                text([&[special.start], &own[..]].concat()),
                picture(true),
                text(vec![special.stop]),
            ],
            1 => vec![
                text(vec![special.start]),
                picture(false),
                text([&own[..], &[special.stop]].concat()),
            ],
            _ => {
                let length = sizes.text_tokens + sizes.model.tokens + 3;
                vec![text([&[special.start], &words(index, length)[..]].concat())]
            }
        };
        Document { segments }
    };
    (0..3 * sizes.documents).map(document).collect()
}

pub(super) fn lm_step(sizes: MllmSizes, precision: Precision, device: &Device) -> Unit {
    let device = device.clone().autodiff();
    let recipe = MllmRecipe::default();
    let trainer = Trainer::new(config(sizes).init(&device), &recipe.lm_train);
    let mut trainer = trainer.with_precision(precision);
    let mut random = RandomStream::new(0);
    let documents = documents(sizes);
    let drawn = sizes.documents * sizes.model.tokens;
    let latents = random.normal([2 * drawn, sizes.model.latent_dim], &device);
    Box::new(move || {
        let head = trainer.model().head_of(PICTURES);
        let draws = head.draw(sizes.model.draws * drawn, &mut random, &device);
        let batch = Batch::new(documents.clone(), vec![latents.clone()], vec![draws]);
        step(&mut trainer, &batch, recipe.text.weights.loss, &device);
    })
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
}
