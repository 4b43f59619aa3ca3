//! Likelihood of held-out documents under a model of text and pictures.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use latentlm::RandomStream;
use latentlm_data::sequence::Document;
use latentlm_data::{Caption, PICTURES};
use latentlm_eval::{mean, share};
use latentlm_pipelines::host_values;

use super::documents::Documents;
use super::rival::{Reader, Rival};

/// Documents measured at once.
const BATCH: usize = 64;

impl<M: Rival<Documents>> Reader<'_, M> {
    /// Perplexity of a token of held-out captions, given all held-out pictures, or of held-out text. `None`
    /// if there are no such documents.
    ///
    /// # Shapes
    /// - `pictures`: `[B, C, H, W]`
    pub(crate) fn perplexity(
        &self,
        documents: &Documents,
        pictures: Option<&Tensor<4>>,
    ) -> Option<f64> {
        let corpus = &documents.held_out;
        let own: Vec<usize> = (0..corpus.len())
            .filter(|&i| corpus.picture(i).is_some() == pictures.is_some())
            .collect();
        let mut nats = Vec::new();
        for batch in own.chunks(BATCH) {
            let documents: Vec<Document> = batch
                .iter()
                .map(|&index| corpus.document(index, false))
                .collect();
            let latents = match pictures.zip(corpus.picture(batch[0])) {
                // Documents come in the order of their pictures.
                Some((all, first)) => self.read(all.clone().narrow(0, first, batch.len())),
                None => {
                    let random = &mut RandomStream::new(0);
                    self.coding.draw(&[], random, self.device).remove(PICTURES)
                }
            };
            nats.extend(self.surprise(&documents, latents));
        }
        mean(nats.into_iter().map(f64::from)).map(f64::exp)
    }

    /// Share of the sample's pictures for which their own category is the likeliest beginning of a caption.
    /// `None` if there are no categories.
    pub(crate) fn category_named(&self, documents: &Documents) -> Option<f64> {
        let (sample, beginnings) = (&documents.sample, &documents.beginnings);
        let mut nats: BTreeMap<&str, Vec<f32>> = BTreeMap::new();
        let count = sample.captions.len();
        for start in (0..count).step_by(BATCH) {
            let length = BATCH.min(count - start);
            let pictures = self.read(sample.pictures.clone().narrow(0, start, length));
            for (category, tokens) in beginnings {
                let said = documents.held_out.saying(tokens.clone());
                let surprise = self.surprise(&vec![said; length], pictures.clone());
                let each = surprise.chunks_exact(tokens.len());
                let each = each.map(|own| own.iter().sum::<f32>());
                nats.entry(category).or_default().extend(each);
            }
        }
        share_named(&nats, &sample.captions)
    }

    /// Encodes pictures without noise: `[B, C, H, W]` to `[N, Z]`.
    fn read(&self, pictures: Tensor<4>) -> Tensor<2> {
        self.coding.encode(pictures).flatten(0, 1)
    }

    /// Cross entropy of every learned token, in nats, given encoded pictures `[N, Z]`.
    fn surprise(&self, documents: &[Document], encoded: Tensor<2>) -> Vec<f32> {
        let pictures = self.model.whiten(PICTURES, encoded);
        let surprise = self.model.surprise(documents, pictures);
        surprise.map(host_values).unwrap_or_default()
    }
}

/// Share of captions with a category whose beginning is the likeliest of all. `nats[category][caption]` is the cross
/// entropy of the category's beginning, given the caption's picture.
fn share_named(nats: &BTreeMap<&str, Vec<f32>>, captions: &[Caption]) -> Option<f64> {
    let named = captions.iter().enumerate().filter_map(|(index, caption)| {
        let category = caption.category.as_ref()?;
        let (likeliest, _) = nats
            .iter()
            .min_by(|a, b| a.1[index].total_cmp(&b.1[index]))?;
        Some(likeliest == category)
    });
    share(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::beginnings;
    use latentlm_data::{TextTokenizer, TokenizerKind};

    fn caption(category: Option<&str>) -> Caption {
        Caption {
            text: "thing".into(),
            category: category.map(str::to_owned),
        }
    }

    #[test]
    fn the_likeliest_beginning_is_what_a_model_names() {
        let captions = ["food", "animals", "food"].map(|category| caption(Some(category)));
        let texts: Vec<String> = captions.iter().map(Caption::said).collect();
        let tokenizer = TextTokenizer::train(TokenizerKind::Characters, &texts, 64).unwrap();
        let beginnings = beginnings(&captions, &tokenizer).unwrap();
        let lengths: Vec<(&str, usize)> = beginnings
            .iter()
            .map(|(category, tokens)| (category.as_str(), tokens.len()))
            .collect();
        assert_eq!(lengths, [("animals", 8), ("food", 5)]);
        let asked = [
            caption(Some("animals")),
            caption(Some("food")),
            caption(None),
            caption(Some("food")),
        ];
        let nats = BTreeMap::from([
            ("animals", vec![1.0, 2.0, 0.0, 0.5]),
            ("food", vec![3.0, 1.5, 0.0, 0.75]),
        ]);
        let share = share_named(&nats, &asked);
        assert_eq!(share, Some(2.0 / 3.0), "the last is taken for an animal");
        assert_eq!(share_named(&nats, &asked[2..3]), None);
        assert_eq!(share_named(&BTreeMap::new(), &asked), None);
    }
}
