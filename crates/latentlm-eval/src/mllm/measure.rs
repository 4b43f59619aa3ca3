//! Accuracy of captions and perplexity of text.

use burn::tensor::{Device, Tensor};
use latentlm::{LatentHead, LatentLm};
use latentlm_data::sequence::Document;
use latentlm_data::{Caption, MllmCorpus, PICTURES};
use latentlm_pipelines::host_values;

use crate::statistics::{counts, share};

/// Positions of documents that are packed into one sequence.
const POSITIONS: usize = 4096;

/// Accuracy of generated captions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CaptionScore {
    /// Fraction of captions that are exactly right, including the category.
    pub exact: f64,
    /// Fraction of captions with the right category; `None` if the data has no categories.
    pub category: Option<f64>,
}

impl CaptionScore {
    /// Compares generated captions with the references.
    pub fn of(said: &[String], captions: &[Caption]) -> Self {
        let pairs = || said.iter().zip(captions);
        let named = pairs().filter_map(|(said, caption)| {
            let category = caption.category.as_deref()?;
            Some(Caption::category_of(said) == Some(category))
        });
        let exact = pairs().map(|(said, caption)| *said == caption.said());
        Self {
            category: share(named),
            exact: share(exact).unwrap_or_default(),
        }
    }
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

/// Perplexity of text under a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Perplexity {
    /// `exp` of the mean cross entropy of a token; `None` if there is no text.
    pub text: Option<f64>,
    /// Mean cross entropy of a byte of text in bits, which does not depend on the vocabulary.
    pub bits_per_byte: Option<f64>,
}

impl Perplexity {
    /// Measures the documents of a corpus that are text alone; `bytes` is their length.
    pub fn measure(model: &LatentLm, corpus: &MllmCorpus, bytes: usize, device: &Device) -> Self {
        let texts = (0..corpus.len()).filter(|&index| corpus.picture(index).is_none());
        let documents = texts.map(|index| corpus.document(index, false));
        let nats = surprises(model, documents.collect(), device);
        let total: f64 = nats.iter().map(|x| f64::from(*x)).sum();
        let some = (!nats.is_empty()).then_some(total);
        Self {
            text: some.map(|total| (total / nats.len() as f64).exp()),
            bits_per_byte: some.map(|total| total / std::f64::consts::LN_2 / bytes as f64),
        }
    }
}

/// Cross entropy of every token of text documents, in nats.
fn surprises(model: &LatentLm, documents: Vec<Document>, device: &Device) -> Vec<f32> {
    let dim = model.head_of(PICTURES).latent_dim();
    let none = [Tensor::zeros([0, dim], device)];
    let mut surprises = Vec::new();
    let mut pack = Vec::new();
    let mut documents = documents.into_iter().peekable();
    while let Some(document) = documents.next() {
        pack.push(document);
        let filled: usize = pack.iter().map(Document::positions).sum();
        if filled < POSITIONS && documents.peek().is_some() {
            continue;
        }
        let layout = model.layout(&pack);
        if !layout.answers.is_empty() {
            let hidden = model.hidden(&layout, &none);
            surprises.extend(host_values(model.surprise(&layout, hidden)));
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
        let score = CaptionScore::of(&said, &captions);
        assert_eq!(score.exact, 0.5);
        assert_eq!(score.category, Some(2.0 / 3.0));
        assert_eq!(majority(&captions, &captions[1..3]), Some(0.5));
        assert_eq!(majority(&captions[3..], &captions), None);
    }
}
