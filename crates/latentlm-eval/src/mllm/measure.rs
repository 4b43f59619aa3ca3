//! Accuracy of captions and perplexity of text.

use burn::tensor::{Device, Tensor};
use latentlm::{LatentHead, LatentLm};
use latentlm_data::sequence::Document;
use latentlm_data::{Caption, MllmCorpus, PICTURES};
use latentlm_pipelines::host_values;

use crate::statistics::{counts, share};

/// Positions of documents that are packed into one sequence.
const POSITIONS: usize = 4096;

/// Fraction of generated captions that are exactly right, including the category. `None` if there are no captions.
pub fn exact_captions(said: &[String], captions: &[Caption]) -> Option<f64> {
    let pairs = said.iter().zip(captions);
    share(pairs.map(|(said, caption)| *said == caption.said()))
}

/// Fraction of generated captions with the right category; `None` if the data has no categories.
pub fn categories_named(said: &[String], captions: &[Caption]) -> Option<f64> {
    let pairs = said.iter().zip(captions);
    share(pairs.filter_map(|(said, caption)| {
        let category = caption.category.as_deref()?;
        Some(Caption::category_of(said) == Some(category))
    }))
}

/// Fraction of test captions in the largest category of the training captions: the accuracy of always
/// guessing that category. `None` if there are no categories.
pub fn majority(train: &[Caption], test: &[Caption]) -> Option<f64> {
    let categories = train.iter().filter_map(|caption| caption.category.as_ref());
    let (largest, _) = counts(categories)
        .into_iter()
        .max_by_key(|(_, count)| *count)?;
    let right = test
        .iter()
        .map(|caption| caption.category.as_ref() == Some(largest));
    Some(share(right).unwrap_or_default())
}

/// Cross entropy of every token of the documents of a corpus that are text alone, in nats. `exp` of its mean is the
/// perplexity.
pub fn text_surprise(model: &LatentLm, corpus: &MllmCorpus, device: &Device) -> Vec<f64> {
    let texts = (0..corpus.len()).filter(|&index| corpus.picture(index).is_none());
    let documents = texts.map(|index| corpus.document(index, false));
    let dim = model.head_of(PICTURES).latent_dim();
    let none = [Tensor::zeros([0, dim], device)];
    let mut surprises = Vec::new();
    let mut pack = Vec::new();
    let mut documents = documents.peekable();
    while let Some(document) = documents.next() {
        pack.push(document);
        let filled: usize = pack.iter().map(Document::positions).sum();
        if filled < POSITIONS && documents.peek().is_some() {
            continue;
        }
        let layout = model.layout(&pack);
        if !layout.answers.is_empty() {
            let hidden = model.hidden(&layout, &none);
            let nats = host_values(model.surprise(&layout, hidden));
            surprises.extend(nats.into_iter().map(f64::from));
        }
        pack.clear();
    }
    surprises
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caption(category: Option<&str>, text: &str) -> Caption {
        Caption {
            text: text.into(),
            category: category.map(str::to_owned),
        }
    }

    #[test]
    fn captions_are_compared_whole_and_by_category() {
        let captions = [
            caption(Some("animals"), "dog"),
            caption(Some("animals"), "cat"),
            caption(Some("food"), "bun"),
            caption(None, "7"),
        ];
        let said = ["animals: dog", "animals: dog", "animals: bun", "7"].map(str::to_owned);
        assert_eq!(exact_captions(&said, &captions), Some(0.5));
        assert_eq!(categories_named(&said, &captions), Some(2.0 / 3.0));
        assert_eq!(exact_captions(&[], &captions), None);
        assert_eq!(majority(&captions, &captions[1..3]), Some(0.5));
        assert_eq!(majority(&captions[3..], &captions), None);
    }
}
